"""The page's table of all voices, its box to speak, and what it pulls for administrators."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.config.schema import load_config
from greenroom.worker.app import Worker
from tests.speech.telling_engine import TellingAdapter
from tests.voices.collection import KEYS, Collection, path_of, serving, stall
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.http.page.browser import Page, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

LANGUAGES = ("en", "de", "pt")


@pytest_asyncio.fixture(loop_scope="session")
async def hundred(tmp_path: Path) -> AsyncIterator[HttpClient]:
    """A worker with 120 voices of three languages."""
    file = tmp_path / "voice"
    file.write_bytes(b"x" * 3_000_000)
    specs = [
        ModelSpec(f"voice-{n:03}", ToneTTSAdapter, file, languages=(LANGUAGES[n % 3],))
        for n in range(120)
    ]
    manager = ModelManager(
        catalog=Catalog(specs), default_model_id="voice-000", resident_cap=4, min_residency_ms=0
    )
    async with running_http_worker(manager) as web:
        yield web


def voice(page: Page, model: str) -> Any:
    return page.page.locator(f"tr[data-voice='{model}']")


async def test_every_voice_is_in_a_table_that_can_be_searched(
    browser: Any, hundred: HttpClient
) -> None:
    async with opened(browser, hundred.url) as page:
        await page.shows("#voices-count", "120")
        assert await page.page.locator("#voices tr").count() == 100
        await page.button("Show 20 more of 20").click()
        await page.find("tr[data-voice='voice-119']").wait_for()
        row = await voice(page, "voice-001").inner_text()
        assert re.sub(r"\s+", " ", row).startswith("voice-001 de ToneTTSAdapter 2.9 MB –")
        await voice(page, "voice-000").get_by_text("in memory").wait_for()
        await voice(page, "voice-000").get_by_text("default").wait_for()
        await page.page.get_by_label("Search", exact=True).fill("VOICE-01 de")
        await page.shows("#voices-count", "4 of 120")
        await page.page.get_by_label("Search", exact=True).fill("nothing like it")
        await page.shows("#no-voices", "No voice is like that.")
        await page.page.get_by_label("Search", exact=True).fill("")
        await page.page.get_by_label("Language", exact=True).select_option("pt")
        await page.shows("#voices-count", "40 of 120")
        await page.page.get_by_label("Where", exact=True).select_option("in")
        await page.shows("#no-voices", "No voice is like that.")
        await page.page.get_by_label("Language", exact=True).select_option("")
        await page.shows("#voices-count", "1 of 120")
        for width in (390, 820, 1440):
            await page.page.set_viewport_size({"width": width, "height": 900})
            await page.page.get_by_label("Where", exact=True).select_option("")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_a_voice_is_loaded_pinned_explained_and_unloaded_from_its_row(
    browser: Any, hundred: HttpClient
) -> None:
    async with opened(browser, hundred.url) as page:
        await page.button("Load voice voice-007").press("Enter")
        await voice(page, "voice-007").get_by_text("in memory").wait_for()
        await page.row("voice-007").wait_for()
        assert await page.focused() == "Unload voice voice-007"  # it kept the focus
        await page.button("Pin voice voice-007").click()
        await voice(page, "voice-007").get_by_text("pinned").wait_for()
        await page.button("Unload voice voice-007").click()
        await page.button("Load voice voice-007").wait_for()
        await voice(page, "voice-007").get_by_text("pinned").wait_for()  # it comes back pinned
        await page.button("Unpin voice voice-007").click()
        await page.button("Why is voice voice-007 in memory or not?").click()
        await page.shows("#why", "not in memory; unloading")
        await page.keyboard.press("Escape")
        assert await page.focused() == "Why is voice voice-007 in memory or not?"


async def test_a_catalog_without_voices_says_what_to_do(browser: Any, hundred: HttpClient) -> None:
    context = await browser.new_context()
    page = Page(await context.new_page(), hundred.url)
    nothing = {"content_type": "application/json", "body": '{"models": []}'}
    await page.page.route("**/api/tags", lambda route: route.fulfill(**nothing))
    await page.open()
    await page.shows("#no-voices", "There is no voice: pull one")
    assert page.problems == []
    await context.close()


# Speaking


@pytest_asyncio.fixture(loop_scope="session")
async def telling() -> AsyncIterator[HttpClient]:
    """A worker with a voice that knows its words, and one that does not."""
    specs = [ModelSpec("telling", TellingAdapter), ModelSpec("tone-440", ToneTTSAdapter)]
    manager = ModelManager(catalog=Catalog(specs), default_model_id="telling")
    async with running_http_worker(manager) as web:
        yield web


async def test_words_are_marked_as_they_are_heard_where_they_are_known(
    browser: Any, telling: HttpClient
) -> None:
    async with opened(browser, telling.url) as page:
        await page.page.get_by_label("Voice", exact=True).select_option("telling")
        text = " ".join(f"w{n}" for n in range(40))
        await page.page.get_by_label("Sentence").fill(text)
        await page.evaluate("""(() => {
          window.heard = [];
          const look = () => {
            const word = document.querySelector("#words .heard")?.textContent;
            if (word && heard.at(-1) !== word) heard.push(word);
          };
          const every = { attributes: true, childList: true, subtree: true };
          new MutationObserver(look).observe(document.querySelector("#words"), every);
        })()""")
        await page.button("Speak").click()
        await page.shows("#spoken", "all of it after")
        assert await page.find("#words").inner_text() == text
        await page.until("() => heard.length > 1")
        numbers = [int(word[1:]) for word in await page.evaluate("heard")]
        assert numbers == sorted(set(numbers))
        await page.page.get_by_label("Voice", exact=True).select_option("tone-440")
        await page.button("Speak").click()
        await page.find("#words").wait_for(state="hidden")
        await page.shows("#spoken", "all of it after")


async def test_words_of_a_speech_that_is_over_touch_none_of_the_next(
    browser: Any, telling: HttpClient
) -> None:
    """The first is told that it is over while the next is heard, as when Speak is pressed twice."""
    async with opened(browser, telling.url) as page:
        heard = await page.evaluate("""(async () => {
          const { Words } = await import("./static/words.js");
          const told = (word, start) => [{ word, start_time: start, end_time: start + 0.1 }];
          const context = { state: "running", currentTime: 0.05 };
          const first = new Words("one two");
          first.add(told("one", 0), 0, context);
          const second = new Words("three four");
          second.add(told("three", 0), 0, context);
          first.end();
          second.add(told("four", 0.1), 0, context);
          context.currentTime = 0.15;
          for (let n = 0; n < 2; n += 1) await new Promise(requestAnimationFrame);
          context.state = "closed";
          const words = document.querySelector("#words");
          return [words.textContent, words.querySelector(".heard")?.textContent];
        })()""")
        assert heard == ["three four", "four"]


async def test_a_file_is_downloaded_in_the_format_and_at_the_speed_that_are_chosen(
    browser: Any, telling: HttpClient
) -> None:
    async with opened(browser, telling.url, accept_downloads=True) as page:
        await page.page.get_by_label("Voice", exact=True).select_option("tone-440")
        sizes = []
        for speed in ("1", "2"):
            await page.page.locator("#speak-speed").fill(speed)
            await page.page.get_by_label("Format of the file").select_option("wav")
            async with page.page.expect_download() as downloading:
                await page.button("Download").click()
            download = await downloading.value
            assert download.suggested_filename == "speech.wav"
            content = Path(await download.path()).read_bytes()
            assert content[:4] == b"RIFF"
            sizes.append(len(content))
            await page.shows("#spoken", "speech.wav")
        assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.1)


async def test_the_lines_to_copy_say_what_is_asked_for_and_do_it(
    browser: Any, telling: HttpClient, tmp_path: Path
) -> None:
    async with opened(browser, telling.url) as page:
        await page.page.get_by_label("Voice", exact=True).select_option("tone-440")
        await page.page.get_by_label("Sentence").fill('It\'s "so" — $HOME\nand on.')
        await page.page.locator("#speak-speed").fill("1.5")
        await page.page.get_by_label("Format of the file").select_option("flac")
        await page.find("#snippets summary").click()
        curl = await page.find("#snippet-curl").inner_text()
        python = await page.find("#snippet-python").inner_text()
        copied = page.button("Copy the lines of Python")
        await copied.click()
        await page.shows("#announced", re.compile("Copied|selected"))
    assert curl.startswith(f"curl {telling.url}/v1/audio/speech")
    assert "Authorization" not in curl
    said = json.loads(re.findall(r"-d '(.*?)' \\\n", curl, re.S)[0].replace("'\\''", "'"))
    assert said == {
        "model": "tone-440",
        "voice": "tone-440",
        "input": 'It\'s "so" — $HOME\nand on.',
        "response_format": "flac",
        "speed": 1.5,
    }
    compile(python, "snippet", "exec")
    assert f'base_url="{telling.url}/v1"' in python
    commands = [[sys.executable, "-c", python]]
    if shutil.which("curl") is not None:
        commands.append(["bash", "-c", curl])
    for command in commands:
        await run(command, tmp_path)
        file = tmp_path / "speech.flac"
        assert file.read_bytes()[:4] == b"fLaC", command
        file.unlink()


async def run(command: list[str], directory: Path) -> None:
    """Run a command in a directory; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


# Pulling, links


AMY = KEYS[0]


@pytest_asyncio.fixture(loop_scope="session")
async def pulling(tmp_path: Path) -> AsyncIterator[tuple[Worker, Any]]:
    """A worker that pulls voices from a server of this machine, and that server."""
    with serving(Collection.of()) as server:
        file = tmp_path / "c.yaml"
        file.write_text(
            f"voices: {{directories: [voices], packages: [], index: '{server.url}'}}\n"
            "model_manager: {default_model_id: tone-440}\n"
            'worker: {listen: "127.0.0.1:0", http_listen: "127.0.0.1:0", drain_timeout_ms: 0}\n'
        )
        worker = await Worker.create(await asyncio.to_thread(load_config, file))
        try:
            await worker.listen()
            await worker.initialize()
            yield worker, server
        finally:
            server.released.set()
            await worker.stop()


async def test_a_voice_is_pulled_with_its_progress_and_is_then_in_the_table(
    browser: Any, pulling: tuple[Worker, Any]
) -> None:
    worker, server = pulling
    assert worker.http_address is not None
    server.faults[path_of(AMY, f"{AMY}.onnx")] = [stall(100_000)]
    async with opened(browser, worker.http_address.url) as page:
        field = page.page.get_by_label("Pull a voice from the index")
        await field.fill(AMY)
        await page.button("Pull").click()
        await page.shows(f"[data-pull='{AMY}']", "pulling")
        await page.shows(
            f"[data-pull='{AMY}']", re.compile(r"\d+ kB of 0\.3 MB|0\.\d MB of 0\.3 MB")
        )
        await page.button(f"Stop pulling {AMY}").click()
        server.released.set()
        await page.shows(f"[data-pull='{AMY}']", "stopped")
        await field.fill(AMY)
        await page.button("Pull").click()
        await page.shows(f"[data-pull='{AMY}']", f"licence: CC0 (of {AMY})")
        await voice(page, "piper-en-us-amy-low").wait_for()
        await field.fill("en_US-ami-low")
        await page.button("Pull").click()
        await page.shows("[data-pull='en_US-ami-low']", "did you mean")
        await page.page.set_viewport_size({"width": 390, "height": 800})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_a_worker_that_pulls_nothing_offers_nothing_to_pull(
    browser: Any, telling: HttpClient
) -> None:
    async with opened(browser, telling.url) as page:
        async with page.page.expect_response("**/api/pulls"):
            await page.page.reload()
        assert await page.find("#pulls-part").is_hidden()


async def test_metrics_and_descriptions_are_linked_and_open_with_a_key(
    browser: Any, tone_catalog: Catalog
) -> None:
    keys = [{"name": "ops", "key": "admin-key", "role": "admin"}]
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with (
        running_http_worker(manager, api_keys=keys, public_discovery=False) as web,
        opened(browser, web.url) as page,
    ):
        await page.find("#key-dialog[open]").wait_for()
        await page.page.locator("#key").fill("admin-key")
        await page.keyboard.press("Enter")
        await page.shows("#version", re.compile(r"^Greenroom \d"))
        links = page.page.locator("footer a")
        for at, words in ((0, "greenroom_residents"), (1, "/v1/audio/speech"), (2, "step_s")):
            async with page.page.expect_popup() as opening:
                await links.nth(at).click()
            popup = await opening.value
            await popup.wait_for_load_state()
            assert words in await popup.content()
            await popup.close()
