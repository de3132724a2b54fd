"""When a worker says that it is ready, and when it says why it is not, in virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from greenroom import ModelLoadError, ModelManager, SynthesisError
from greenroom.memory.usage import MIB, Usage
from greenroom.statistics import ManagerStatistics
from greenroom.testing import Stage, VirtualTimeLoop
from greenroom.worker.readiness import Readiness

pytestmark = pytest.mark.virtual_time


async def managing(stage: Stage, **settings: Any) -> tuple[ModelManager, Readiness]:
    settings = {"default_model_id": "a", "min_residency_ms": 0, **settings}
    manager = await asyncio.to_thread(lambda: ModelManager(catalog=stage.catalog, **settings))
    return manager, Readiness(manager)


async def test_a_worker_is_ready_from_the_end_of_its_start_to_the_beginning_of_its_end(
    stage: Stage,
) -> None:
    manager, readiness = await managing(stage)
    assert "starting" in readiness.verdict().problems[0]
    await manager.initialize()
    assert not readiness.verdict().ready
    readiness.open()
    assert readiness.verdict().ready
    readiness.close()
    assert readiness.verdict().problems == ("the worker is shutting down",)
    await manager.shutdown()
    assert not readiness.verdict().ready


async def test_a_worker_whose_pinned_default_was_unloaded_is_not_ready_until_it_is_back(
    stage: Stage,
) -> None:
    manager, readiness = await managing(stage)
    await manager.initialize()
    readiness.open()
    await manager.unload("a")
    assert readiness.verdict().problems == ("the default model 'a' is not in memory",)
    await manager.load("a")
    assert readiness.verdict().ready
    await manager.shutdown(drain_timeout_ms=0)


async def test_a_default_that_is_not_pinned_may_leave_and_the_worker_stays_ready(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager, readiness = await managing(stage, pin_default=False, ttl_ms=5_000)
    await manager.initialize()
    readiness.open()
    await clock.advance(6)
    assert manager.list_resident() == ()
    assert readiness.verdict().ready
    await manager.shutdown()


async def test_a_default_that_is_not_pinned_may_come_and_go_without_a_word(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager, readiness = await managing(stage, pin_default=False)
    await manager.initialize()
    readiness.open()
    stage["a"].unload.hold()
    leaving = asyncio.create_task(manager.unload("a"))
    await clock.settle()
    assert [r.state for r in manager.list_resident()] == ["unloading"]
    assert readiness.verdict().problems == ()
    stage["a"].load.hold()
    stage["a"].unload.open()
    await leaving
    coming = asyncio.create_task(manager.load("a"))
    await clock.settle()
    assert [r.state for r in manager.list_resident()] == ["loading"]
    assert readiness.verdict().ready
    stage.open_all()
    await coming
    await manager.shutdown(drain_timeout_ms=0)


async def test_a_default_that_was_unpinned_may_leave_and_the_worker_stays_ready(
    stage: Stage,
) -> None:
    manager, readiness = await managing(stage)
    await manager.initialize()
    readiness.open()
    manager.unpin("a")
    await manager.unload("a")
    assert readiness.verdict().ready
    await manager.shutdown()


async def test_a_thread_that_hangs_in_one_voice_is_said_and_the_worker_stays_ready(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager, readiness = await managing(stage, load_timeout_ms=10_000)
    await manager.initialize()
    readiness.open()
    stage["b"].load.hold()
    loading = asyncio.create_task(manager.load("b"))
    await clock.advance(9)
    verdict = readiness.verdict()
    assert (verdict.ready, verdict.oldest_load_s, verdict.oldest_wait_s) == (True, 9, 9)
    await clock.advance(1)
    with pytest.raises(ModelLoadError):
        await loading
    stuck = readiness.verdict()
    assert (stuck.ready, stuck.problems) == (True, ("a thread hangs in model 'b'",))
    assert await manager.load("c")
    stage["b"].load.open()
    await clock.settle()
    assert readiness.verdict().problems == ()
    await manager.shutdown(drain_timeout_ms=0)


async def test_a_pinned_default_that_hangs_makes_a_worker_not_ready_until_it_ends(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager, readiness = await managing(stage, synthesis_timeout_ms=10_000)
    await manager.initialize()
    readiness.open()
    stage["a"].synthesize.hold()
    adapter = await manager.load("a")
    speaking = asyncio.create_task(anext(adapter.synthesize_stream("Hello.")))
    await clock.advance(11)
    with pytest.raises(SynthesisError):
        await speaking
    assert readiness.verdict().hanging == ("a",)
    assert not readiness.verdict().ready
    stage.open_all()
    await clock.settle()
    assert readiness.verdict().ready
    await manager.shutdown(drain_timeout_ms=0)


async def test_threads_that_hang_in_all_that_may_be_in_memory_make_a_worker_not_ready(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    settings = {"resident_cap": 1, "pin_default": False, "cap_policy": "hard", "ttl_ms": 0}
    manager, readiness = await managing(stage, **settings)
    await manager.initialize()
    readiness.open()
    await manager.unload("a")
    stage["b"].load.hold()
    loading = asyncio.gather(manager.load("b"), return_exceptions=True)
    await clock.advance(61)
    await loading
    verdict = readiness.verdict()
    assert (verdict.ready, len(verdict.problems)) == (False, 2)
    stage.open_all()
    await clock.settle()
    assert readiness.verdict().ready
    await manager.shutdown(drain_timeout_ms=0)


async def test_an_unload_that_hangs_is_said_until_it_ends_and_the_worker_stays_ready(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager, readiness = await managing(stage)
    await manager.initialize()
    readiness.open()
    await manager.load("b")
    await manager.release("b")
    stage["b"].unload.hold()
    unloading = asyncio.gather(manager.unload("b"), return_exceptions=True)
    await clock.advance(11)
    verdict = readiness.verdict()
    assert (verdict.ready, verdict.hanging) == (True, ("b",))
    assert verdict.problems == ("a thread hangs in model 'b'",)
    stage.open_all()
    await unloading
    await clock.settle()
    assert readiness.verdict().problems == ()
    await manager.shutdown()


async def test_waiting_within_the_settings_is_no_reason_to_send_work_elsewhere(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager, readiness = await managing(stage, resident_cap=2, cap_policy="hard")
    await manager.initialize()
    readiness.open()
    await manager.load("b")
    waiting = asyncio.create_task(manager.load("c"))
    await clock.advance(25)
    verdict = readiness.verdict()
    assert (verdict.ready, verdict.oldest_wait_s) == (True, 25)
    await manager.release("b")
    await waiting
    assert readiness.verdict().oldest_wait_s == 0
    await manager.shutdown(drain_timeout_ms=0)


@pytest.mark.parametrize(
    ("late", "problem"),
    [
        ({"oldest_load_s": 126.0}, "a load has not ended for 2m 06s"),
        ({"oldest_wait_s": 156.0}, "a caller has waited for 2m 36s"),
    ],
)
async def test_what_outlasts_every_limit_is_stuck_even_if_nobody_noticed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, late: dict[str, Any], problem: str
) -> None:
    manager, readiness = await managing(stage)
    await manager.initialize()
    readiness.open()
    real = ModelManager.statistics

    def statistics(self: ModelManager) -> ManagerStatistics:
        return dataclasses.replace(real(self), **late)

    monkeypatch.setattr(ModelManager, "statistics", statistics)
    assert readiness.verdict().problems == (problem,)
    await manager.shutdown()


async def test_a_worker_that_takes_more_than_its_budget_says_so_and_serves_on(
    stage: Stage, clock: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, readiness = await managing(stage, memory_budget_mb=700)
    taken = 500 * MIB
    monkeypatch.setattr("greenroom.memory.usage.usage", lambda: Usage(taken))
    await manager.initialize()
    readiness.open()
    async with manager.lease("a") as lease:
        stage["a"].synthesize.hold()
        speaking = asyncio.create_task(anext(lease.synthesize_stream("Hello.")))
        await clock.settle()
        taken += 1_000 * MIB
        await clock.advance(1.1)
        verdict = readiness.verdict()
        assert verdict.ready
        assert verdict.problems == (
            "the process takes 1,000 MB of cpu for its models, 700 MB are allowed: no load begins",
        )
        stage["a"].synthesize.open()
        await speaking
    await manager.shutdown(drain_timeout_ms=0)
