"""The page at `/`, in a real browser where there is one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from greenroom import CapacityError
from greenroom.worker.http.page import FILES
from tests.waiting import until
from tests.worker.http.http_client import HttpClient
from tests.worker.http.page.browser import Page, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")


# In a browser


async def test_the_page_shows_who_holds_what_as_it_happens(page: Page, web: HttpClient) -> None:
    await page.shows("#health", "ready")
    await page.shows("#limits", "1 of 2 models in memory")
    await page.shows("li[data-model='tone-440']", "pinned")
    await web.manager.load("tone-220", owner="session kitchen")
    await page.shows("li[data-model='tone-220']", "1 reference by session kitchen")
    with pytest.raises(CapacityError):
        await web.manager.load("tone-247", owner="bob")
    await page.shows("#journal .trouble", "every resident is pinned, in use")
    await page.shows("#journal .trouble", "bob")
    await web.manager.release("tone-220", owner="session kitchen")
    await page.shows("li[data-model='tone-220']", "nobody uses it")
    await page.shows("li[data-model='tone-220']", "expires in 9 min")
    await web.manager.load("tone-247")
    await page.shows("#journal .going", "least recently used, its room was needed")
    await page.row("tone-220").wait_for(state="detached")
    assert await page.page.locator("#lanes rect.ready").count() >= 3


async def test_a_sentence_is_spoken_and_its_first_audio_is_timed(
    page: Page, web: HttpClient
) -> None:
    await page.page.get_by_label("Voice", exact=True).select_option("tone-220")
    await page.page.get_by_label("Sentence").fill("Good morning.")
    await page.button("Speak").click()
    await page.shows("#spoken", "all of it after")
    told = await page.page.locator("#spoken").inner_text()
    assert re.search(r"first audio after (\d+ ms|\d+\.\d\d s);", told), told
    assert float(re.findall(r"([\d.]+) s of speech", told)[0]) > 0
    await until(lambda: "tone-220" in web.served.states)
    figures = await web.figures()
    assert figures['first_audio_seconds_count{model="tone-220"}'] == 1


async def test_the_page_needs_nothing_from_elsewhere(page: Page, web: HttpClient) -> None:
    await page.shows("#journal li", "ready")
    assert page.requests
    assert all(url.startswith(web.url) for url in page.requests)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_phone_in_light_and_dark(
    browser: Any, web: HttpClient, scheme: str
) -> None:
    await web.manager.load("tone-220", owner="a caller with a rather long name that goes on")
    phone = {"width": 360, "height": 740}
    async with opened(
        browser, web.url, viewport=phone, color_scheme=scheme, has_touch=True
    ) as page:
        await page.row("tone-220").wait_for()
        await page.find("#lanes svg").wait_for()
        for width in (320, 360, 390, 420):
            await page.page.set_viewport_size({"width": width, "height": 740})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            assert await page.evaluate("document.getElementById('limits').offsetHeight") < 36
        red = "getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"
        assert (int(await page.evaluate(red)) > 128) == (scheme == "light")
        small = """[...document.querySelectorAll('button')].filter(
            (b) => b.offsetParent && b.offsetHeight < 36).map((b) => b.textContent)"""
        assert await page.evaluate(small) == []
        assert await page.faint() == []


# Without one


async def test_the_page_may_load_nothing_from_elsewhere_nor_be_framed(web: HttpClient) -> None:
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


async def test_no_script_makes_html_of_text_nor_a_program() -> None:
    """What comes from a worker is text, whoever named it: it is written as text."""
    makers = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|setHTML|DOMParser|srcdoc"
    programs = r"\beval\(|new Function|javascript:|setTimeout\([\"'`]"
    for script in FILES.glob("*.js"):
        assert not re.findall(f"{makers}|{programs}", script.read_text()), script.name
    assert not re.findall(r"\son\w+=|<script>|<style|style=", (FILES / "index.html").read_text())


async def test_all_that_the_page_refers_to_is_shipped(web: HttpClient) -> None:
    html = (FILES / "index.html").read_text()
    for name in re.findall(r'(?:href|src)="static/([^"]+)"', html):
        assert (FILES / name).is_file(), name
    for script in FILES.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert (FILES / name).is_file(), name
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["greenroom"]
    package = FILES.parents[2]
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert set(FILES.iterdir()) <= shipped
