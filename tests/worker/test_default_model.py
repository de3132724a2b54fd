"""The pinned default model comes back when it was lost, and stays away when it was sent away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import ModelInUseError, ModelLoadError, ModelManager, ModelNotResidentError
from greenroom.config.schema import WorkerSettings
from greenroom.testing import Stage, VirtualTimeLoop
from greenroom.worker.synthesis import Command, Synthesis

pytestmark = pytest.mark.virtual_time


class FollowedDefault:
    """A worker's synthesis whose default model is followed."""

    def __init__(self, stage: Stage, **settings: Any) -> None:
        settings = {"default_model_id": "a", "min_residency_ms": 0, **settings}
        self.manager = ModelManager(catalog=stage.catalog, **settings)
        self.synthesis = Synthesis(self.manager, WorkerSettings())
        self.readiness = self.synthesis.readiness
        self.following: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        await self.manager.initialize()
        self.readiness.open()
        self.following = asyncio.create_task(self.synthesis.default_model.follow())

    async def fail_reload(self, stage: Stage) -> None:
        """Have a session's reload fail, and every load until the engine's error is taken away."""
        stage["a"].load.error = OSError("broken")
        with pytest.raises(ModelLoadError):
            await self.synthesis.control("s", Command.RELOAD)

    async def end(self) -> None:
        await self.synthesis.drain(0)
        await self.manager.shutdown(drain_timeout_ms=0)
        assert self.following is not None
        self.following.cancel()
        await asyncio.wait([self.following])


@pytest.fixture
async def worker(stage: Stage) -> AsyncIterator[FollowedDefault]:
    followed = await asyncio.to_thread(FollowedDefault, stage)
    await followed.begin()
    yield followed
    stage.open_all()
    await followed.end()


async def test_a_default_whose_reload_failed_is_loaded_again_until_it_is_back(
    worker: FollowedDefault, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await worker.synthesis.start_session("s")
    await worker.fail_reload(stage)
    await clock.settle()
    assert not worker.readiness.verdict().ready
    await clock.advance(20)
    attempts = sum(e.kind == "failed" for e in worker.manager.journal.events("a"))
    assert 3 <= attempts <= 8  # with a growing wait between them
    assert not worker.readiness.verdict().ready
    stage["a"].load.error = None
    await clock.advance(61)
    assert worker.readiness.verdict().problems == ()
    assert [r.refcount for r in worker.manager.list_resident()] == [0]


async def test_a_default_that_is_lost_in_a_reload_that_was_given_up_comes_back(
    worker: FollowedDefault, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await worker.synthesis.start_session("s")
    stage["a"].load.hold()
    reloading = asyncio.gather(
        worker.synthesis.control("s", Command.RELOAD), return_exceptions=True
    )
    await clock.settle()
    await worker.synthesis.end_session("s")
    await reloading
    stage["a"].load.open()
    await clock.advance(1)
    assert worker.readiness.verdict().ready


async def test_a_default_that_an_administrator_unloads_stays_away_until_somebody_asks(
    worker: FollowedDefault, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await worker.synthesis.unload_model("a")
    await clock.advance(600)
    assert worker.manager.list_resident() == ()
    assert not worker.readiness.verdict().ready
    stage["a"].load.error = OSError("broken")
    with pytest.raises(ModelLoadError):
        await worker.synthesis.load_model("a", owner="someone")
    await clock.advance(600)
    assert worker.manager.list_resident() == ()  # nobody has it who would miss it
    stage["a"].load.error = None
    await worker.synthesis.load_model("a", owner="someone")
    await clock.settle()
    await worker.synthesis.start_session("s")
    await worker.fail_reload(stage)
    stage["a"].load.error = None
    await clock.advance(61)
    assert worker.readiness.verdict().ready  # it was wanted again, so it is missed


async def test_an_unload_ends_the_tries_to_bring_the_default_back(
    worker: FollowedDefault, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await worker.synthesis.start_session("s")
    await worker.fail_reload(stage)
    await clock.advance(2)
    with pytest.raises(ModelNotResidentError):
        await worker.synthesis.unload_model("a")
    stage["a"].load.error = None
    await clock.advance(600)
    assert worker.manager.list_resident() == ()


async def test_an_unload_that_is_refused_changes_nothing(
    worker: FollowedDefault, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await worker.synthesis.start_session("s")
    with pytest.raises(ModelInUseError):
        await worker.synthesis.unload_model("a", drain=False)
    await worker.fail_reload(stage)
    stage["a"].load.error = None
    await clock.advance(61)
    assert worker.readiness.verdict().ready


async def test_a_default_that_is_not_pinned_is_left_alone(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    worker = await asyncio.to_thread(FollowedDefault, stage, pin_default=False, ttl_ms=1_000)
    await worker.begin()
    await clock.advance(60)
    assert worker.manager.list_resident() == ()
    await worker.end()


async def test_bringing_it_back_ends_with_the_manager(
    worker: FollowedDefault, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await worker.synthesis.start_session("s")
    await worker.fail_reload(stage)
    await clock.settle()
    await worker.manager.shutdown(drain_timeout_ms=0)
    await clock.advance(120)
    assert worker.following is not None
    assert worker.following.done()
