"""One headless browser of this machine for all tests of the page, which are skipped without one.

It lives in one event loop with them: `pytestmark` of their modules says so.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from greenroom import Catalog, ModelManager
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.http.page.browser import Page, opened

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


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """A browser; a test has a profile of its own in it."""
    path = next((path for name in NAMES if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=path, args=list(_QUIET))
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def web(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    """A worker with room for two of eight tones, `tone-440` being the pinned default."""
    manager = ModelManager(
        catalog=tone_catalog,
        default_model_id="tone-440",
        resident_cap=2,
        cap_policy="hard",
        acquire_timeout_ms=100,
        min_residency_ms=0,
    )
    async with running_http_worker(manager) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Any, web: HttpClient) -> AsyncIterator[Page]:
    """The page of that worker."""
    async with opened(browser, web.url) as made:
        await made.row("tone-440").wait_for()
        yield made
