"""What an adapter states of itself is checked, and harms only its own load."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from greenroom import ModelLoadError, ModelManager
from greenroom.testing import Stage
from tests.manager.running_manager import ids

pytestmark = pytest.mark.virtual_time


NONSENSE = [-1, 0.5, float("nan"), float("inf"), "8", True, [], 10**400]


@pytest.mark.parametrize("value", [*NONSENSE, 0])
async def test_a_concurrency_that_is_no_number_of_threads_fails_the_load(
    manager: ModelManager, stage: Stage, value: Any
) -> None:
    stage.adapter.concurrency = value
    with pytest.raises(ModelLoadError, match="concurrency"):
        await manager.load("b")
    stage.adapter.concurrency = None
    assert await manager.load("c")


@pytest.mark.parametrize("method", ["footprint_bytes", "mapped_bytes"])
@pytest.mark.parametrize("value", [*NONSENSE, b"1"])
async def test_a_footprint_that_is_no_size_fails_the_load_and_says_so(
    manager: ModelManager,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    value: Any,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage.adapter, method, lambda _: value)
        with pytest.raises(ModelLoadError, match=method):
            await manager.load("b")
    assert await manager.load("c")


@pytest.mark.parametrize(
    "value", ["graph", ("graph",), ("graph", -1), ("graph", "8"), (b"graph", 8), ("graph", 8, 8), 8]
)
async def test_shared_memory_that_is_no_name_and_size_fails_the_load_and_says_so(
    manager: ModelManager, stage: Stage, value: Any
) -> None:
    stage["b"].shared = value
    with pytest.raises(ModelLoadError, match="shared_memory"):
        await manager.load("b")
    assert await manager.load("c")


async def test_numbers_of_numpy_are_numbers(manager: ModelManager, stage: Stage) -> None:
    stage["b"].footprint = np.int64(64 << 20)  # type: ignore[assignment]
    stage["b"].mapped = np.float32(1 << 20)  # type: ignore[assignment]
    stage.adapter.concurrency = np.int32(2)  # type: ignore[assignment]
    stage.adapter.sample_rate = np.int64(16_000)  # type: ignore[assignment]
    async with manager.lease("b") as lease:
        frames = [frame async for frame in lease.synthesize_stream("Hello there.")]
    assert len(frames) == 25
    (found,) = (r for r in manager.list_resident() if r.model_id == "b")
    assert (found.footprint_mb, type(found.footprint_mb)) == (64, float)
    stage.adapter.sample_rate = 16_000


@pytest.mark.parametrize("name", ["concurrency", "sample_rate", "footprint_bytes", "form"])
async def test_properties_that_raise_end_only_their_own_load(
    manager: ModelManager, stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def lie(self: object) -> Any:
        raise SystemExit(2) if name != "form" else RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(stage.adapter, name, property(lie))
        if name == "form":
            assert await manager.load("b")
            await manager.release("b")
        else:
            with pytest.raises(ModelLoadError, match="SystemExit"):
                await manager.load("b")
    assert await manager.load("c")
    assert ids(manager) == ["a", "c"]


async def test_a_form_is_asked_for_in_a_thread_as_that_may_take_its_time(
    manager: ModelManager, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[threading.Thread] = []

    def form(self: object) -> str:
        asked.append(threading.current_thread())
        return "small"

    monkeypatch.setattr(stage.adapter, "form", property(form))
    await manager.load("b")
    await manager.release("b")
    await manager.unload("b")
    assert asked
    assert threading.main_thread() not in asked


async def test_an_adapter_that_minds_what_is_set_on_it_speaks_like_others(
    manager: ModelManager, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mind(self: object, name: str, value: object) -> None:
        if name == "_host":
            raise SystemExit
        object.__setattr__(self, name, value)

    monkeypatch.setattr(stage.adapter, "__setattr__", mind)
    async with manager.lease("b") as lease:
        assert [frame async for frame in lease.synthesize_stream("One.")]
