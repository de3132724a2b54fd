"""What is kept of a resident is kept as long as it is one, however it came and went."""

from __future__ import annotations

import asyncio

import pytest

from greenroom import ModelLoadError, ModelManager, UnloadError
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


def kept(manager: ModelManager) -> list[str]:
    """Return the models of which there is a record; each must be a resident."""
    records = manager._effects._records
    assert set(records) == set(manager._ledger.residents)
    return sorted(resident.model_id for resident in records)


async def test_a_model_that_was_unloaded_leaves_no_record(
    manager: ModelManager, stage: Stage
) -> None:
    await manager.load("b")
    await manager.release("b")
    assert kept(manager) == ["a", "b"]
    await manager.unload("b")
    assert kept(manager) == ["a"]


@pytest.mark.parametrize("step", ["construct", "load", "warm_up"])
async def test_a_load_that_failed_leaves_no_record(
    manager: ModelManager, stage: Stage, step: str
) -> None:
    getattr(stage["b"], step).error = RuntimeError("broken")
    with pytest.raises(ModelLoadError):
        await manager.load("b")
    assert kept(manager) == ["a"]


async def test_a_load_that_hangs_has_a_record_until_it_ends(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    loading = asyncio.create_task(manager.load("b"))
    await clock.advance(5.1)
    with pytest.raises(ModelLoadError):
        await loading
    assert kept(manager) == ["a", "b"]
    stage["b"].load.open()
    await clock.settle()
    assert kept(manager) == ["a"]


async def test_an_unload_that_hangs_has_a_record_until_it_ends(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await manager.load("b")
    await manager.release("b")
    stage["b"].unload.hold()
    unloading = asyncio.create_task(manager.unload("b"))
    await clock.advance(10.1)
    with pytest.raises(UnloadError):
        await unloading
    assert kept(manager) == ["a", "b"]
    stage["b"].unload.open()
    await clock.settle()
    assert kept(manager) == ["a"]


async def test_a_load_that_no_task_could_be_started_for_leaves_no_record(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(coroutine: object, name: str) -> None:
        coroutine.close()  # type: ignore[attr-defined]
        raise RuntimeError("no task")

    with monkeypatch.context() as patch:
        patch.setattr(manager._effects.tasks, "begin", fail)
        with pytest.raises(ModelLoadError, match="no task"):
            await manager._effects.request(manager.catalog.get("b"), None)
    assert kept(manager) == ["a"]
    caplog.clear()
