"""Loads and warmups that fail or hang leave nothing behind and block nobody."""

from __future__ import annotations

import asyncio
import gc

import pytest

from greenroom import (
    CapacityError,
    LoadTimeoutError,
    ModelLoadError,
)
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import ids, one, running

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("step", ["construct", "load", "warm_up"])
async def test_a_load_that_fails_leaves_nothing_behind(stage: Stage, step: str) -> None:
    async with running(stage) as manager:
        getattr(stage["b"], step).error = RuntimeError("broken")
        caught: list[ModelLoadError] = []
        for outcome in await asyncio.gather(
            *(manager.load("b") for _ in range(3)), return_exceptions=True
        ):
            assert isinstance(outcome, ModelLoadError)
            caught.append(outcome)
        assert {type(error) for error in caught} == {ModelLoadError}
        assert len(set(map(id, caught))) == 3
        assert all(error.__cause__ is caught[0].__cause__ for error in caught)
        assert ids(manager) == ["a"]
        assert manager.statistics().failed_loads == 1
        assert [type(x).__name__ for x in stage.living] == ["StagedAdapter"]
        assert stage.loaded == 1
        getattr(stage["b"], step).error = None


async def test_a_failed_load_is_not_kept_alive_by_its_error(stage: Stage) -> None:
    gc.disable()
    try:
        async with running(stage) as manager:
            stage["b"].warm_up.error = RuntimeError("broken")
            with pytest.raises(ModelLoadError) as raised:
                await manager.load("b")
            assert raised.value.__cause__ is not None
            assert {adapter.spec.model_id for adapter in stage.living} == {"a"}
    finally:
        gc.enable()


async def test_an_engine_that_exits_or_stops_iteration_fails_only_its_load(stage: Stage) -> None:
    async with running(stage) as manager:
        for name, error in (
            ("b", SystemExit(3)),
            ("c", KeyboardInterrupt()),
            ("d", StopIteration()),
        ):
            stage[name].load.error = error
            with pytest.raises(ModelLoadError, match=type(error).__name__):
                await manager.load(name)
        assert await manager.load("a")


async def test_a_model_that_failed_is_left_alone_for_twice_as_long_each_time(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.error = RuntimeError("broken")
        for wait in (1.0, 2.0, 4.0):
            with pytest.raises(ModelLoadError) as raised:
                await manager.load("b")
            assert raised.value.retry_after == wait
            await clock.advance(wait - 0.25)
            with pytest.raises(ModelLoadError, match="broken") as refused:
                await manager.load("b")
            assert refused.value.retry_after == 0.25
            await clock.advance(0.25)
        assert stage["b"].calls["load"] == 3
        stage["b"].load.error = None
        await manager.load("b")
        await manager.release("b")
        await manager.unload("b")
        stage["b"].load.error = RuntimeError("again")
        with pytest.raises(ModelLoadError) as raised:
            await manager.load("b")
        assert raised.value.retry_after == 1.0


async def test_a_load_that_hangs_fails_its_callers_in_time_and_blocks_nobody(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, load_timeout_ms=5_000, resident_cap=3) as manager:
        stage["b"].load.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.advance(4.9)
        assert not caller.done()
        await clock.advance(0.2)
        with pytest.raises(LoadTimeoutError, match="did not load within 5 s"):
            await caller
        assert one(manager, "b").state == "unloading"
        assert manager.explain("b").summary.startswith("a thread hangs in its load")
        assert manager.statistics().resident_cap == 3
        await manager.load("c")
        stage["b"].load.open()
        await clock.settle()
        assert ids(manager) == ["a", "c"]
        assert stage["b"].calls["unload"] == 1
        assert stage.loaded == 2


async def test_a_warmup_that_hangs_keeps_its_room_booked_until_it_ends(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(
        stage, load_timeout_ms=5_000, resident_cap=2, cap_policy="hard", acquire_timeout_ms=1_000
    ) as manager:
        stage["b"].warm_up.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.advance(5.1)
        with pytest.raises(LoadTimeoutError, match="did not warm up within 5 s"):
            await caller
        late = asyncio.create_task(manager.load("c"))
        await clock.advance(1.1)
        with pytest.raises(CapacityError):
            await late
        stage["b"].warm_up.open()
        await clock.settle()
        assert await manager.load("c")
        assert stage["b"].calls["unload"] == 1
