"""From the engine's thread to the event loop: few changes of thread, and nothing held back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import pytest

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.audio.frames import AudioChunk
from greenroom.speech import speaker
from greenroom.speech.host import UnmanagedHost
from greenroom.speech.stream import SpeechStream
from greenroom.speech.text import CheckedText
from greenroom.testing import Gate, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

T = TypeVar("T")

RATE = 16_000
CHUNKS = 30
FRAMES = 5
"""Of one chunk."""


class Stepped(TTSAdapter):
    """Makes chunks of 100 ms, each behind a gate of its own."""

    sample_rate = RATE

    def __init__(self) -> None:
        super().__init__(ModelSpec("stepped", Stepped))
        self.gates = [Gate() for _ in range(CHUNKS)]

    def load(self) -> None:
        pass

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        for gate in self.gates:
            gate.go_through()
            yield AudioChunk(np.full(RATE // 10, 0.5, np.float32), RATE)

    def unload(self) -> None:
        pass

    def stop_before(self, number: int) -> None:
        """Make all chunks before this one, and wait there."""
        self.gates[number].hold()
        for gate in self.gates[:number]:
            gate.open()


class CountingHost(UnmanagedHost):
    """Counts the steps that threads are asked for."""

    def __init__(self, *, core_wanted: bool = False) -> None:
        super().__init__()
        self.core_wanted = core_wanted
        self.steps = 0

    async def run(self, step: Callable[[], T]) -> T:
        self.steps += 1
        return await super().run(step)


@pytest.fixture
def engine() -> Iterator[Stepped]:
    made = Stepped()
    yield made
    for gate in made.gates:
        gate.open()


def spoken(engine: Stepped, host: UnmanagedHost) -> SpeechStream:
    return SpeechStream(engine, host, CheckedText("Chunks."), {}, output_rate=RATE)


@pytest.fixture
async def stream(engine: Stepped) -> AsyncIterator[SpeechStream]:
    async with spoken(engine, UnmanagedHost()) as made:
        yield made
        for gate in engine.gates:
            gate.open()


async def taken(stream: SpeechStream, clock: VirtualTimeLoop) -> int:
    """Return how many frames there are once all threads rest, at the same moment."""
    await clock.settle()
    return len(stream.take_ready())


async def hear(stream: SpeechStream, engine: Stepped, clock: VirtualTimeLoop, chunks: int) -> None:
    """Take the first chunks, and let the time pass in which more would be gathered."""
    engine.stop_before(chunks)
    await anext(stream)
    heard = 1
    for _ in range(chunks):
        heard += await taken(stream, clock)
        await clock.advance(0.05)
    assert heard == chunks * FRAMES


async def test_a_listener_with_little_left_to_hear_gets_each_chunk_as_it_is_made(
    stream: SpeechStream, engine: Stepped, clock: VirtualTimeLoop
) -> None:
    await hear(stream, engine, clock, 1)
    for number in (2, 3):
        engine.stop_before(number)
        assert await taken(stream, clock) == FRAMES


async def test_one_with_much_left_gets_what_soon_follows_a_chunk_together_and_not_later(
    stream: SpeechStream, engine: Stepped, clock: VirtualTimeLoop
) -> None:
    await hear(stream, engine, clock, 5)
    engine.stop_before(6)
    assert await taken(stream, clock) == FRAMES
    engine.stop_before(7)
    assert await taken(stream, clock) == 0
    engine.stop_before(8)
    assert await taken(stream, clock) == 0
    await clock.advance(0.01)  # the next chunk hangs, and holds back none that is made
    assert await taken(stream, clock) == 2 * FRAMES


async def test_much_that_is_made_is_not_held_back_to_be_gathered(
    stream: SpeechStream, engine: Stepped, clock: VirtualTimeLoop
) -> None:
    await hear(stream, engine, clock, 5)
    engine.stop_before(6)
    assert await taken(stream, clock) == FRAMES
    engine.stop_before(18)
    assert await taken(stream, clock) > 10 * FRAMES


async def test_the_last_chunk_is_not_held_back(
    stream: SpeechStream, engine: Stepped, clock: VirtualTimeLoop
) -> None:
    await hear(stream, engine, clock, CHUNKS - 2)
    engine.stop_before(CHUNKS - 1)
    assert await taken(stream, clock) == FRAMES
    engine.gates[-1].open()
    assert await taken(stream, clock) == FRAMES


@pytest.mark.parametrize(("least_s", "steps"), [(60.0, 1), (0.0, CHUNKS + 1)])
async def test_a_thread_whose_core_is_wanted_goes_on_with_chunks_that_take_no_time(
    engine: Stepped, monkeypatch: pytest.MonkeyPatch, least_s: float, steps: int
) -> None:
    monkeypatch.setattr(speaker, "_LEAST_RUN_S", least_s)
    monkeypatch.setattr(speaker, "_LONGEST_RUN_S", 60.0)
    monkeypatch.setattr(speaker, "_BUFFER_FRAMES", CHUNKS * FRAMES)
    host = CountingHost(core_wanted=True)
    async with spoken(engine, host) as stream:
        assert len([frame async for frame in stream]) == CHUNKS * FRAMES
    assert host.steps == steps + 1  # the last one ends the framing
