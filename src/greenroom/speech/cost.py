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

_FULL_TIMES = 1.25
"""A second of audio is taken to cost so many times as much when every core computes as when one
does: they share caches, memory, and often the units that compute. Measured on two virtual cores
with 4 and with 24 callers, a piece of 1.5 s alone and beside another: 1.2 and 1.7 times."""

_WAITS = 0.05
"""Steps whose threads are on a processor for less of their time wait for something elsewhere. On a
machine that others keep busy too, those that compute have more than that.

The run queue's wait in `/proc/thread-self/schedstat` would tell a thread that gets still less, and
is not read: two reads for each chunk cost 15 us, and one that is taken for waiting is only held
to the cores no longer, until it gets more again."""

_TELLING_S = 0.02
"""A shorter step says nothing of that: it may have waited for the interpreter's lock, a few times
5 ms, or for a processor. Whose short steps are taken for waiting is not held to the cores, and as
many threads as there are callers then wait for the lock."""

_MOST_STEP_S = 30.0
"""What the first step counts for at most, where nothing is known."""


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
    ahead_s: float | None = None
    """Seconds that its listener had left to hear; `None` before the first."""
    last: bool = False
    """Whether the engine said that it was the last of its sentence, and so as short as that was."""
    full: bool = True
    """Whether every core computed meanwhile."""


class Mean:
    """An exponentially weighted mean that starts at `first` and forgets it with the first value."""

    def __init__(self, first: float) -> None:
        self.value = first
        self.deviation = 0.0
        """The mean of how far the values are from it, as TCP takes it of round trips (RFC 6298)."""
        self.is_known = False

    @property
    def high(self) -> float:
        """What few values are above."""
        return self.value + 2 * self.deviation

    def add(self, value: float, weight: float = _WEIGHT) -> None:
        """Take one more value into it, capped at four times the mean once there is one."""
        if not self.is_known:
            self.value, self.is_known = value, True
            return
        capped = min(value, _MOST_TIMES * self.value) if self.value > 0.0 else value
        self.deviation += weight * (abs(capped - self.value) - self.deviation)
        self.value += weight * (capped - self.value)


class SpeechCost:
    """The cost of one model: seconds of a core for its steps, and seconds of audio for its text."""

    def __init__(self, warmup_s: float = 0.0, warmup_audio_s: float = 0.0) -> None:
        """Begin with what the warmup took, and how many seconds of audio it made.

        That was the first of all runs, slower than those to come: it is soon overruled.
        """
        rate, first = _FIRST_RATE, _FIRST_S
        self._was_warmed_up = warmup_s > 0.0 and warmup_audio_s > 0.0
        if self._was_warmed_up:
            rate, first = warmup_s / warmup_audio_s, warmup_s
        self._core_s, self._audio_s = rate * _FIRST_AUDIO_S, _FIRST_AUDIO_S
        self._full_s = _FIRST_AUDIO_S
        """Of `_audio_s`, those that were made while every core computed."""
        self._step = Mean(0.02)
        self._urgent = Mean(0.02)
        self.overdue = 0
        """Steps that run and take so much longer than usual that they may hang."""
        self._first = Mean(first)
        self._paced = Mean(0.0)
        self._audio = Mean(0.065)  # English, as Piper's medium voices speak it
        self._computes = Mean(1.0)
        # Attributes, as the scheduler asks for them for each stream, and each time.
        self.rate = rate
        """Seconds of a core for one second of audio when every core computes.

        Over the last half a minute of audio or so; what was made while cores were idle will take
        longer."""
        self.step_s = self._step.value
        """Seconds of a step within a sentence."""
        self.first_s = self._first.high
        """Seconds that few first steps of a sentence exceed."""
        self._shortest_s = self._urgent.high

    def step_within(self, ahead_s: float) -> float:
        """Return the seconds of a step whose listener has `ahead_s` seconds left to hear.

        An engine that asks for its pace takes half of that, or as long as its shortest steps take:
        in a crowd those are long, as short ones cost so much that all would be late.
        """
        if self._paced.value < 0.5:
            return self.step_s
        return max(self._shortest_s, min(self.step_s, ahead_s / 2))

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
        most = self._most(step)
        (self._first if step.first else self._step).add(min(step.seconds, most))
        self._paced.add(float(step.paced))
        if not step.first and not step.last and step.audio_s > 0.0:
            self._learn_shortest(step)
        if step.seconds > _TELLING_S:
            self._computes.add(min(1.0, step.processor_s / step.seconds))
        kept = math.exp(-step.audio_s / _MEMORY_S)
        self._core_s = self._core_s * kept + min(step.seconds + step.helped_s, most)
        self._audio_s = self._audio_s * kept + step.audio_s
        self._full_s = self._full_s * kept + step.audio_s * step.full
        idle = 1.0 - self._full_s / self._audio_s
        self.rate = self._core_s / self._audio_s * (1.0 + (_FULL_TIMES - 1.0) * idle)
        self.step_s, self.first_s = self._step.value, self._first.high
        self._shortest_s = self._urgent.high

    def _most(self, step: StepTaken) -> float:
        """Return the seconds that a step counts for at most: one that hung tells nothing.

        The first of its kind is held against the warmup, if there was one.
        """
        usual = self._first if step.first else self._step
        if not (usual.is_known or self._was_warmed_up):
            return _MOST_STEP_S
        return _MOST_TIMES * max(usual.value, self.rate * step.audio_s)

    def _learn_shortest(self, step: StepTaken) -> None:
        """Learn how long a step takes that is as short as the engine makes them now."""
        if step.seconds < self._urgent.value:
            self._urgent.add(step.seconds, 2.5 * _WEIGHT)  # soon: a crowd has gone
        elif step.ahead_s is not None and step.seconds > step.ahead_s / 2:
            self._urgent.add(step.seconds)

    def learn_sentence(self, audio_s: float, characters: int) -> None:
        """Learn how much audio a sentence of so many characters had."""
        if audio_s > 0.0 and characters:
            self._audio.add(audio_s / characters)
