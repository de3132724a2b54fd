"""Workers of these tests are started as those of the worker's own."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from greenroom import Catalog, ModelManager
from greenroom.config.schema import Config
from greenroom.worker.app import Worker
from tests.worker.conftest import (
    _grpc_for_all_tests,
    _heard_at_once,
    _no_unexpected_answers,
    metered_catalog,
    meters,
)
from tests.worker.worker_client import Meter

__all__ = [
    "_grpc_for_all_tests",
    "_heard_at_once",
    "_no_unexpected_answers",
    "metered_catalog",
    "meters",
]


@pytest.fixture
async def worker(metered_catalog: Catalog, meters: dict[str, Meter]) -> AsyncIterator[Worker]:
    """A worker without an address, whose models speak what their meters allow."""
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    config = Config.model_validate({"worker": {"drain_timeout_ms": 0}})
    begun = await asyncio.to_thread(Worker, config, manager)
    begun.begin()
    await begun.initialize()
    try:
        yield begun
    finally:
        for meter in meters.values():
            meter.free.set()
        await begun.stop()
