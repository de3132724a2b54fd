"""Each limit is its own: that of a load or warmup, and that of a chunk of speech."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from greenroom import LoadTimeoutError, ModelManager, SynthesisError
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

FRAMES = 25
"""Of what a fake engine speaks."""


async def started(stage: Stage, **settings: Any) -> ModelManager:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", **settings)
    await manager.initialize()
    return manager


async def frames_of(stream: Any) -> int:
    return len([frame async for frame in stream])


async def test_a_chunk_that_takes_too_long_ends_its_stream_only_though_a_load_may_take_longer(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager = await started(stage, synthesis_timeout_ms=3_000, load_timeout_ms=60_000)
    stuck, well = await manager.load("a"), await manager.load("b")
    stage["a"].synthesize.hold()
    stage["c"].load.hold()
    hung = asyncio.create_task(frames_of(stuck.synthesize_stream("It hangs.")))
    loading = asyncio.create_task(manager.load("c"))
    await clock.advance(2.9)
    assert not hung.done()
    await clock.advance(0.2)
    with pytest.raises(SynthesisError, match=r"within 3 s; raise synthesis_timeout_ms\.$"):
        await hung
    assert manager.statistics().hanging == ("a",)
    assert await frames_of(well.synthesize_stream("It speaks.")) == FRAMES
    await clock.advance(50)
    assert not loading.done()
    stage["c"].load.open()
    assert await loading
    stage["a"].synthesize.open()
    await clock.settle()
    assert await frames_of(stuck.synthesize_stream("It speaks again.")) == FRAMES
    await manager.shutdown(drain_timeout_ms=0)


async def test_a_load_that_takes_too_long_fails_though_a_chunk_may_take_longer(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    manager = await started(stage, load_timeout_ms=3_000, synthesis_timeout_ms=60_000)
    adapter = await manager.load("a")
    stage["a"].synthesize.hold()
    stage["b"].load.hold()
    slow = asyncio.create_task(frames_of(adapter.synthesize_stream("It is slow.")))
    loading = asyncio.create_task(manager.load("b"))
    await clock.advance(3.1)
    with pytest.raises(LoadTimeoutError, match="within 3 s; raise load_timeout_ms"):
        await loading
    await clock.advance(50)
    assert not slow.done()
    stage.open_all()
    assert await slow == FRAMES
    await manager.shutdown(drain_timeout_ms=0)


async def test_a_stream_waits_for_its_turn_in_a_model_as_long_as_for_a_chunk(
    clock: VirtualTimeLoop,
) -> None:
    stage = Stage("a", concurrency=1)
    manager = await started(stage, synthesis_timeout_ms=3_000, load_timeout_ms=60_000)
    adapter = await manager.load("a")
    stage["a"].synthesize.hold()
    tasks = []
    for text in ("It hangs.", "It waits."):
        tasks.append(asyncio.create_task(frames_of(adapter.synthesize_stream(text))))
        await clock.advance(0.5)
    await clock.advance(3)
    first, second = (str(task.exception()) for task in tasks)
    assert "made no audio within 3 s" in first
    assert "was not free within 3 s; try again, or raise synthesis_timeout_ms." in second
    stage.open_all()
    await manager.shutdown(drain_timeout_ms=0)
