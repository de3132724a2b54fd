"""Engines that die, hang or lie, at every step: a typed error, and everybody else unharmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import (
    CapacityError,
    LoadTimeoutError,
    ModelInUseError,
    ModelLoadError,
    ModelManager,
    ModelManagerError,
    SynthesisError,
    UnloadError,
    WarmupError,
)
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    made = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        min_residency_ms=0,
        resident_cap=2,
        cap_policy="hard",
        load_timeout_ms=5_000,
        acquire_timeout_ms=1_000,
    )
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)


def ids(manager: ModelManager) -> list[str]:
    return [resident.model_id for resident in manager.list_resident()]


async def live_once(manager: ModelManager, model_id: str) -> int:
    """Load, speak, release and unload; return how many frames were heard."""
    async with manager.lease(model_id) as lease:
        heard = len([frame async for frame in lease.synthesize_stream("Hello there.")])
    await manager.unload(model_id, drain=True)
    return heard


@pytest.mark.parametrize(
    "death",
    [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, MemoryError],
)
@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("construct", ModelLoadError),
        ("load", ModelLoadError),
        ("warm_up", ModelLoadError),
        ("synthesize", SynthesisError),
        ("unload", UnloadError),
    ],
)
async def test_an_engine_that_dies_at_any_step_is_typed_and_harms_nobody(
    manager: ModelManager,
    stage: Stage,
    clock: VirtualTimeLoop,
    step: str,
    error: type[ModelManagerError],
    death: type[BaseException],
) -> None:
    speaking = (await manager.load("a")).synthesize_stream("Hello there.")
    await speaking.__anext__()
    getattr(stage["b"], step).error = death
    with pytest.raises(error, match=death.__name__):
        await live_once(manager, "b")
    getattr(stage["b"], step).error = None
    assert len([frame async for frame in speaking]) == 24
    await clock.advance(1)
    assert await live_once(manager, "b") == 25
    assert ids(manager) == ["a"]
    assert {adapter.spec.model_id for adapter in stage.living} == {"a"}


async def test_a_failed_load_whose_clean_up_hangs_keeps_its_room_until_that_ends(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.error = RuntimeError("broken")
    stage["b"].unload.hold()
    caller = asyncio.create_task(manager.load("b"))
    await clock.advance(10.1)
    with pytest.raises(ModelLoadError, match="broken"):
        await caller
    refused = asyncio.create_task(manager.load("c"))
    await clock.advance(1.1)
    with pytest.raises(CapacityError):
        await refused
    assert ids(manager) == ["a", "b"]
    stage["b"].unload.open()
    await clock.settle()
    assert await manager.load("c")
    assert stage.peak == 2


async def test_a_hanging_load_whose_clean_up_dies_gives_its_room_back(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    stage["b"].load.error = RuntimeError
    stage["b"].unload.error = SystemExit
    caller = asyncio.create_task(manager.load("b"))
    await clock.advance(5.1)
    with pytest.raises(LoadTimeoutError):
        await caller
    stage["b"].load.open()
    await clock.settle()
    assert ids(manager) == ["a"]
    assert await manager.load("c")


@pytest.mark.parametrize("rate", [0, -16_000, float("nan"), float("inf"), None, "16k"])
async def test_a_model_of_an_impossible_rate_fails_its_load(
    manager: ModelManager, stage: Stage, rate: Any
) -> None:
    stage.adapter.sample_rate = rate
    with pytest.raises(WarmupError, match="Hz"):
        await manager.load("b")
    assert ids(manager) == ["a"]


@pytest.mark.parametrize("how", ["limit", "cancel"])
async def test_a_drain_that_one_of_two_gives_up_goes_on_for_the_other(
    manager: ModelManager, clock: VirtualTimeLoop, how: str
) -> None:
    await manager.load("b", owner="x")
    first = asyncio.create_task(manager.unload("b", drain=True))
    await clock.advance(20)
    second = asyncio.create_task(manager.unload("b", drain=True))
    await clock.settle()
    if how == "cancel":
        first.cancel()
    await clock.advance(10.1)
    (outcome,) = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError if how == "cancel" else ModelInUseError)
    assert manager.list_resident()[1].state == "draining"
    await manager.release("b", owner="x")
    await second
    assert ids(manager) == ["a"]


async def test_a_preload_waits_for_its_turn_however_long_the_others_take(
    stage: Stage, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        preload_model_ids=["b", "c"],
        acquire_timeout_ms=1_000,
    )
    stage["b"].load.hold()
    starting = asyncio.create_task(manager.initialize())
    await clock.advance(20)
    stage["b"].load.open()
    await starting
    assert ids(manager) == ["a", "b", "c"]
    assert "preload failed" not in caplog.text
    await manager.shutdown()
