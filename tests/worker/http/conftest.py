"""Fixtures of the tests over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from greenroom import Catalog, ModelManager
from tests.worker.http.http_client import HttpClient, running_http_worker


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(cache_of_module: None) -> AsyncIterator[HttpClient]:
    """A worker with eight tones, of which `tone-440` is the default, for all tests of a module.

    They only speak, look or are refused: what is in memory does not matter to the others.
    """
    catalog = Catalog.discover("", adapters=["tone"])
    manager = ModelManager(catalog=catalog, default_model_id="tone-440", resident_cap=8)
    async with running_http_worker(manager) as made:
        yield made
