"""What a model's speech costs on this machine, learned from every step that it takes.

Exponentially weighted means: a machine that becomes slower, or shared, is followed within a few
steps, and one slow step does not turn everything over.
"""

from __future__ import annotations

_WEIGHT = 0.2
"""Of the latest observation: the last ten make up nine tenths of the mean."""

_MOST_TIMES = 4.0
"""One observation counts as at most so many times the mean: it may be a page fault or a hang."""


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

    def __init__(self) -> None:
        self._rate = Mean(0.05)
        self._step = Mean(0.02)
        self._first = Mean(0.05)
        self._audio = Mean(0.065)  # English, as Piper's medium voices speak it
        self._computes = Mean(1.0)

    @property
    def rate(self) -> float:
        """Seconds of a core for one second of audio, over whole sentences."""
        return self._rate.value

    @property
    def step_s(self) -> float:
        """Seconds of a step within a sentence."""
        return self._step.value

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
        return self._computes.value > 0.2

    def learn_step(self, seconds: float, processor_s: float, *, first: bool) -> None:
        """Learn from one step: its `seconds`, and those that its thread was on a processor."""
        (self._first if first else self._step).add(seconds)
        if seconds > 0.001:  # of a shorter one the clocks say too little
            self._computes.add(min(1.0, processor_s / seconds))

    def learn_sentence(self, core_s: float, audio_s: float, characters: int) -> None:
        """Learn from a whole sentence, and the seconds that all its threads took together."""
        if audio_s > 0.0:
            self._rate.add(core_s / audio_s)
            if characters:
                self._audio.add(audio_s / characters)
