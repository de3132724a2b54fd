"""What a model's speech costs on this machine, learned from every step that it takes.

Exponentially weighted means: a machine that becomes slower, or shared, is followed within a few
steps, and one slow step does not turn everything over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_WEIGHT = 0.2
"""Of the latest observation: the last ten make up nine tenths of the mean."""

_MOST_TIMES = 4.0
"""One observation counts as at most so many times the mean: it may be a page fault or a hang."""


_FIRST_RATE, _FIRST_S, _FIRST_AUDIO_S = 0.05, 0.05, 1.0
"""What is taken for known before the first step where there was no warmup: a twentieth of real
time, and of a second for the first step. What is known before counts as one second of audio."""

_MEMORY_S = 15.0
"""Seconds of audio after which a step counts for a third of what the latest counts."""

_WAITS = 0.05
"""Steps whose threads are on a processor for less of their time wait for something elsewhere. On a
machine that others keep busy too, those that compute have more than that."""

_SHORT_S = 0.4
"""Seconds of audio of a short step."""

_MOST_STEP_S = 30.0
"""What a step counts for at most: one that hung says nothing of the next."""


@dataclass(frozen=True, slots=True)
class StepTaken:
    """What one step of an engine took, and made."""

    seconds: float
    processor_s: float
    """That its thread was on a processor meanwhile."""
    helped_s: float
    """That other threads of the engine's computed for it."""
    audio_s: float
    first: bool
    """Whether it was the first of its sentence."""
    paced: bool = False
    """Whether the engine asked how urgent it was, and so made it as long as there was time."""


class Mean:
    """An exponentially weighted mean that starts at `first` and forgets it with the first value."""

    def __init__(self, first: float) -> None:
        self.value = first
        self.is_known = False

    def add(self, value: float) -> None:
        """Take one more value into it, capped at four times the mean once there is one."""
        if not self.is_known:
            self.value, self.is_known = value, True
            return
        capped = min(value, _MOST_TIMES * self.value) if self.value > 0.0 else value
        self.value += _WEIGHT * (capped - self.value)


class SpeechCost:
    """The cost of one model: seconds of a core for its steps, and seconds of audio for its text."""

    def __init__(self, warmup_s: float = 0.0, warmup_audio_s: float = 0.0) -> None:
        """Begin with what the warmup took, and how many seconds of audio it made.

        That was the first of all runs, slower than those to come: it is soon overruled.
        """
        rate, first = _FIRST_RATE, _FIRST_S
        if warmup_s > 0.0 and warmup_audio_s > 0.0:
            rate, first = warmup_s / warmup_audio_s, warmup_s
        self._core_s, self._audio_s = rate * _FIRST_AUDIO_S, _FIRST_AUDIO_S
        self._step = Mean(0.02)
        self._short = Mean(0.02)
        self.overdue = 0
        """Steps that run and take so much longer than usual that they may hang."""
        self._first = Mean(first)
        self._paced = Mean(0.0)
        self._audio = Mean(0.065)  # English, as Piper's medium voices speak it
        self._computes = Mean(1.0)

    @property
    def rate(self) -> float:
        """Seconds of a core for one second of audio, over the last half a minute of it or so."""
        return self._core_s / self._audio_s

    @property
    def step_s(self) -> float:
        """Seconds of a step within a sentence."""
        return self._step.value

    def step_within(self, ahead_s: float) -> float:
        """Return the seconds of a step whose listener has `ahead_s` seconds left to hear.

        An engine that asks for its pace takes half of that, or as long as its short steps take.
        """
        if self._paced.value < 0.5:
            return self.step_s
        return min(self.step_s, max(self._short.value, ahead_s / 2))

    @property
    def first_s(self) -> float:
        """Seconds of the first step of a sentence."""
        return self._first.value

    @property
    def audio_per_character(self) -> float:
        """Seconds of audio for a character of text."""
        return self._audio.value

    @property
    def computes(self) -> bool:
        """Whether its steps compute on a core, and do not wait for something elsewhere."""
        return self._computes.value > _WAITS

    def learn_step(self, step: StepTaken) -> None:
        """Learn from one step."""
        (self._first if step.first else self._step).add(step.seconds)
        self._paced.add(float(step.paced))
        if not step.first and 0.0 < step.audio_s < _SHORT_S:
            self._short.add(step.seconds)
        if step.seconds > 0.001:  # of a shorter one the clocks say too little
            self._computes.add(min(1.0, step.processor_s / step.seconds))
        kept = math.exp(-step.audio_s / _MEMORY_S)
        core_s = min(step.seconds + step.helped_s, _MOST_STEP_S)
        self._core_s = self._core_s * kept + core_s
        self._audio_s = self._audio_s * kept + step.audio_s

    def learn_sentence(self, audio_s: float, characters: int) -> None:
        """Learn how much audio a sentence of so many characters had."""
        if audio_s > 0.0 and characters:
            self._audio.add(audio_s / characters)
