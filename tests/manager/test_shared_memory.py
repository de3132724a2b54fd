"""What models have in common, such as a graph, is booked once, whoever of them comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from greenroom import ModelManager
from greenroom.memory.usage import MIB
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    """A manager with room for all."""
    made = ModelManager(catalog=stage.catalog, default_model_id="a")
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)


@pytest.fixture
def graph(stage: Stage) -> None:
    """Have models b and c take 10 MB each, and a graph of 64 MB together."""
    for name in ("b", "c"):
        stage[name].footprint = 10 * MIB
        stage[name].shared = ("graph", 64 * MIB)


def booked(manager: ModelManager) -> dict[str, tuple[float, float]]:
    return {r.model_id: (r.footprint_mb, r.shared_mb) for r in manager.list_resident()}


async def test_the_first_carries_it_and_the_next_takes_over_when_that_leaves(
    manager: ModelManager, graph: None
) -> None:
    await manager.load("b")
    await manager.load("c")
    assert booked(manager) == {"a": (0, 0), "b": (74, 64), "c": (10, 0)}
    await manager.release("b")
    await manager.unload("b")
    assert booked(manager) == {"a": (0, 0), "c": (74, 64)}
    found = manager.statistics()
    assert found.footprint_mb == sum(r.footprint_mb for r in found.residents) == 74
    await manager.release("c")
    await manager.unload("c")
    assert manager.statistics().footprint_mb == 0


async def test_it_is_told_as_an_account_of_its_own(manager: ModelManager, graph: None) -> None:
    assert manager.statistics().shared == ()
    await manager.load("b")
    await manager.load("c")
    (part,) = manager.statistics().shared
    assert (part.name, part.size_mb, part.device, part.model_ids) == (
        "graph",
        64,
        "cpu",
        ("b", "c"),
    )
    said = "graph: 64 MB, booked with b, shared by c"
    assert f"  {said}" in str(manager.explain("b")).splitlines()
    assert f"  {said}" in str(manager.explain("c")).splitlines()
    assert "graph" not in str(manager.explain("a"))


async def test_a_later_load_is_expected_to_take_its_own_only(
    manager: ModelManager, graph: None, stage: Stage, clock: VirtualTimeLoop
) -> None:
    for name in ("b", "c"):
        await manager.load(name)
        await manager.release(name)
    await manager.unload("b")
    stage["b"].load.hold()
    loading = asyncio.create_task(manager.load("b"))
    await clock.settle()
    assert booked(manager) == {"a": (0, 0), "c": (74, 64), "b": (10, 0)}
    stage["b"].load.open()
    await loading


async def test_what_was_stated_is_remembered_for_the_next_start(
    graph: None, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_CACHE_DIR", str(tmp_path))
    for _ in range(2):
        async with ModelManager(catalog=stage.catalog, default_model_id="a") as manager:
            await manager.load("b")
            await manager.release("b")
            expected = manager._effects.footprints.expected(stage.catalog.get("b"))
    assert expected.shared is not None
    assert (expected.footprint, expected.shared.size) == (10 * MIB, 64 * MIB)
    assert "10.0 MB beside 64.0 MB of graph, as the model itself says" in expected.source
