"""Turns as callers meet them: models that are never idle leave for those that wait."""

from __future__ import annotations

import asyncio

import pytest

from greenroom import LeaseReleasedError
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import ids, one, running

pytestmark = pytest.mark.virtual_time


async def test_a_model_that_is_never_idle_leaves_for_one_that_waits_and_comes_back(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(
        stage, resident_cap=1, cap_policy="hard", pin_default=False, turn_after_ms=2_000
    ) as manager:
        await manager.load("a", owner="x")
        waiting = asyncio.create_task(manager.load("b"))
        await clock.advance(2.1)
        assert one(manager, "a").state == "draining"
        behind = asyncio.create_task(manager.load("a", owner="y"))
        await clock.settle()
        assert not behind.done()
        await manager.release("a", owner="x")
        await waiting
        assert ids(manager) == ["b"]
        await manager.release("b")
        await behind
        assert stage.peak == 1
        assert manager.statistics().evictions == 2


async def test_a_turn_is_written_down_with_its_reason(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, resident_cap=1, cap_policy="hard", pin_default=False) as manager:
        await manager.load("a", owner="x")
        waiting = asyncio.create_task(manager.load("b"))
        await clock.advance(2.1)
        why = "its turn is over, its room was needed for b"
        assert f"draining: {why}; waiting for x" in str(manager.explain("a"))
        assert one(manager, "a").yields_to == "b"
        await manager.release("a", owner="x")
        await waiting
        assert f"unloading: {why}" in str(manager.explain("a"))


async def test_a_turn_that_is_taken_back_is_written_down(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=1, cap_policy="hard", pin_default=False) as manager:
        await manager.load("a", owner="x")
        waiting = asyncio.create_task(manager.load("b"))
        await clock.advance(2.1)
        waiting.cancel()
        await clock.settle()
        assert one(manager, "a").state == "ready"
        assert "ready: its turn to leave was taken back" in str(manager.explain("a"))


async def test_the_quantum_follows_from_how_long_streams_run(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager, manager.lease("a") as lease:
        stage["a"].synthesize.hold()
        stream = lease.synthesize_stream("Hello.")
        hearing = asyncio.create_task(anext(stream))
        await clock.advance(3.0)
        stage["a"].synthesize.open()
        await hearing
        await stream.aclose()
        await clock.settle()
        assert manager._ledger.turns.cost == pytest.approx(3.0, abs=0.1)


async def test_a_parked_lease_loses_its_model_to_one_that_waits_and_says_so(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=1, cap_policy="hard", pin_default=False) as manager:
        lease = await manager.lease("a", owner="x").acquire()
        lease.park()
        waiting = asyncio.create_task(manager.load("b"))
        await clock.advance(2.1)
        await waiting
        assert ids(manager) == ["b"]
        why = "its turn is over, its room was needed for b"
        assert f"parked: {why} (x)" in str(manager.explain("a"))
        assert not lease.unpark()
        assert not lease.held
        with pytest.raises(LeaseReleasedError):
            lease.synthesize_stream("Hello.")
        await lease.release()


async def test_a_parked_lease_whose_model_is_there_goes_on(stage: Stage) -> None:
    async with running(stage) as manager, manager.lease("b") as lease:
        lease.park()
        assert lease.unpark()
        assert lease.adapter is await manager.load("b")


async def test_a_lease_that_lost_its_model_gives_back_nothing_of_anothers(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=1, cap_policy="hard", pin_default=False) as manager:
        lease = await manager.lease("a").acquire()
        lease.park()
        waiting = asyncio.create_task(manager.load("b"))
        await clock.advance(2.1)
        await waiting
        await manager.release("b")
        await manager.load("a")
        await lease.release()
        assert one(manager, "a").refcount == 1
