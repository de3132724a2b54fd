"""More streams than the machine can keep up: they wait in line, or are refused with a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import ModelManager
from greenroom.adapter import TTSAdapter, open_stream
from greenroom.audio.framing import check_rate
from greenroom.errors import OverloadedError
from greenroom.journal import Kind
from greenroom.speech.stream import SpeechStream
from greenroom.speech.text import CheckedText
from greenroom.testing import Stage, VirtualTimeLoop
from tests.overload import cost_as_much_as_there_is, endless

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    made = ModelManager(catalog=stage.catalog, default_model_id="a", min_residency_ms=0)
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)


async def begun(adapter: TTSAdapter, clock: VirtualTimeLoop) -> SpeechStream:
    """Return a stream that is heard, and whose text has no end."""
    stream = speak(adapter, endless(), None)
    first = asyncio.ensure_future(anext(stream))
    await clock.advance(0.1)
    await first
    return stream


def speak(adapter: TTSAdapter, text: Any, begin_limit: float | None) -> SpeechStream:
    return open_stream(adapter, CheckedText(text), {}, check_rate(48_000), begin_limit=begin_limit)


async def test_one_more_stream_waits_until_another_has_ended(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    cost_as_much_as_there_is(adapter)
    first = await begun(adapter, clock)
    assert manager.statistics().capacity_used > 0.8
    second = speak(adapter, "Me too.", 5.0)
    waiting = asyncio.ensure_future(anext(second))
    await clock.advance(2.0)
    assert not waiting.done()
    assert manager.statistics().streams_waiting == 1
    await first.aclose()
    await waiting
    await second.aclose()
    found = manager.statistics()
    assert (found.streams_waiting, found.capacity_used) == (0, 0.0)


@pytest.mark.parametrize("limit", [0.0, 1.5])
async def test_it_is_refused_after_its_limit_with_a_time_to_try_again(
    manager: ModelManager, clock: VirtualTimeLoop, limit: float
) -> None:
    adapter = await manager.load("a")
    cost_as_much_as_there_is(adapter)
    first = await begun(adapter, clock)
    refused = asyncio.ensure_future(anext(speak(adapter, "Me too.", limit)))
    await clock.advance(limit)
    with pytest.raises(OverloadedError, match="cannot keep up one more") as raised:
        await refused
    assert raised.value.retry_after > 0
    assert len([f async for f in speak(await manager.load("b"), "A cheap one.", 9.0)]) == 25, (
        "another model's cost is its own"
    )
    await first.aclose()


async def test_a_stream_that_is_stopped_in_line_leaves_it(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    cost_as_much_as_there_is(adapter)
    first = await begun(adapter, clock)
    second = speak(adapter, "Me too.", 50.0)
    waiting = asyncio.ensure_future(anext(second))
    await clock.settle()
    second.stop()
    assert isinstance(
        (await asyncio.gather(waiting, return_exceptions=True))[0], StopAsyncIteration
    )
    await second.aclose()
    assert manager.statistics().streams_waiting == 0
    await first.aclose()


async def test_a_listener_who_falls_silent_is_told_of_with_the_reason_once_for_each_stream(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    stage["a"].chunks = 3
    stream = adapter.synthesize_stream("A sentence. And another. And a third.")
    for _ in range(4):  # of 15 frames in its first sentence
        await anext(stream)
    stage["a"].synthesize.hold()
    heard = asyncio.ensure_future(_rest(stream))
    await clock.advance(3.0)
    stage["a"].synthesize.open()
    await heard
    silent = [e for e in manager.explain("a").history if e.kind is Kind.SILENT]
    assert len(silent) == 1
    assert "a listener heard nothing for 2." in silent[0].reason
    assert "cores can do" in silent[0].reason
    assert 2.0 < stream.late_s < 3.0
    assert stream.gaps == 1
    (resident,) = manager.list_resident()
    assert resident.gaps == 1
    assert resident.late_s == pytest.approx(stream.late_s)
    assert manager.explain("a").resident == resident


async def _rest(stream: SpeechStream) -> int:
    return len([frame async for frame in stream])
