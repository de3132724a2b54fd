"""Which models leave by themselves and when: TTL, min residency, cap and budget."""

from __future__ import annotations

import asyncio

import pytest

from greenroom import (
    CapacityError,
    Catalog,
    ModelManager,
    ModelSpec,
)
from greenroom.ledger.residency import Residency
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import ids, one, running

pytestmark = pytest.mark.virtual_time


async def test_an_idle_model_expires_when_its_ttl_is_over_and_not_before(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=10_000, evict_check_interval_ms=3_000) as manager:
        await manager.load("b")
        await clock.advance(60)
        await manager.release("b")
        assert one(manager, "b").expires_in_s == 10.0
        await clock.advance(9.9)
        assert one(manager, "b").idle_s == pytest.approx(9.9)
        await clock.advance(0.2)
        assert ids(manager) == ["a"]
        assert stage["b"].calls["unload"] == 1
        assert manager.statistics().expirations == 1


async def test_using_a_model_again_starts_its_idle_time_anew(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=10_000) as manager:
        await manager.load("b")
        await manager.release("b")
        await clock.advance(9)
        await manager.load("b")
        await manager.release("b")
        await clock.advance(9)
        assert ids(manager) == ["a", "b"]
        await clock.advance(1.1)
        assert ids(manager) == ["a"]


async def test_a_model_is_kept_for_its_min_residency_even_if_idle(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=0, min_residency_ms=20_000) as manager:
        await manager.load("b")
        await manager.release("b")
        await clock.advance(19.9)
        assert ids(manager) == ["a", "b"]
        await clock.advance(0.2)
        assert ids(manager) == ["a"]


async def test_ttl_zero_unloads_on_the_last_release(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, ttl_ms=0) as manager:
        await manager.load("b")
        await manager.load("b")
        await manager.release("b")
        await clock.settle()
        assert "b" in ids(manager)
        await manager.release("b")
        await clock.settle()
        assert ids(manager) == ["a"]


async def test_a_negative_ttl_never_expires(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, ttl_ms=-1, evict_check_interval_ms=3_600_000) as manager:
        await manager.load("b")
        await manager.release("b")
        await clock.advance(1_000_000)
        assert ids(manager) == ["a", "b"]
        assert one(manager, "b").expires_in_s is None


async def test_a_model_may_have_a_ttl_of_its_own(stage: Stage, clock: VirtualTimeLoop) -> None:
    catalog = Catalog([*stage.catalog, ModelSpec("short", stage.adapter, ttl_ms=500)])
    stage.scripts["short"] = stage["h"]
    manager = ModelManager(catalog=catalog, default_model_id="a", min_residency_ms=0)
    await manager.initialize()
    for name in ("b", "short"):
        await manager.load(name)
        await manager.release(name)
    assert one(manager, "short").expires_in_s == 0.5
    await clock.advance(1)
    assert ids(manager) == ["a", "b"]
    await manager.shutdown()


async def test_the_pinned_default_stays(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, ttl_ms=1_000, resident_cap=1) as manager:
        await clock.advance(100)
        await manager.load("b")
        assert ids(manager) == ["a", "b"]
        manager.unpin("a")
        await clock.settle()
        assert ids(manager) == ["b"]


async def test_the_least_recently_used_makes_room_before_the_load(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=3) as manager:
        for name in "bc":
            await manager.load(name)
            await clock.advance(1)
        await manager.release("c")
        await clock.advance(1)
        await manager.release("b")
        await manager.load("d")
        assert ids(manager) == ["a", "b", "d"]
        assert stage.peak == 3
        assert manager.statistics().evictions == 1


async def test_soft_cap_is_exceeded_only_while_everybody_is_in_use(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=2) as manager:
        for name in "bcd":
            await manager.load(name)
        assert ids(manager) == ["a", "b", "c", "d"]
        await manager.release("c")
        await clock.settle()
        assert ids(manager) == ["a", "b", "d"]
        await manager.release("d")
        await clock.settle()
        assert ids(manager) == ["a", "b"]
        await manager.release("b")
        await clock.settle()
        assert ids(manager) == ["a", "b"]


async def test_hard_cap_is_never_exceeded_and_waiters_are_served_in_order(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=2, cap_policy="hard") as manager:
        await manager.load("b")
        callers = {name: asyncio.create_task(manager.load(name)) for name in "cd"}
        await clock.settle()
        assert manager.statistics().waiting == 2
        await manager.release("b")
        await clock.settle()
        assert callers["c"].done()
        assert not callers["d"].done()
        await manager.release("c")
        await callers["d"]
        assert stage.peak == 2


async def test_waiting_for_room_ends_with_the_time_when_there_can_be_some(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(
        stage, resident_cap=2, cap_policy="hard", acquire_timeout_ms=5_000
    ) as manager:
        await manager.load("b")
        caller = asyncio.create_task(manager.load("c"))
        await clock.advance(4.9)
        assert not caller.done()
        await clock.advance(0.2)
        with pytest.raises(CapacityError, match="no room came free in time") as raised:
            await caller
        assert raised.value.retry_after == 1.0
        assert manager.statistics().refusals == 1


async def test_a_refusal_that_is_certain_comes_at_once(stage: Stage) -> None:
    async with running(
        stage, resident_cap=2, cap_policy="hard", min_residency_ms=60_000
    ) as manager:
        await manager.load("b")
        with pytest.raises(CapacityError, match="min residency") as raised:
            await manager.load("c")
        assert raised.value.retry_after == 60.0
        manager.pin("b")
        with pytest.raises(CapacityError) as never:
            await manager.load("c")
        assert never.value.retry_after is None


async def test_the_memory_budget_decides_by_the_catalogs_footprints(
    clock: VirtualTimeLoop,
) -> None:
    stage = Stage("a", "b", "c", "d", footprint_mb=100)
    async with running(stage, memory_budget_mb=300, resident_cap=8) as manager:
        for name in "bc":
            await manager.load(name)
        assert manager.statistics().footprint_mb == 300
        caller = asyncio.create_task(manager.load("d"))
        await clock.settle()
        assert not caller.done()
        await manager.release("b")
        await caller
        assert ids(manager) == ["a", "c", "d"]


async def test_a_model_larger_than_the_budget_is_refused_at_once() -> None:
    stage = Stage("a", "b", footprint_mb=100)
    stage.catalog = Catalog([*stage.catalog, ModelSpec("huge", stage.adapter, footprint_mb=1_000)])
    async with running(stage, memory_budget_mb=300) as manager:
        with pytest.raises(CapacityError, match="larger than the memory budget"):
            await manager.load("huge")


async def test_a_measured_footprint_replaces_the_catalogs_and_is_remembered() -> None:
    stage = Stage("a", "b", footprint_mb=100)
    stage["b"].footprint = 7 * 1024 * 1024
    async with running(stage) as manager:
        await manager.load("b")
        assert one(manager, "b").footprint_mb == 7
    async with running(stage, memory_budget_mb=110) as manager:
        await manager.load("b")
        assert ids(manager) == ["a", "b"]


async def test_evict_idle_returns_what_is_due_once_it_is_gone(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=10_000) as manager:
        await manager.load("b")
        await manager.release("b")
        assert await manager.evict_idle() == ()
        clock._now += 10
        assert await manager.evict_idle() == ("b",)
        assert ids(manager) == ["a"]
        assert stage.loaded == 1


async def test_evict_idle_does_not_wait_for_ever_for_an_engine_that_hangs(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=10_000) as manager:
        await manager.load("b")
        await manager.release("b")
        stage["b"].unload.hold()
        clock._now += 10
        evicting = asyncio.create_task(manager.evict_idle())
        await clock.advance(10.1)
        assert await evicting == ("b",)
        assert one(manager, "b").state == "unloading"


async def test_what_is_due_is_looked_for_once_an_interval_whatever_the_ledger_expects(
    stage: Stage, clock: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Residency, "next_due", lambda _: float("inf"))
    async with running(stage, ttl_ms=32_000, evict_check_interval_ms=64_000) as manager:
        await manager.load("b")
        await manager.release("b")
        await clock.advance(63.96875)
        assert ids(manager) == ["a", "b"]
        await clock.advance(0.03125)
        assert ids(manager) == ["a"]
