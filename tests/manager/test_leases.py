"""Leases: the reference that only its holder can give back."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator

import pytest

from greenroom import LeaseReleasedError, ModelLoadError, ModelManager
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    made = ModelManager(catalog=stage.catalog, default_model_id="a", min_residency_ms=0)
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)


def refcount(manager: ModelManager, model_id: str) -> int:
    return next(r.refcount for r in manager.list_resident() if r.model_id == model_id)


async def test_a_lease_holds_one_reference_while_it_is_entered(manager: ModelManager) -> None:
    async with manager.lease("b", owner="call 1") as lease:
        assert lease.held
        assert lease.adapter is await manager.load("b")
        await manager.release("b")
        assert manager.list_resident()[1].owners == ("call 1",)
    assert refcount(manager, "b") == 0
    assert not lease.held


async def test_a_lease_is_dead_before_it_is_taken_and_after_it_was_released(
    manager: ModelManager,
) -> None:
    lease = manager.lease("b")
    with pytest.raises(LeaseReleasedError, match="is new"):
        _ = lease.adapter
    async with lease:
        pass
    with pytest.raises(LeaseReleasedError, match="is released"):
        lease.synthesize_stream("Hello.")
    with pytest.raises(LeaseReleasedError, match="take another"):
        await lease.acquire()


async def test_releasing_a_lease_twice_gives_back_one_reference(manager: ModelManager) -> None:
    lease = await manager.lease("b").acquire()
    await manager.load("b")
    await lease.release()
    await lease.release()
    assert refcount(manager, "b") == 1


async def test_nobody_else_can_give_a_lease_back_even_under_its_name(
    manager: ModelManager,
) -> None:
    async with manager.lease("b", owner="x"):
        for owner in ("x", None):
            with pytest.raises(LeaseReleasedError):
                await manager.release("b", owner=owner)
        async with manager.lease("b", owner="x"):
            assert refcount(manager, "b") == 2
        assert refcount(manager, "b") == 1


async def test_a_lease_whose_load_failed_can_be_tried_again(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.error = RuntimeError("broken")
    lease = manager.lease("b")
    with pytest.raises(ModelLoadError):
        await lease.acquire()
    stage["b"].load.error = None
    await clock.advance(1)
    async with lease:
        assert refcount(manager, "b") == 1


async def test_a_leaked_lease_warns_and_is_given_back(
    manager: ModelManager, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await manager.lease("b", owner="forgetful").acquire()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del lease
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert "Lease of b by forgetful" in str(caught[0].message)
    await clock.settle()
    assert refcount(manager, "b") == 0
    assert "a lease of forgetful was leaked" in caplog.text


async def test_cancelling_an_entering_lease_takes_no_reference(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    entering = asyncio.create_task(manager.lease("b").acquire())
    await clock.settle()
    entering.cancel()
    stage["b"].load.open()
    await clock.settle()
    assert refcount(manager, "b") == 0


async def test_a_lease_shows_its_state(manager: ModelManager) -> None:
    lease = manager.lease("b", owner="x")
    assert repr(lease) == "<Lease of b by x, new>"
    async with lease:
        assert repr(lease) == "<Lease of b by x, held>"


async def test_a_lease_that_outlives_the_manager_is_released_without_an_error(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    await manager.initialize()
    async with manager.lease("a"), manager.lease("b"):
        await manager.shutdown(drain_timeout_ms=0)
        assert stage.loaded == 0
