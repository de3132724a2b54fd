"""The page at `/`, in a real browser where there is one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from browsing import browser
from serving import until
from web import Web, web_serving

from greenroom import CapacityError, Catalog, ModelManager
from greenroom.worker.http.page import FILES

KEYS = [{"name": "ops", "key": "admin-key", "role": "admin"}]


@pytest.fixture
async def web(tone_catalog: Catalog) -> AsyncIterator[Web]:
    manager = ModelManager(
        catalog=tone_catalog,
        default_model_id="tone-440",
        resident_cap=2,
        cap_policy="hard",
        acquire_timeout_ms=100,
        min_residency_ms=0,
    )
    async with web_serving(manager) as made:
        yield made


class Page:
    """The page in a browser, and what went wrong in it."""

    def __init__(self, page: Any, web: Web) -> None:
        self.page = page
        self.web = web
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.set_default_timeout(10_000)

    def _said(self, message: Any) -> None:
        if message.type == "error" and "status of 40" not in message.text:
            self.problems.append(message.text)

    async def open(self) -> None:
        await self.page.goto(f"{self.web.url}/")

    def row(self, model: str) -> Any:
        return self.page.locator(f"li[data-model='{model}']")

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    async def shows(self, selector: str, text: str) -> None:
        """Wait until a part of the page shows a text."""
        await self.page.locator(selector, has_text=text).first.wait_for()


@pytest.fixture
async def page(web: Web) -> AsyncIterator[Page]:
    async with browser() as started:
        made = Page(await started.new_page(), web)
        await made.open()
        await made.row("tone-440").wait_for()
        yield made
        assert made.problems == []


# In a browser


@pytest.mark.timeout(120)
async def test_the_page_shows_who_holds_what_as_it_happens(page: Page) -> None:
    await page.shows("#health", "ready")
    await page.shows("#limits", "1 of 2 models in memory")
    await page.shows("li[data-model='tone-440']", "pinned")
    await page.web.manager.load("tone-220", owner="session kitchen")
    await page.shows("li[data-model='tone-220']", "1 reference by session kitchen")
    with pytest.raises(CapacityError):
        await page.web.manager.load("tone-247", owner="bob")
    await page.shows("#journal .trouble", "every resident is pinned, in use")
    await page.shows("#journal .trouble", "bob")
    await page.web.manager.release("tone-220", owner="session kitchen")
    await page.shows("li[data-model='tone-220']", "nobody uses it")
    await page.shows("li[data-model='tone-220']", "expires in 9 min")
    await page.web.manager.load("tone-247")
    await page.shows("#journal .going", "least recently used, its room was needed")
    await page.row("tone-220").wait_for(state="detached")
    assert await page.page.locator("#lanes rect.ready").count() >= 3


@pytest.mark.timeout(120)
async def test_models_are_loaded_pinned_explained_and_unloaded_with_the_keyboard(
    page: Page,
) -> None:
    await page.page.get_by_label("Load a model").focus()
    await page.page.keyboard.type("tone-220")
    await page.page.keyboard.press("Enter")
    await page.row("tone-220").wait_for()
    pin = page.button("Pin tone-220")
    await pin.focus()
    await page.page.keyboard.press("Enter")
    await page.shows("li[data-model='tone-220']", "pinned")
    await page.web.manager.load("tone-220", owner="me")
    await page.shows("li[data-model='tone-220']", "by me")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert await page.page.evaluate(focused) == "Unpin tone-220"  # it kept the focus
    await page.page.keyboard.press("Tab")
    await page.page.keyboard.press("Tab")
    await page.page.keyboard.press("Enter")
    await page.shows("#why", "held by me")
    await page.page.keyboard.press("Escape")
    await page.web.manager.release("tone-220", owner="me")
    await page.button("Unload tone-220").click()
    await page.row("tone-220").wait_for(state="detached")


@pytest.mark.timeout(120)
async def test_a_sentence_is_spoken_and_its_first_audio_is_timed(page: Page) -> None:
    await page.page.get_by_label("Voice").select_option("tone-220")
    await page.page.get_by_label("Sentence").fill("Good morning.")
    await page.button("Speak").click()
    await page.shows("#spoken", "all of it after")
    told = await page.page.locator("#spoken").inner_text()
    assert re.search(r"first audio after \d+ ms", told), told
    assert float(re.findall(r"([\d.]+) s of speech", told)[0]) > 0
    await until(lambda: "tone-220" in page.web.served.states)
    figures = await page.web.figures()
    assert figures['first_audio_seconds_count{model="tone-220"}'] == 1


@pytest.mark.timeout(120)
async def test_what_is_refused_is_said_in_words(page: Page) -> None:
    await page.page.get_by_label("Load a model").fill("tone-221")
    await page.button("Load").click()
    await page.shows("#trouble", "did you mean tone-220")


@pytest.mark.timeout(120)
async def test_the_page_needs_nothing_from_elsewhere(page: Page) -> None:
    await page.shows("#journal li", "ready")
    assert page.requests
    assert all(url.startswith(page.web.url) for url in page.requests)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_phone_in_light_and_dark(web: Web, scheme: str) -> None:
    await web.manager.load("tone-220", owner="a caller with a rather long name that goes on")
    async with browser() as started:
        phone = {"width": 360, "height": 740}
        context = await started.new_context(viewport=phone, color_scheme=scheme, has_touch=True)
        page = Page(await context.new_page(), web)
        await page.open()
        await page.row("tone-220").wait_for()
        await page.page.locator("#lanes svg").wait_for()
        width = await page.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360
        red = "getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"
        assert (int(await page.page.evaluate(red)) > 128) == (scheme == "light")
        small = """[...document.querySelectorAll('button')].filter(
            (b) => b.offsetParent && b.offsetHeight < 36).map((b) => b.textContent)"""
        assert await page.page.evaluate(small) == []
        assert page.problems == []


@pytest.mark.timeout(120)
async def test_with_keys_the_page_asks_for_one_and_goes_on(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with web_serving(manager, api_keys=KEYS) as web, browser() as started:
        page = Page(await started.new_page(), web)
        await page.open()
        await page.page.locator("#key").fill("admin-key")
        await page.button("Use it").click()
        await page.row("tone-440").wait_for()
        await page.button("Unpin tone-440").click()
        await page.button("Pin tone-440").wait_for()
        assert page.problems == []


# Without one


async def test_the_page_may_load_nothing_from_elsewhere_nor_be_framed(web: Web) -> None:
    for path in ("/", "/static/main.js", "/static/style.css"):
        answer = await web.client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "javascript" in (await web.client.get("/static/main.js")).headers["content-type"]
    for path in ("/static/../page.py", "/static/%2e%2e/page.py", "/static/nothing.js"):
        assert (await web.client.get(path)).status_code == 404, path


async def test_all_that_the_page_refers_to_is_shipped(web: Web) -> None:
    html = (FILES / "index.html").read_text()
    for name in re.findall(r'(?:href|src)="static/([^"]+)"', html):
        assert (FILES / name).is_file(), name
    for script in FILES.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert (FILES / name).is_file(), name
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["greenroom"]
    package = FILES.parents[2]
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert set(FILES.iterdir()) <= shipped
