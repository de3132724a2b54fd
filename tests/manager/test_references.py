"""References are counted, given back once, and never lost with a caller."""

from __future__ import annotations

import asyncio

import pytest

from greenroom import (
    LeaseReleasedError,
    ModelNotFoundError,
    ModelNotResidentError,
)
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import one, running

pytestmark = pytest.mark.virtual_time


async def test_release_gives_one_reference_back(stage: Stage) -> None:
    async with running(stage) as manager:
        await manager.load("a", owner="x")
        await manager.load("a", owner="x")
        await manager.load("a", owner="y")
        await manager.release("a", owner="x")
        assert one(manager, "a").refcount == 2
        assert one(manager, "a").owners == ("x", "y")


async def test_more_releases_than_loads_is_an_error_that_changes_nothing(stage: Stage) -> None:
    async with running(stage) as manager:
        await manager.load("a", owner="x")
        for owner in (None, "y"):
            with pytest.raises(LeaseReleasedError, match="holds no reference"):
                await manager.release("a", owner=owner)
        assert one(manager, "a").refcount == 1
        await manager.release("a", owner="x")
        with pytest.raises(LeaseReleasedError):
            await manager.release("a", owner="x")
        assert one(manager, "a").refcount == 0
        with pytest.raises(ModelNotResidentError):
            await manager.release("b")
        with pytest.raises(ModelNotFoundError):
            await manager.release("nobody")


async def test_a_waiter_that_is_cancelled_ends_only_its_own_wait(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.hold()
        first, second = (asyncio.create_task(manager.load("b", owner=o)) for o in ("x", "y"))
        await clock.settle()
        first.cancel()
        await clock.settle()
        stage["b"].load.open()
        assert await second
        assert first.cancelled()
        assert one(manager, "b").owners == ("y",)


@pytest.mark.parametrize("step", ["construct", "load", "warm_up"])
async def test_a_load_that_nobody_waits_for_any_more_stays_as_an_idle_resident(
    stage: Stage, clock: VirtualTimeLoop, step: str
) -> None:
    async with running(stage) as manager:
        getattr(stage["b"], step).hold()
        callers = [asyncio.create_task(manager.load("b")) for _ in range(3)]
        await clock.settle()
        for caller in callers:
            caller.cancel()
        await clock.settle()
        getattr(stage["b"], step).open()
        await clock.settle()
        assert stage["b"].calls["construct"] == 1
        assert one(manager, "b").state == "ready"
        assert one(manager, "b").refcount == 0
        assert one(manager, "b").expires_in_s == 600.0


async def test_a_caller_cancelled_in_the_step_that_grants_gives_its_reference_back(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.settle()
        watcher = manager.subscribe()

        async def cancel_when_ready() -> None:
            async for event in watcher:
                if event.kind == "ready":
                    caller.cancel()
                    return

        cancelling = asyncio.create_task(cancel_when_ready())
        await clock.settle()
        stage["b"].load.open()
        await clock.settle()
        await cancelling
        assert caller.cancelled()
        assert one(manager, "b").refcount == 0
        await watcher.aclose()
