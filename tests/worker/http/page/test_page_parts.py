"""The parts of the page: holders, memory, the time line, and how they share the room."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from greenroom import ModelLoadError, ModelManager
from greenroom.memory.monitor import MemoryMonitor
from greenroom.memory.usage import MIB, ProcessUsage
from greenroom.testing import Stage
from tests.overload import cost_as_much_as_there_is, endless, host_of
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.http.page.browser import Page, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = "customer-acme-german-female-narrator-high-quality-v2"
SIZES = {"amy": 400, "joe": 100, "kim": 40, LONG: 1}


@pytest.fixture
def stage() -> Stage:
    """Models of 400, 100, 40 and 1 MB, and one that cannot be loaded."""
    stage = Stage(*SIZES, "broken", footprint_mb=40)
    for name, size in SIZES.items():
        stage[name].footprint = int(size * MIB)
    stage["broken"].load.error = OSError("the file is cut short")
    return stage


@pytest_asyncio.fixture(loop_scope="session")
async def staged(stage: Stage) -> AsyncIterator[HttpClient]:
    """A worker with those, and a budget of 1000 MB."""
    manager = ModelManager(
        catalog=stage.catalog, default_model_id="joe", resident_cap=8, memory_budget_mb=1000
    )
    async with running_http_worker(manager) as web:
        try:
            yield web
        finally:
            stage.open_all()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Any, staged: HttpClient) -> AsyncIterator[Page]:
    async with opened(browser, staged.url) as made:
        await made.row("joe").wait_for()
        yield made


async def test_of_many_holders_three_are_shown_and_all_can_be_read(
    page: Page, staged: HttpClient
) -> None:
    for port in range(40):
        await staged.manager.load("amy", owner=f"http call of 127.0.0.1:{40_000 + port}")
    await page.shows("li[data-model=amy]", "40 references by http call of 127.0.0.1:40000")
    shown = page.row("amy").locator(".holders > span")
    assert (await shown.inner_text()).count("http call of") == 3
    await page.find("li[data-model=amy] summary", "and 37 more").click()
    await page.shows("li[data-model=amy] details[open] li", "http call of 127.0.0.1:40039")
    await staged.manager.release("amy", owner="http call of 127.0.0.1:40000")
    await page.shows("li[data-model=amy] details[open] summary", "and 36 more")  # it stayed open


async def test_the_holders_of_one_key_are_shown_together(page: Page, staged: HttpClient) -> None:
    for port in range(4):
        await staged.manager.load("amy", owner=f"http call of kitchen at 127.0.0.1:{port}")
    await staged.manager.load("amy", owner="session 4711 of kitchen")
    await staged.manager.load("amy", owner="call of hall at ipv4:127.0.0.1:4444")
    await page.shows(
        "li[data-model=amy]",
        "6 references by kitchen (4 × http call, 1 × session), call of hall at ipv4",
    )
    await page.find("li[data-model=amy] summary", "all 6").click()
    assert await page.row("amy").locator("details li").count() == 6


async def test_memory_is_shown_against_the_budget_and_named(
    page: Page, stage: Stage, staged: HttpClient
) -> None:
    await staged.manager.load("amy")
    await staged.manager.load(LONG)
    stage["kim"].load.hold()
    loading = asyncio.create_task(staged.manager.load("kim"))
    await page.shows("li[data-model=kim]", "loading")
    await page.shows("li[data-model=amy] .facts", "400 MB, 40 % of the budget")
    await page.shows(f"li[data-model={LONG}] .facts", "under 1 % of the budget")
    share = """(id) => {
      const bar = document.querySelector(`li[data-model='${id}'] .bar`);
      return bar.firstChild.clientWidth / bar.clientWidth;
    }"""
    assert abs(await page.page.evaluate(share, "amy") - 0.4) < 0.01
    assert abs(await page.page.evaluate(share, "joe") - 0.1) < 0.01
    assert await page.page.evaluate(share, LONG) > 0.004  # it can be seen
    await page.find("li[data-model=kim] .bar > .coming").wait_for()
    legend = await page.page.locator("#memory .legend li").all_inner_texts()
    named = ["amy 400 MB", "joe 100 MB", "kim 40 MB", f"{LONG} 1.0 MB", "free "]
    assert all(one.startswith(name) for one, name in zip(legend, named, strict=True)), legend
    stage["kim"].load.open()
    await loading


async def test_what_models_share_is_an_account_of_its_own(
    page: Page, stage: Stage, staged: HttpClient
) -> None:
    for name in ("amy", "kim", LONG):
        stage[name].shared = ("graph 12ab", 64 * MIB)
        await staged.manager.load(name)
    await page.shows("#memory .legend", "graph 12ab of 3 models 64 MB")
    legend = await page.page.locator("#memory .legend li").all_inner_texts()
    named = ["amy 400 MB", "joe 100 MB", "graph 12ab of 3 models 64 MB", "kim 40 MB"]
    assert legend[:4] == named
    assert await page.page.locator("#memory .bar > .shared").count() == 1
    await page.shows("#memory p", "605 MB of 1000 MB booked")  # all of the bar
    carries = "464 MB, 46 % of the budget, of it 64 MB for graph 12ab, shared with 2 others"
    await page.shows("li[data-model=amy] .facts", carries)
    await page.shows("li[data-model=kim] .facts", "beside graph 12ab, booked with amy")
    await page.button("Why is kim in memory?").click()
    await page.shows("#why", "graph 12ab: 64 MB, booked with amy, shared by kim")
    await page.keyboard.press("Escape")
    await staged.manager.release("amy")
    await staged.manager.unload("amy", drain=True)
    await page.shows("li[data-model=kim] .facts", "104 MB, 10 % of the budget, of it 64 MB")
    await page.shows("#memory .legend", "graph 12ab of 2 models 64 MB")


async def test_the_process_is_told_as_metrics_and_ps_tell_it(
    browser: Any, staged: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryMonitor, "whole", ProcessUsage(30 * MIB, 20 * MIB, 40 * MIB))
    async with opened(browser, staged.url) as page:
        said = "The worker’s process: 40 MB proportional, 30 MB anonymous, 20 MB of mapped files"
        await page.shows("#process", said)
        monkeypatch.setattr(MemoryMonitor, "whole", ProcessUsage(50 * MIB, 20 * MIB, None))
        history = staged.served.worker.synthesis.history
        history.end_step(staged.manager.statistics(), cores_busy=0.0)
        await page.shows("#process", "process: 50 MB anonymous, 20 MB of mapped files, each once")


async def test_the_time_line_can_be_read_without_guessing(page: Page, staged: HttpClient) -> None:
    await staged.manager.load(LONG)
    with contextlib.suppress(ModelLoadError):
        await staged.manager.load("broken")
    await page.find("#lanes .mark").wait_for()
    legend = await page.page.locator("#chart > .legend li").all_inner_texts()
    assert legend == ["loading", "in memory", "leaving", "refused, failed or silent"]
    for width in (1280, 390):
        await page.page.set_viewport_size({"width": width, "height": 900})
        fits = "() => document.querySelector('#lanes svg').viewBox.baseVal.width <= innerWidth"
        await page.until(fits)
        overlap = await page.evaluate("""(() => {
          const grid = Math.min(...[...document.querySelectorAll("#lanes .grid")]
            .map((line) => line.getBoundingClientRect().left));
          return [...document.querySelectorAll("#lanes .name")]
            .filter((name) => name.getBoundingClientRect().right > grid).length;
        })()""")
        assert overlap == 0
    ticks = """async (span) => {
      const { drawLanes } = await import("./static/lanes.js");
      const now = Date.now();
      drawLanes([{ kind: "ready", model: "joe", time: now / 1000 - span }], now);
      return [...document.querySelectorAll("#lanes text:not(.name)")].map((t) => t.textContent);
    }"""
    for span in (1, 45, 79, 140, 333, 600):
        labels = await page.page.evaluate(ticks, span)
        assert len(labels) == len(set(labels)) >= 2, labels


async def test_the_time_line_fits_from_its_first_drawing_on(
    browser: Any, staged: HttpClient
) -> None:
    async with await browser.new_context() as context:
        page = Page(await context.new_page(), staged.url)
        await page.page.add_init_script("""
            new MutationObserver(() => {
              window.first ??= document.querySelector("#lanes svg")?.viewBox.baseVal.width;
            }).observe(document, { childList: true, subtree: true });
        """)
        await page.open()
        await page.until("() => window.first")
        assert await page.evaluate("first === document.querySelector('#lanes').clientWidth")


async def test_silences_in_speech_and_the_use_of_the_cores_are_shown(
    page: Page, staged: HttpClient
) -> None:
    await page.shows("#limits", "1 of 8 models in memory; 0 % of the cores in use")
    assert "gap" not in await page.row("joe").locator(".facts").inner_text()
    adapter = await staged.manager.load("joe")
    host = host_of(adapter)
    for seconds in (0.25, 1.0):
        host.count_gap(seconds)
    host.fell_silent(1.0, 0.0)
    await page.shows("li[data-model=joe] .facts", "2 gaps in speech, 1.25 s in all")
    await page.shows("#journal li.trouble", "a listener heard nothing for 1.00 s")
    await page.find("#lanes .mark").wait_for()
    first = adapter.synthesize_stream(endless())
    await anext(first)
    cost_as_much_as_there_is(adapter)
    second = adapter.synthesize_stream("Me too.")
    waiting = asyncio.ensure_future(anext(second))
    await page.shows("#limits", re.compile(r"; [89]\d\s% of the cores in use, 1 stream waiting$"))
    await first.aclose()
    await waiting
    await second.aclose()


async def test_why_says_the_name_once(page: Page) -> None:
    await page.button("Why is joe in memory?").click()
    await page.shows("#why", "ready and pinned")
    assert (await page.find("#why").inner_text()).count("joe") == 1


async def test_speaking_and_loading_are_never_below_a_long_list(
    browser: Any, staged: HttpClient
) -> None:
    for name in SIZES:
        await staged.manager.load(name)
    below = """(one, other) => document.querySelector(one).getBoundingClientRect().top
        - document.querySelector(other).getBoundingClientRect().bottom"""
    below = f"([one, other]) => ({below})(one, other)"
    async with opened(browser, staged.url, viewport={"width": 390, "height": 844}) as page:
        await page.row(LONG).wait_for()
        assert await page.page.evaluate(below, ["#residents", "#load-form"]) >= 0
        assert await page.page.evaluate(below, ["#residents-card", "#speak-card"]) >= 0
        await page.page.set_viewport_size({"width": 1000, "height": 500})
        await page.row(LONG).scroll_into_view_if_needed()
        top = "document.querySelector('#speak-text').getBoundingClientRect().top"
        assert 0 < await page.evaluate(top) < 500


async def test_screen_readers_are_told_only_what_is_new(page: Page, staged: HttpClient) -> None:
    await page.shows("#announced", "The worker is ready.")
    await page.evaluate("""(() => {
      window.told = [];
      const look = () => told.push(document.querySelector("#announced").textContent);
      const every = { childList: true, characterData: true, subtree: true };
      new MutationObserver(look).observe(document.querySelector("#announced"), every);
    })()""")
    await staged.manager.load("amy", owner="me")
    await page.shows("li[data-model=amy]", "by me")
    await page.button("Speak").click()
    await page.shows("#spoken", "all of it after")
    await page.until("() => told.length > 0")
    told = await page.evaluate("told")
    assert len(told) == 1, told
    assert told[0].startswith("first audio after")
