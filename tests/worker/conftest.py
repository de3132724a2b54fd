"""Fixtures of the tests that start a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from greenroom import Catalog, ModelManager
from greenroom.speech.dispatcher import Dispatcher
from tests.worker.worker_client import Meter, WorkerClient, metered, running_worker


@pytest.fixture(scope="session", autouse=True)
def _grpc_for_all_tests() -> None:
    """Keep gRPC's own thread: joining it when the last channel is collected blocks the loop."""

    async def begin() -> None:
        grpc.aio.init_grpc_aio()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()


@pytest.fixture(autouse=True)
def _no_unexpected_answers(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Make a call that ended in an error outside of the tree an error: gRPC logs those."""
    yield
    found = [r for r in caplog.get_records("call") if r.name.startswith(("grpc", "asyncio"))]
    assert not [r.getMessage() for r in found if r.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
def _heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is made be heard: on a loaded machine more would be asked for first.

    Models here are often allowed a few chunks and no more.
    """
    monkeypatch.setattr(Dispatcher, "may_be_heard", lambda *_: True)


@pytest.fixture(scope="module")
def cache_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is measured by a worker of a whole module out of the user's cache, as of others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GREENROOM_CACHE_DIR", str(tmp_path_factory.mktemp("cache-of-module")))
        patch.setenv("GREENROOM_PREPARE", "off")
        yield


@pytest.fixture
def tone_catalog() -> Catalog:
    """Eight tones, `tone-220` to `tone-440`."""
    return Catalog.discover("", adapters=["tone"])


@pytest.fixture
async def tones(tone_catalog: Catalog) -> AsyncIterator[WorkerClient]:
    """A worker with eight tones."""
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with running_worker(manager) as served:
        yield served


@pytest.fixture
def meters() -> dict[str, Meter]:
    """What the models `a` to `d` of `metered_worker` may speak."""
    return {}


@pytest.fixture
def metered_catalog(meters: dict[str, Meter]) -> Catalog:
    """Models that speak what their meters allow."""
    catalog, made = metered(*"abcd")
    meters.update(made)
    return catalog


@pytest.fixture
async def metered_worker(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> AsyncIterator[WorkerClient]:
    """A worker whose models speak what their meters allow."""
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    async with running_worker(manager) as served:
        try:
            yield served
        finally:
            for meter in meters.values():
                meter.free.set()
