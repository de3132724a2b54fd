"""The page by keyboard alone, and the page of a worker that wants an API key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from greenroom import Catalog, ModelManager
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.http.page.browser import Page, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEYS = [
    {"name": "ops", "key": "admin-key", "role": "admin"},
    {"name": "caller", "key": "speak-key", "role": "speak"},
]


# The keyboard


async def test_models_are_loaded_pinned_and_explained_with_the_keyboard(
    page: Page, web: HttpClient
) -> None:
    await page.tab_to("load-model")
    await page.keyboard.type("tone-220")
    await page.keyboard.press("Enter")
    await page.row("tone-220").wait_for()
    await page.tab_to("Pin tone-220")
    await page.keyboard.press("Enter")
    await page.shows("li[data-model='tone-220']", "pinned")
    await web.manager.load("tone-220", owner="me")
    await page.shows("li[data-model='tone-220']", "by me")
    assert await page.focused() == "Unpin tone-220"  # it kept the focus
    await page.tab_to("Why is tone-220 in memory?")
    await page.keyboard.press("Enter")
    await page.shows("#why", "held by me")
    await page.keyboard.press("Escape")
    assert await page.focused() == "Why is tone-220 in memory?"


async def test_an_answer_counts_for_the_question_that_is_open(page: Page, web: HttpClient) -> None:
    """A dialog tells its close later: perhaps when it is open again."""
    asked_again = """() => {
        const unload = document.querySelector("[aria-label='Unload tone-440']");
        unload.click();
        document.getElementById("confirm").close();
        unload.click();
    }"""
    await page.evaluate(asked_again)
    await page.button("Unload it").click()
    await page.row("tone-440").wait_for(state="detached")
    unloads = [url for url in page.requests if url.endswith("/api/unload")]
    assert len(unloads) == 1


async def test_unloading_with_the_keyboard_never_loses_the_focus(
    page: Page, web: HttpClient
) -> None:
    await web.manager.load("tone-220", owner="me")
    await page.row("tone-220").wait_for()
    await page.tab_to("Unload tone-440")
    await page.keyboard.press("Enter")
    await page.shows("#confirm", "the worker reports “not ready”")
    await page.keyboard.press("Enter")  # keeps it: that is what the focus is on
    await page.find("#confirm").wait_for(state="hidden")
    assert await page.focused() == "Unload tone-440"
    assert "tone-440" in web.served.states
    await page.keyboard.press("Enter")
    await page.tab_to("Unload it")
    await page.keyboard.press("Enter")
    await page.shows("#health", "not ready")
    await page.row("tone-440").wait_for(state="detached")
    await page.waits_for_focus("Unload tone-220")

    await page.keyboard.press("Enter")
    await page.find("li[data-model='tone-220'] .chip", "draining").wait_for()
    assert await page.focused() == "Unload tone-220"
    assert await page.button("Unload tone-220").get_attribute("aria-disabled") == "true"
    await page.keyboard.press("Enter")
    await page.shows("#trouble", "tone-220 is draining")
    await web.manager.release("tone-220", owner="me")
    await page.row("tone-220").wait_for(state="detached")
    await page.waits_for_focus("load-model")
    await page.keyboard.type("tone-440")
    await page.keyboard.press("Enter")
    await page.shows("#health", "ready")


async def test_the_name_of_no_model_stays_and_the_near_ones_are_offered(
    page: Page, web: HttpClient
) -> None:
    field = page.page.get_by_label("Load a model")
    await field.fill("tone-221")
    await field.press("Enter")
    await page.shows("#load-said", "No model is called “tone-221”. Did you mean")
    assert await field.input_value() == "tone-221"
    assert await page.find("#trouble").is_hidden()
    assert "greenroom ls" not in await page.find("#load-said").inner_text()
    await page.tab_to("tone-220")
    await page.keyboard.press("Enter")
    await page.row("tone-220").wait_for()
    await page.waits_for_focus("load-model")
    await until(lambda: "tone-220" in web.served.states)
    await field.fill("something else")
    await field.press("Enter")
    await page.shows("#load-said", "the field lists those that there are")


# An API key


@pytest_asyncio.fixture(loop_scope="session")
async def locked(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    """A worker that wants a key."""
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager, api_keys=KEYS) as web:
        yield web


async def test_with_keys_the_page_asks_for_one_and_goes_on(
    browser: Any, locked: HttpClient
) -> None:
    async with opened(browser, locked.url) as page:
        await page.shows("#key-problem", "This worker wants an API key")
        await page.page.locator("#key").fill("pasted “key”")
        await page.keyboard.press("Enter")
        await page.shows("#key-problem", "of ASCII only")
        await page.page.locator("#key").fill("some-other-key")
        await page.keyboard.press("Enter")
        await page.shows("#key-problem", "The worker does not know this API key")
        await page.page.locator("#key").fill("admin-key")
        await page.button("Use it").click()
        await page.row("tone-440").wait_for()
        await page.button("Unpin tone-440").click()
        await page.button("Pin tone-440").wait_for()


async def test_a_key_is_asked_for_once_and_then_when_its_button_is_pressed(
    browser: Any, locked: HttpClient
) -> None:
    async with opened(browser, locked.url) as page:
        await page.find("#key-dialog[open]").wait_for()
        await page.keyboard.press("Escape")
        await page.page.get_by_label("Load a model").fill("tone-220")
        async with page.page.expect_response("**/api/load"):
            await page.button("Load").click()
        await page.shows("#trouble", "this worker wants an API key")
        assert await page.find("#key-dialog").is_hidden()
        await page.button("API key").click()
        await page.page.locator("#key").fill("speak-key")
        await page.keyboard.press("Enter")
        await page.row("tone-440").wait_for()
        await page.button("Load").click()
        await page.shows("#trouble", "this needs a key with the role admin")
        assert await page.find("#key-dialog").is_hidden()
