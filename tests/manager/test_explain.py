"""What a manager tells of itself: explanations, events, statistics."""

from __future__ import annotations

import pytest

from greenroom import (
    ModelLoadError,
    ModelManager,
    ModelNotFoundError,
)
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import running

pytestmark = pytest.mark.virtual_time


async def test_explain_says_why_it_is_or_is_not_in_memory(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=1_000) as manager:
        assert manager.explain("b").summary == "not in memory; nobody asked for it"
        await manager.load("b", owner="x")
        await clock.advance(3)
        told = manager.explain("b")
        assert told.summary == "ready, in use: 1 references"
        assert told.holders == (("x", 3.0),)
        await manager.load("b", owner="x")
        assert manager.explain("b").holders == (("x", 3.0), ("x", 0.0))
        await manager.release("b", owner="x")
        assert [event.kind for event in told.history] == ["loading", "warming", "ready"]
        await manager.release("b", owner="x")
        assert manager.explain("b").summary == "ready and idle; it expires in 1.0 s"
        await clock.advance(6)
        gone = manager.explain("b")
        assert gone.summary == "not in memory; unloading 5.0 s ago: idle longer than its TTL"
        assert "gone: its memory is given back" in str(gone)
        assert manager.explain("a").summary.startswith("ready and pinned")
        stage["c"].load.error = RuntimeError("broken")
        with pytest.raises(ModelLoadError):
            await manager.load("c")
        assert "it failed 1 times in a row (RuntimeError: broken), next try in 1.0 s" in (
            manager.explain("c").summary
        )
        with pytest.raises(ModelNotFoundError):
            manager.explain("nobody")


async def test_subscribers_see_every_step_in_order_and_end_with_the_manager(stage: Stage) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", min_residency_ms=0)
    events = manager.subscribe()
    await manager.initialize()
    await manager.load("b", owner="x")
    await manager.release("b", owner="x")
    await manager.shutdown()
    seen = [(event.model_id, str(event.kind)) async for event in events]
    assert seen[:-2] == [
        ("a", "pinned"),
        ("a", "loading"),
        ("a", "warming"),
        ("a", "ready"),
        ("b", "loading"),
        ("b", "warming"),
        ("b", "ready"),
        ("a", "unloading"),
        ("b", "unloading"),
    ]
    assert sorted(seen[-2:]) == [("a", "gone"), ("b", "gone")]


async def test_statistics_and_repr_tell_the_whole_state(stage: Stage) -> None:
    async with running(stage, preload_model_ids=["b"], memory_budget_mb=512) as manager:
        await manager.load("b")
        await manager.load("b")
        totals = manager.statistics()
        assert (totals.hits, totals.loads, totals.resident_cap) == (2, 2, 3)
        assert totals.budget_mb == {"cpu": 512}
        assert totals.residents == manager.list_resident()
        assert repr(manager) == "<ModelManager 2/3 [a ready x0, b ready x2]>"
        assert [spec.model_id for spec in manager.list_catalog()] == list("abcdefgh")
