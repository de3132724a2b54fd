"""One sentence in the engine's thread: chunk after chunk, each handed over as it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from greenroom.adapter import ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.audio import Framer
from greenroom.audio.frames import AudioChunk, AudioFrame
from greenroom.speech.pace import Pace, current_pace, mark_last, paced
from greenroom.speech.sentence import Sentence

RATE = 16_000


class Engine:
    """Three chunks of 100 ms."""

    sample_rate = RATE
    looks_ahead = False
    has_word_times = False

    def __init__(self, *, says_last: bool = False) -> None:
        self.says_last = says_last
        self.closed = False
        self.paces: list[Pace] = []

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        try:
            for number in range(3):
                pace = current_pace()
                pace.count_help(0.25)
                self.paces.append(pace)
                mark_last(self.says_last and number == 2)
                yield AudioChunk(np.full(RATE // 10, 0.5, np.float32), RATE)
        finally:
            self.closed = True


class Listener:
    """Wants so many chunks at a time."""

    def __init__(self, at_a_time: int = 1) -> None:
        self.at_a_time = at_a_time
        self.frames: list[AudioFrame] = []
        self._came = 0

    def pace(self) -> Pace:
        return Pace(len(self.frames) * 0.02)

    def deliver(self, frames: list[AudioFrame]) -> None:
        self.frames += frames
        self._came += 1

    def wants_more(self, ran_s: float) -> bool:
        return self._came % self.at_a_time != 0


def sentence(engine: Engine, listener: Listener) -> Sentence:
    return Sentence(engine, "Three chunks.", {}, Framer(RATE, RATE), listener)


@pytest.mark.parametrize(("says_last", "steps"), [(False, 4), (True, 3)])
def test_it_comes_back_after_each_chunk_that_is_not_followed_at_once_by_another(
    says_last: bool, steps: int
) -> None:
    engine, listener = Engine(says_last=says_last), Listener()
    speaking = sentence(engine, listener)
    advanced = [speaking.advance() for _ in range(steps)]
    assert advanced == [True] * (steps - 1) + [False]
    assert len(listener.frames) == 15
    assert engine.closed


def test_it_goes_on_while_more_is_wanted() -> None:
    listener = Listener(at_a_time=2)
    speaking = sentence(Engine(), listener)
    assert speaking.advance()
    assert len(listener.frames) == 10
    assert not speaking.advance()
    assert len(listener.frames) == 15


def test_a_chunk_that_was_made_ahead_and_is_the_last_ends_it() -> None:
    class Brief(Engine):
        def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
            mark_last()
            yield AudioChunk(np.full(RATE // 10, 0.5, np.float32), RATE)

    listener = Listener()
    speaking = sentence(Brief(), listener)
    speaking.begin()
    assert listener.frames == []
    assert not speaking.advance()
    assert len(listener.frames) == 5


def test_the_engine_is_told_the_pace_of_each_chunk_and_its_steps_are_remembered() -> None:
    engine, listener = Engine(), Listener()
    speaking = sentence(engine, listener)
    while speaking.advance():
        pass
    assert [round(pace.ahead_s or 0.0, 2) for pace in engine.paces] == [0.0, 0.1, 0.2]
    assert [step.first for step in speaking.steps] == [True, False, False]
    assert [step.helped_s for step in speaking.steps] == [0.25] * 3
    assert [step.audio_s for step in speaking.steps] == [0.1] * 3
    assert all(step.paced for step in speaking.steps)
    assert all(0 <= step.processor_s <= step.seconds + 0.01 for step in speaking.steps)


def test_a_tone_says_which_chunk_is_its_last() -> None:
    tone = ToneTTSAdapter(ModelSpec("tone", ToneTTSAdapter))
    tone.load()
    with paced(Pace()) as asking:
        said = [asking.is_last for _ in tone.synthesize("A tone.", {})]
    assert said == [False] * (len(said) - 1) + [True]
