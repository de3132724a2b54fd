"""The page tells what went on and goes on: figures, refusals, streams, the time line's past."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from greenroom import CapacityError, Catalog, ModelManager
from greenroom.worker import history
from greenroom.worker.http import events
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, metered_http_worker, running_http_worker
from tests.worker.http.page.browser import Page, opened
from tests.worker.worker_client import Meter, metered

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEYS = [{"name": "ops", "key": "admin-key", "role": "admin"}]
ASKED = {"model": "a", "voice": "a", "input": "Hello.", "response_format": "pcm"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers look often, and steps end when a test says so."""
    monkeypatch.setattr(events, "_PERIOD_S", 0.1)
    monkeypatch.setattr(history, "STEP_S", 1e6)


@pytest_asyncio.fixture(loop_scope="session")
async def speaking() -> AsyncIterator[tuple[HttpClient, Meter]]:
    """A worker whose model `a` speaks what its meter allows."""
    catalog, meters = metered("a", "b")
    manager = ModelManager(
        catalog=catalog,
        default_model_id="a",
        resident_cap=1,
        cap_policy="hard",
        acquire_timeout_ms=100,
    )
    async with metered_http_worker(manager, meters.values()) as web:
        yield web, meters["a"]


def end_step(web: HttpClient) -> None:
    web.served.worker.synthesis.history.end_step(web.manager.statistics(), cores_busy=0.25)


def figure(page: Page, title: str) -> Any:
    return page.page.locator("#figures figure", has_text=title)


async def test_a_page_that_opens_late_shows_what_was_before(
    browser: Any, speaking: tuple[HttpClient, Meter]
) -> None:
    web, meter = speaking
    meter.free.set()
    assert (await web.post("/v1/audio/speech", ASKED)).status_code == 200
    end_step(web)
    with pytest.raises(CapacityError):
        await web.manager.load("b", owner="bob")
    end_step(web)
    end_step(web)
    async with opened(browser, web.url) as page:
        await page.find("#figures svg").wait_for()
        assert await page.page.locator("#figures figure").count() == 6
        assert await figure(page, "Streams at once").locator("polyline").count() == 1
        first = figure(page, "First audio")
        assert re.search(r"half within (\d+ ms|\d+\.\d\d s)", await first.inner_text())
        assert await first.locator("polyline.green, polyline.blue").count() == 2
        assert "in all" in await figure(page, "Gaps in speech").inner_text()
        refused = figure(page, "Refused")
        assert await refused.locator("figcaption b").inner_text() == "1"
        assert await refused.locator("rect.red").count() == 1
        assert await figure(page, "Cores busy").locator("figcaption b").inner_text() == "0.25"
        memory = figure(page, "Memory").locator("figcaption b")
        assert re.fullmatch(r"[\d.]+ [MG]B", await memory.inner_text())
        told = await figure(page, "Refused").locator("svg").get_attribute("aria-label")
        assert told == "Refused over ten minutes; refused: 1 in all"
        end_step(web)
        await page.until("() => document.querySelector('#figures polyline').points.length === 4")


async def test_pointing_at_a_figure_shows_all_of_that_moment(
    browser: Any, speaking: tuple[HttpClient, Meter]
) -> None:
    web, _ = speaking
    end_step(web)
    async with opened(browser, web.url) as page:
        await page.find("#figures svg").wait_for()
        assert await figure(page, "Streams at once").locator(".when").inner_text() == ""
        await figure(page, "Memory").locator(".drawing").hover()
        await page.until(
            "() => /^[\\d:]{8}$/.test(document.querySelector('#figures .when').textContent)"
        )
        times = await page.page.locator("#figures .when").all_inner_texts()
        assert len(set(times)) == 1
        assert await page.page.locator("#figures .chosen").count() == 6
        await page.page.mouse.move(1, 1)
        await page.find("#figures .chosen").wait_for(state="detached")


async def test_refusals_stand_out_above_all_else_and_say_why(
    browser: Any, speaking: tuple[HttpClient, Meter]
) -> None:
    web, _ = speaking
    async with opened(browser, web.url) as page:
        await page.row("a").wait_for()
        assert await page.find("#refused-card").is_hidden()
        with pytest.raises(CapacityError):
            await web.manager.load("b", owner="bob")
        await page.shows("#refused-title", "1 request refused in the last ten minutes")
        await page.shows("#refused-last", "b: every resident is pinned")
        await page.shows("#refused-last", "(bob)")
        web.served.worker.synthesis.metrics.refused("streams")
        end_step(web)
        await page.shows("#refused-title", "2 requests refused in the last ten minutes")
        await page.shows("#refused-why", "1 for too many streams")
        await page.shows("#refused-why", "1 for want of room")
        first = "document.querySelector('main > section:not([hidden])').id"
        assert await page.evaluate(first) == "refused-card"
        assert await page.faint() == []


async def test_streams_are_shown_with_who_and_how_far_and_can_be_ended(browser: Any) -> None:
    catalog, meters = metered("a", "b")
    manager = ModelManager(catalog=catalog, default_model_id="a")
    async with running_http_worker(manager) as web, opened(browser, web.url) as page:
        await page.shows("#streams-said", "Nothing is being said.")
        first = asyncio.create_task(web.post("/v1/audio/speech", ASKED))
        await page.shows(".stream", "beginning")
        await page.shows(".stream .holders", "http call of 127.0.0.1")
        meters["a"].allow(3)
        await page.shows(".stream .facts", re.compile(r"first audio after .*taken 0\.\d s"))
        second = asyncio.create_task(web.post("/v1/audio/speech", {**ASKED, "voice": "b"}))
        await page.find("[data-stream='2']").wait_for()
        await page.button("End stream 1 of a").press("Enter")
        meters["a"].free.set()
        await page.waits_for_focus("End stream 2 of b")  # the focus went on to the next
        await asyncio.wait([first])
        assert isinstance(first.exception(), httpx.RemoteProtocolError)  # it was cut off
        await page.button("End stream 2 of b").press("Enter")
        meters["b"].free.set()
        await page.shows("#streams-said", "Nothing is being said.")
        await page.waits_for_focus("streams-title")
        assert (await second).json()["error"]["code"] == "stream_ended"


async def test_what_callers_call_themselves_is_text_on_the_page(browser: Any) -> None:
    named = '<img src="x" onerror="window.ran = 1"><b>bold</b>'
    catalog, meters = metered("a", "b")
    manager = ModelManager(
        catalog=catalog,
        default_model_id="a",
        resident_cap=1,
        cap_policy="hard",
        acquire_timeout_ms=100,
    )
    async with running_http_worker(manager) as web:
        await web.served.start(named, "a")
        call = web.served.call("Hello.", session_id=named)
        meters["a"].allow(2)
        await anext(aiter(call))
        with pytest.raises(CapacityError):
            await manager.load("b", owner=named)
        async with opened(browser, web.url) as page:
            await page.shows(".stream .holders", f"session {named}")
            await page.shows("#refused-last", named)
            await page.shows("li[data-model=a] .holders", named)
            await page.shows("#journal .reason", named)
            assert await page.page.locator("main :is(img, b:text('bold'))").count() == 0
            assert await page.evaluate("window.ran") is None
        call.cancel()
        meters["a"].free.set()


async def test_ending_a_stream_needs_the_key_of_an_administrator(browser: Any) -> None:
    catalog, meters = metered("a")
    manager = ModelManager(catalog=catalog, default_model_id="a")
    keys = [*KEYS, {"name": "app", "key": "speak-key", "role": "speak"}]
    async with running_http_worker(manager, api_keys=keys) as web:
        header = {"Authorization": "Bearer speak-key"}
        asked = asyncio.create_task(web.post("/v1/audio/speech", ASKED, headers=header))
        await until(web.served.worker.synthesis.running)
        async with opened(browser, web.url) as page:
            await page.find("#key-dialog[open]").wait_for()
            await page.page.locator("#key").fill("speak-key")
            await page.keyboard.press("Enter")
            await page.button("End stream 1 of a").click()
            await page.shows("#trouble", "this needs a key with the role admin")
        meters["a"].free.set()
        assert (await asked).status_code == 200


async def test_the_time_line_knows_what_was_in_memory_before_its_first_event(page: Page) -> None:
    drawn = """async ([entries, present]) => {
      const { drawLanes } = await import("./static/lanes.js");
      const now = Date.now() / 1000;
      const at = (list) => list.map((each) => ({ reason: "", ...each, time: now - each.ago }));
      const models = present.map((each) => ({ ...each, since: now - each.age }));
      drawLanes(at(entries), now * 1000, false, models);
      const grid = [...document.querySelectorAll("#lanes .grid")];
      const left = Math.min(...grid.map((line) => line.x1.baseVal.value));
      return [...document.querySelectorAll("#lanes rect")].map((rect) => ({
        phase: rect.className.baseVal,
        title: rect.textContent,
        whole: rect.x.baseVal.value < left + 2,
      }));
    }"""
    entries = [
        {"kind": "refused", "model": "late", "ago": 60},
        {"kind": "unloading", "model": "leaver", "ago": 30},
        {"kind": "gone", "model": "leaver", "ago": 29},
        {"kind": "pinned", "model": "quiet", "ago": 20},
        {"kind": "loading", "model": "comer", "ago": 10},
        {"kind": "ready", "model": "comer", "ago": 9},
    ]
    present = [
        {"model": "quiet", "state": "ready", "age": 5000},
        {"model": "comer", "state": "ready", "age": 9},
    ]
    lanes = await page.page.evaluate(drawn, [entries, present])
    told = [(lane["title"], lane["phase"], lane["whole"]) for lane in lanes]
    assert ("quiet ready", "ready", True) in told  # no entry tells of its load
    assert ("leaver ready", "ready", True) in told
    assert ("leaver unloading", "going", False) in told
    assert ("comer loading", "coming", False) in told
    assert not [title for title, *_ in told if title.startswith("late")]


async def test_the_page_fits_with_everything_on_it(
    browser: Any, speaking: tuple[HttpClient, Meter], tone_catalog: Catalog
) -> None:
    web, meter = speaking
    meter.allow(2)
    for _ in range(3):
        end_step(web)
    with pytest.raises(CapacityError):
        await web.manager.load("b", owner="a caller with a rather long name that goes on")
    asked = asyncio.create_task(web.post("/v1/audio/speech", ASKED))
    async with opened(browser, web.url) as page:
        await page.find(".stream").wait_for()
        await page.find("#figures svg").wait_for()
        await page.find("#refused-card").wait_for()
        await page.find("#snippets summary").click()
        for width in (320, 390, 820, 1440):
            await page.page.set_viewport_size({"width": width, "height": 900})
            wide = "document.documentElement.scrollWidth"
            assert await page.evaluate(wide) <= width, width
            inside = """[...document.querySelectorAll("#figures svg")].every((svg) =>
                svg.getBoundingClientRect().width <= svg.parentElement.clientWidth + 1)"""
            assert await page.evaluate(inside)
        assert await page.faint() == []
        small = """[...document.querySelectorAll('button')].filter(
            (b) => b.offsetParent && b.offsetHeight < 36).map((b) => b.textContent)"""
        assert await page.evaluate(small) == []
    meter.free.set()
    await asked
