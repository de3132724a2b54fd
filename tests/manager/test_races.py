"""Interleavings that broke other managers, each from a real report."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import CapacityError, ModelManager
from greenroom.testing import Stage, VirtualTimeLoop


@pytest.fixture
async def start(stage: Stage) -> AsyncIterator[Any]:
    made: list[ModelManager] = []

    async def begin(**settings: Any) -> ModelManager:
        settings.setdefault("min_residency_ms", 0)
        manager = ModelManager(catalog=stage.catalog, default_model_id="a", **settings)
        made.append(manager)
        await manager.initialize()
        return manager

    yield begin
    stage.open_all()
    for manager in made:
        await manager.shutdown(drain_timeout_ms=0)


def ids(manager: ModelManager) -> list[str]:
    return [resident.model_id for resident in manager.list_resident()]


@pytest.mark.virtual_time
async def test_parallel_loads_do_not_land_over_the_cap_together(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(resident_cap=2, max_parallel_loads=4, cap_policy="hard")
    tasks = [asyncio.create_task(manager.load(name)) for name in "bc"]
    await clock.settle()
    assert [task.done() for task in tasks] == [True, False]
    await manager.release("b")
    await tasks[1]
    assert stage.peak == 2


@pytest.mark.virtual_time
async def test_a_model_that_was_just_loaded_is_not_the_next_loads_victim(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(resident_cap=2, max_parallel_loads=2, pin_default=False)
    stage["b"].warm_up.hold()
    first = asyncio.create_task(manager.load("b"))
    await clock.settle()
    second = asyncio.create_task(manager.load("c"))
    await clock.settle()
    stage["b"].warm_up.open()
    await asyncio.gather(first, second)
    assert stage["b"].calls["unload"] == 0
    assert {"b", "c"} <= set(ids(manager))


@pytest.mark.virtual_time
async def test_two_loads_that_need_the_same_victim_both_come_to_an_end(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(resident_cap=2, max_parallel_loads=2, cap_policy="hard")
    await manager.load("b")
    await manager.release("b")
    stage["b"].unload.hold()
    tasks = [asyncio.create_task(manager.load(name)) for name in "cd"]
    await clock.settle()
    assert stage["b"].calls["unload"] == 1
    stage["b"].unload.open()
    await clock.settle()
    assert [task.done() for task in tasks] == [True, False]
    await manager.release("c")
    await tasks[1]
    assert stage.peak == 2


@pytest.mark.virtual_time
async def test_a_request_for_a_victim_that_is_leaving_waits_its_turn_and_never_hangs(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(resident_cap=2, cap_policy="hard", acquire_timeout_ms=5_000)
    old = await manager.load("b")
    await manager.release("b")
    stage["b"].unload.hold()
    newcomer = asyncio.create_task(manager.load("c"))
    await clock.settle()
    late = asyncio.create_task(manager.load("b"))
    await clock.settle()
    stage["b"].unload.open()
    await newcomer
    assert not late.done()
    await manager.release("c")
    assert await late is not old
    assert ids(manager) == ["a", "b"]


@pytest.mark.virtual_time
@pytest.mark.parametrize("kept", [False, True])
async def test_a_caller_cancelled_while_it_waits_leaves_nothing_and_loses_no_wake_up(
    stage: Stage, start: Any, clock: VirtualTimeLoop, kept: bool
) -> None:
    manager = await start(resident_cap=2, cap_policy="hard")
    await manager.load("b")
    first = asyncio.create_task(manager.load("c"))
    joined = asyncio.create_task(manager.load("c"))
    second = asyncio.create_task(manager.load("d"))
    await clock.settle()
    first.cancel()
    if not kept:
        joined.cancel()
    await clock.settle()
    await manager.release("b")
    if kept:
        await joined
        assert not second.done()
        await manager.release("c")
    await second
    assert ids(manager) == ["a", "d"]
    assert manager.statistics().waiting == 0
    assert stage["c"].calls["load"] == (1 if kept else 0)


@pytest.mark.virtual_time
async def test_a_caller_cancelled_while_it_waits_for_a_load_slot_leaves_nothing(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(resident_cap=4, max_parallel_loads=1)
    stage["b"].load.hold()
    loading = asyncio.create_task(manager.load("b"))
    queued = asyncio.create_task(manager.load("c"))
    last = asyncio.create_task(manager.load("d"))
    await clock.settle()
    queued.cancel()
    await clock.settle()
    stage["b"].load.open()
    await asyncio.gather(loading, last)
    assert {r.model_id: r.refcount for r in manager.list_resident()} == {"a": 0, "b": 1, "d": 1}
    assert stage["c"].calls["construct"] == 0
    assert manager.statistics().waiting == 0


@pytest.mark.virtual_time
async def test_a_waiter_cancelled_in_the_step_that_makes_room_passes_it_on(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(resident_cap=2, cap_policy="hard")
    await manager.load("b")
    first = asyncio.create_task(manager.load("c"))
    second = asyncio.create_task(manager.load("d"))
    await clock.settle()
    first.cancel()
    await manager.release("b")
    await clock.settle()
    if "c" in ids(manager):
        await clock.settle()
    await asyncio.wait_for(second, 1)
    assert manager.statistics().waiting == 0


@pytest.mark.virtual_time
async def test_an_eviction_whose_asker_is_cancelled_comes_to_its_end(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(ttl_ms=1_000)
    await manager.load("b")
    await manager.release("b")
    stage["b"].unload.hold()
    clock._now += 1
    evicting = asyncio.create_task(manager.evict_idle())
    await clock.settle()
    evicting.cancel()
    await clock.settle()
    assert ids(manager) == ["a", "b"]
    stage["b"].unload.open()
    await clock.settle()
    assert ids(manager) == ["a"]
    assert stage.loaded == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("step", [+3_600.0, -3_600.0])
async def test_a_step_of_the_wall_clock_changes_nothing(
    stage: Stage,
    start: Any,
    clock: VirtualTimeLoop,
    monkeypatch: pytest.MonkeyPatch,
    step: float,
) -> None:
    manager = await start(ttl_ms=10_000)
    await manager.load("b")
    await manager.release("b")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    await clock.advance(9.9)
    assert ids(manager) == ["a", "b"]
    await clock.advance(0.2)
    assert ids(manager) == ["a"]


@pytest.mark.virtual_time
async def test_the_idle_time_does_not_run_while_a_model_loads_or_is_used(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(ttl_ms=5_000)
    stage["b"].load.hold()
    caller = asyncio.create_task(manager.load("b"))
    await clock.advance(20)
    stage["b"].load.open()
    await caller
    await clock.advance(20)
    await manager.release("b")
    await clock.advance(4.9)
    assert ids(manager) == ["a", "b"]


@pytest.mark.virtual_time
async def test_min_residency_bounds_how_often_two_models_push_each_other_out(
    stage: Stage, start: Any, clock: VirtualTimeLoop
) -> None:
    manager = await start(
        resident_cap=2, cap_policy="hard", min_residency_ms=10_000, acquire_timeout_ms=500
    )
    refused = 0
    for second in range(60):
        name = "bc"[second % 2]
        try:
            await manager.load(name)
            await manager.release(name)
        except CapacityError:
            refused += 1
        await clock.advance(1)
    assert refused > 20
    assert stage["b"].calls["load"] + stage["c"].calls["load"] <= 7


async def test_a_storm_of_callers_breaks_no_rule(stage: Stage, start: Any) -> None:
    manager = await start(
        resident_cap=3, cap_policy="hard", max_parallel_loads=4, ttl_ms=5, acquire_timeout_ms=60_000
    )
    dice = random.Random(7)
    adapters: dict[str, set[int]] = {}

    async def call(caller: int) -> None:
        for _ in range(25):
            name = dice.choice("abcdefgh")
            async with manager.lease(name, owner=f"caller {caller}") as lease:
                adapters.setdefault(name, set()).add(id(lease.adapter))
                loaded = next(r for r in manager.list_resident() if r.model_id == name)
                assert loaded.state in ("ready", "draining")
                assert loaded.refcount >= 1
                if dice.random() < 0.3:
                    async for _frame in lease.synthesize_stream("Hi."):
                        if dice.random() < 0.3:
                            break
                else:
                    await asyncio.sleep(0)

    await asyncio.gather(*(call(number) for number in range(32)))
    assert stage.peak == 3
    calls = [script.calls for script in stage.scripts.values()]
    assert sum(c["construct"] for c in calls) == manager.statistics().loads
    assert manager.statistics().refusals == 0
    assert [r.refcount for r in manager.list_resident()] == [0] * len(manager.list_resident())
