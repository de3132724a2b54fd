"""Listeners who play at real time: what is a gap and what is not, and who is kept up meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from greenroom import ModelManager
from greenroom.concurrency.cores import CORES
from greenroom.speech.dispatcher import Dispatcher
from greenroom.speech.scheduler import StreamState
from greenroom.speech.stream import SpeechStream
from greenroom.testing import Stage, VirtualTimeLoop
from tests.overload import cost_as_much_as_there_is

pytestmark = pytest.mark.virtual_time

FRAME_S = 0.02


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    made = ModelManager(
        catalog=stage.catalog, default_model_id="a", min_residency_ms=0, synthesis_timeout_ms=90_000
    )
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)


async def play(stream: SpeechStream, clock: VirtualTimeLoop, frames: int) -> int:
    """Take frames as a player does, one in 20 ms; return how many came."""
    came = 0
    for _ in range(frames):
        frame = asyncio.ensure_future(anext(stream, None))
        await clock.advance(FRAME_S)
        if await frame is None:
            break
        came += 1
    return came


async def rest(stream: AsyncIterator[object]) -> int:
    return len([frame async for frame in stream])


async def test_who_plays_at_real_time_hears_all_of_it_without_a_gap(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    stream = (await manager.load("a")).synthesize_stream("One is here. Two is there.")
    assert await play(stream, clock, 100) == 50
    assert (stream.gaps, stream.late_s) == (0, 0.0)


async def test_a_listener_that_stalls_and_comes_back_has_its_own_gap_and_loses_nothing(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["a"].chunks = 40  # four seconds: more than is made ahead
    stream = (await manager.load("a")).synthesize_stream("One is here.")
    assert await play(stream, clock, 10) == 10
    await clock.advance(30.0)
    assert await play(stream, clock, 500) == 190
    assert stream.gaps == 0


async def test_a_pause_is_no_gap(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["a"].chunks = 40
    stream = (await manager.load("a")).synthesize_stream("One is here.")
    assert await play(stream, clock, 10) == 10
    waiting = asyncio.ensure_future(anext(stream))
    stream.pause()
    await clock.advance(60.0)
    stream.resume()
    await waiting
    assert await play(stream, clock, 500) == 189
    assert stream.gaps == 0


async def test_text_that_comes_word_by_word_makes_no_gap_of_ours(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    async def words() -> AsyncIterator[str]:
        for word in [
            "One",
            "is",
            "here",
            "now.",
            "Two",
            "is",
            "over",
            "there.",
            "Three",
            "is",
            "nowhere.",
        ]:
            await asyncio.sleep(0.7)
            yield f"{word} "

    stream = (await manager.load("a")).synthesize_stream(words())
    listening = asyncio.ensure_future(rest(stream))
    await clock.advance(20.0)
    assert await listening == 75
    assert (stream.gaps, stream.late_s) == (0, 0.0)


async def test_audio_of_a_text_that_comes_late_is_held_until_it_lasts_like_any_other(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def words() -> AsyncIterator[str]:
        await asyncio.sleep(0.7)
        yield "One is here. "
        yield "Two is there."

    made: list[float] = []

    def not_yet(dispatcher: Dispatcher, stream: StreamState, made_s: float) -> bool:
        made.append(made_s)
        return False

    monkeypatch.setattr(Dispatcher, "may_be_heard", not_yet)
    stream = (await manager.load("a")).synthesize_stream(words())
    listening = asyncio.ensure_future(rest(stream))
    await clock.advance(1.0)
    assert made, "nobody asked whether it lasts"
    await clock.advance(1.0)
    assert await listening == 50, "at the end all of it is handed over"


async def test_audio_that_comes_too_late_is_a_gap_for_as_long_as_the_listener_was_silent(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["a"].chunks = 40  # four seconds, of which two are made ahead
    stream = (await manager.load("a")).synthesize_stream("One is here.")
    assert await play(stream, clock, 10) == 10
    stage["a"].synthesize.hold()
    listening = asyncio.ensure_future(rest(stream))
    await clock.advance(5.0)
    stage["a"].synthesize.open()
    assert await listening == 190
    assert stream.gaps == 1
    assert 2.5 < stream.late_s < 3.0  # it had two seconds and a chunk to hear


async def test_what_is_made_is_handed_over_before_a_text_that_takes_long_to_close(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    class Slow:
        """One sentence; closing it takes more than a second."""

        def __init__(self) -> None:
            self._pieces = iter(["One is here."])

        def __aiter__(self) -> AsyncIterator[str]:
            return self

        async def __anext__(self) -> str:
            for piece in self._pieces:
                return piece
            raise StopAsyncIteration

        async def aclose(self) -> None:
            await asyncio.sleep(1.5)

    adapter = await manager.load("a")
    cost_as_much_as_there_is(adapter)  # so that nothing lasts, and all is held
    stream = adapter.synthesize_stream(Slow())
    first = asyncio.ensure_future(anext(stream))
    await clock.advance(0.01)
    assert first.done()
    await clock.advance(2.0)
    assert await rest(stream) == 24


async def test_while_a_model_hangs_on_every_core_the_others_go_on_within_a_second(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    hanging, other = await manager.load("a"), await manager.load("b")
    stage["a"].synthesize.hold()
    hung = [
        asyncio.ensure_future(rest(hanging.synthesize_stream(f"Number {n} hangs.")))
        for n in range(CORES.count)
    ]
    await clock.settle()
    assert CORES.idle == 0
    listening = asyncio.ensure_future(rest(other.synthesize_stream("This one is heard.")))
    await clock.advance(0.5)
    assert not listening.done()
    await clock.advance(0.6)
    assert await listening == 25
    stage["a"].synthesize.open()
    await clock.advance(1.0)
    assert await asyncio.gather(*hung) == [25] * CORES.count
    await clock.settle()
    assert CORES.idle == CORES.count


async def test_sixty_four_callers_at_one_instant_all_hear_all_of_it(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    adapters = [await manager.load(name) for name in "ab"]
    streams = [adapters[n % 2].synthesize_stream(f"Number {n}. And more.") for n in range(64)]
    listening = asyncio.gather(*map(rest, streams))
    await clock.advance(5.0)
    assert await listening == [50] * 64
    assert CORES.idle == CORES.count
    assert manager.statistics().capacity_used == 0.0
