"""Prefetching through the manager: no waiting, no reference, and a record of it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from greenroom import InvalidInputError, ManagerClosedError, ModelManager, ModelNotFoundError
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import ids, one, running

pytestmark = pytest.mark.virtual_time


async def test_a_prefetched_model_is_there_when_its_caller_comes(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.hold()
        await manager.prefetch("b", 5.0)
        stage["b"].load.open()
        await clock.settle()
        assert one(manager, "b").refcount == 0
        await manager.load("b")
        assert (one(manager, "b").refcount, stage["b"].calls["load"]) == (1, 1)
        await clock.advance(60)
        assert ids(manager) == ["a", "b"]


async def test_a_prefetched_model_that_nobody_came_for_leaves_and_the_journal_says_why(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        await manager.prefetch("b", 5.0)
        await clock.advance(5.1)
        assert ids(manager) == ["a"]
        assert manager.statistics().expirations == 1
        told = [f"{event.kind}: {event.reason}" for event in manager.journal.events("b")]
        assert told[:2] == [
            "expected: a caller is expected within 5 s",
            "loading: a caller is expected",
        ]
        assert "unloading: prefetched, and not used in time" in told


async def test_a_prefetch_without_room_is_written_down_when_its_time_is_over(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=1) as manager:
        await manager.prefetch("b", 5.0)
        await clock.advance(5.1)
        assert "forgotten: it is not prefetched" in str(manager.explain("b"))


@pytest.mark.parametrize("within", [-1, math.inf, math.nan, "soon", True])
async def test_a_time_that_is_none_is_refused(stage: Stage, within: Any) -> None:
    async with running(stage) as manager:
        with pytest.raises(InvalidInputError, match="within_s"):
            await manager.prefetch("b", within)


async def test_a_model_that_is_not_in_the_catalog_is_refused(stage: Stage) -> None:
    async with running(stage) as manager:
        with pytest.raises(ModelNotFoundError):
            await manager.prefetch("nobody")


async def test_a_manager_that_does_not_run_prefetches_nothing(stage: Stage) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    with pytest.raises(ManagerClosedError):
        await manager.prefetch("b")
