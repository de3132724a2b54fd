"""What the page shows when no news comes from the worker, which is a process of its own here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.http.page.browser import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVE = """
import sys
from greenroom.cli import main
from greenroom.worker.http import events
events._PERIOD_S, events._SILENCE_S = 0.1, 0.2
sys.exit(main())
"""
CONFIG = """
model_manager: {default_model_id: tone-440}
voices: {directories: [], packages: []}
worker: {listen: "127.0.0.1:0", http_listen: "127.0.0.1:0"}
"""
TIMES = """
export const SILENCE_MS = 800;
export const AGAIN_MS = 50;
export const PULLS_MS = 50;
export const NOTICE_MS = 60_000;
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """The id of a worker's process, and its address."""
    config = tmp_path / "worker.yaml"
    config.write_text(CONFIG)
    command = [sys.executable, "-c", SERVE, "serve", "--config", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().split(";")[0].split(" and ")[-1].strip()
        finally:
            process.kill()


async def test_a_worker_without_news_is_not_called_ready(
    browser: Any, worker: tuple[int, str]
) -> None:
    pid, url = worker
    context = await browser.new_context()
    page = Page(await context.new_page(), url)
    times = {"content_type": "text/javascript", "body": TIMES}
    await page.page.route("**/static/times.js", lambda route: route.fulfill(**times))
    await page.open()
    await page.shows("#health", re.compile("^ready$"))

    os.kill(pid, signal.SIGSTOP)
    await page.shows("#health", re.compile(r"^no news for \d+ s$"))
    idle = await page.find("li[data-model=tone-440] .facts").inner_text()
    assert re.fullmatch(r"as of [\d:]{8}", await page.find("#as-of").inner_text())
    assert await page.find("body.stale").count() == 1
    await page.button("Unload tone-440").press("Enter")
    await page.shows("#trouble", "tone-440: no news for")
    said = await page.find("#health").inner_text()
    await page.until("(said) => health.textContent !== said", said)
    assert await page.find("li[data-model=tone-440] .facts").inner_text() == idle
    os.kill(pid, signal.SIGCONT)
    await page.shows("#health", re.compile("^ready$"))
    await page.find("#as-of").wait_for(state="hidden")

    os.kill(pid, signal.SIGKILL)
    await page.shows("#health", "no worker answers; trying again")
    assert await page.button("Pin tone-440").count() == 0
    assert await page.button("Unpin tone-440").get_attribute("aria-disabled") == "true"
    last = page.page.locator("#lanes text[text-anchor=end]")
    assert await last.text_content() == (await page.find("#as-of").inner_text())[len("as of ") :]
    await page.button("Speak").click()
    await page.shows("#spoken", "no worker answers at 127.0.0.1")
    await page.page.get_by_label("Load a model").fill("tone-220")
    await page.button("Load").click()
    await page.shows("#load-said", "no worker answers at 127.0.0.1")
    assert await page.faint() == []
