"""Unloading by hand, with and without a drain."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from greenroom import (
    ModelInUseError,
    ModelNotFoundError,
    ModelNotResidentError,
    UnloadError,
)
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import ids, one, running

pytestmark = pytest.mark.virtual_time


async def test_unload_overrides_min_residency_and_pins(stage: Stage) -> None:
    async with running(stage, min_residency_ms=60_000) as manager:
        await manager.unload("a")
        assert ids(manager) == []
        await manager.load("a")
        assert one(manager, "a").pinned


async def test_unload_refuses_while_leased_and_changes_nothing(stage: Stage) -> None:
    async with running(stage) as manager:
        held = await manager.load("b", owner="caller 7")
        with pytest.raises(ModelInUseError, match="caller 7") as raised:
            await manager.unload("b")
        assert raised.value.owners == ("caller 7",)
        assert await manager.load("b") is held


async def test_unload_of_what_is_not_resident_is_an_error(stage: Stage) -> None:
    async with running(stage) as manager:
        with pytest.raises(ModelNotResidentError):
            await manager.unload("b")
        with pytest.raises(ModelNotFoundError):
            await manager.unload("nobody")


async def test_drain_lets_holders_finish_and_gives_newcomers_a_fresh_instance(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        old = await manager.load("b", owner="x")
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.settle()
        assert one(manager, "b").state == "draining"
        newcomer = asyncio.create_task(manager.load("b", owner="y"))
        await clock.settle()
        assert not newcomer.done()
        await manager.release("b", owner="x")
        await draining
        fresh = await newcomer
        assert fresh is not old
        assert stage["b"].calls == {
            "construct": 2, "load": 2, "warm_up": 2, "unload": 1
        }  # fmt: skip
        assert one(manager, "b").owners == ("y",)


async def test_drain_of_a_model_that_loads_waits_for_the_load(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.settle()
        with pytest.raises(ModelInUseError):
            await manager.unload("b")
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.settle()
        stage["b"].load.open()
        await caller
        await clock.settle()
        assert one(manager, "b").state == "draining"
        await manager.release("b")
        await draining
        assert ids(manager) == ["a"]


@pytest.mark.parametrize("how", ["limit", "cancel"])
async def test_a_drain_that_does_not_come_to_its_end_is_taken_back(
    stage: Stage, clock: VirtualTimeLoop, how: str
) -> None:
    async with running(stage) as manager:
        held = await manager.load("b", owner="x")
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.advance(20)
        newcomer = asyncio.create_task(manager.load("b", owner="y"))
        await clock.advance(9.9)
        assert one(manager, "b").state == "draining"
        if how == "cancel":
            draining.cancel()
            await clock.settle()
            assert draining.cancelled()
        else:
            await clock.advance(0.2)
            with pytest.raises(ModelInUseError, match="x"):
                await draining
        assert await newcomer is held
        assert one(manager, "b").state == "ready"


async def test_an_unload_that_raises_is_reported_and_its_room_is_free(stage: Stage) -> None:
    async with running(stage) as manager:
        await manager.load("b")
        await manager.release("b")
        stage["b"].unload.error = RuntimeError("busy device")
        with pytest.raises(UnloadError, match="RuntimeError: busy device"):
            await manager.unload("b")
        assert ids(manager) == ["a"]
        assert manager.statistics().footprint_mb == 0


async def test_an_unload_that_hangs_is_reported_and_its_room_stays_booked(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=2, cap_policy="hard") as manager:
        await manager.load("b")
        await manager.release("b")
        stage["b"].unload.hold()
        unloading = asyncio.create_task(manager.unload("b"))
        await clock.advance(10.1)
        with pytest.raises(UnloadError, match="takes over 10 s"):
            await unloading
        waiting = asyncio.create_task(manager.load("c"))
        await clock.settle()
        assert not waiting.done()
        assert one(manager, "b").state == "unloading"
        stage["b"].unload.open()
        await waiting
        assert stage.peak == 2


async def test_an_overdue_unload_makes_the_next_victim_leave(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=3) as manager:
        for name in "bc":
            await manager.load(name)
            await manager.release(name)
        stage["b"].unload.hold()
        caller = asyncio.create_task(manager.load("d"))
        await clock.advance(9.9)
        assert not caller.done()
        await clock.advance(0.2)
        assert await caller
        assert ids(manager) == ["a", "b", "d"]


async def test_a_request_during_an_unload_waits_for_it_and_loads_once(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        old = await manager.load("b")
        gone = weakref.ref(old)
        await manager.release("b")
        del old
        stage["b"].unload.hold()
        unloading = asyncio.create_task(manager.unload("b"))
        await clock.settle()
        callers = [asyncio.create_task(manager.load("b")) for _ in range(3)]
        await clock.settle()
        assert stage["b"].calls["construct"] == 1
        stage["b"].unload.open()
        await unloading
        assert len({id(adapter) for adapter in await asyncio.gather(*callers)}) == 1
        assert stage["b"].calls["construct"] == 2
        assert gone() is None


async def test_a_drain_and_its_caller_given_up_at_once_hand_nothing_over(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        await manager.load("b", owner="x")
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.settle()
        newcomer = asyncio.create_task(manager.load("b", owner="y"))
        await clock.settle()
        draining.cancel()
        newcomer.cancel()
        await clock.settle()
        assert newcomer.cancelled()
        assert one(manager, "b").state == "ready"
        assert one(manager, "b").owners == ("x",)


async def test_a_drain_waits_for_a_slow_load_no_longer_than_for_holders(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, load_timeout_ms=300_000) as manager:
        stage["b"].load.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.settle()
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.advance(29.9)
        assert not draining.done()
        await clock.advance(0.2)
        with pytest.raises(ModelInUseError):
            await draining
        stage["b"].load.open()
        assert await caller
