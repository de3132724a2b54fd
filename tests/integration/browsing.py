"""A headless browser of this machine, for the tests of the page; skipped where there is none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


def found_browser() -> str | None:
    """Return the path of a browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Any]:
    """Start the browser; skip the test without one."""
    path = found_browser()
    if path is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=path, args=list(_QUIET))
        try:
            yield started
        finally:
            await started.close()
