"""Find where sound ends before a pause and begins after it, in the audio of one run of a voice.

What a voice says of its phonemes' lengths is where they are made, not where they are heard: a final
"t" ends with a silence of its own, and some sounds begin before their time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Interval = tuple[int, int]
"""From a sample on, up to before another; counted over the whole text."""

_STEPS_PER_S = 400
"""In how many steps of a second it is told whether it sounds: each has 2.5 ms."""

_AUDIBLE = 0.01
"""Of what is loud in the run, how loud a step must be to be heard, as root mean square: 40 dB
below."""

_LOUD_PERCENTILE = 95
"""So many of a hundred steps are quieter than what is loud."""

_LEAST_QUIET_S = 0.03
"""What is quiet for less is a sound's own: a pause is longer."""

_LOOK_AHEAD_S = 0.12
"""How long after its last phoneme a word may be heard yet: of "left." the "t" is let go late."""


class HeardBorders:
    """The audio of one run as it comes, and where it sounds."""

    def __init__(self, rate: int, begin: int, end: int) -> None:
        """Samples `begin` to `end` of the text are the run's."""
        self.begin, self.end = begin, end
        self.known_to = begin
        """Up to where the audio is there."""
        self._samples = np.zeros(end - begin, np.float32)
        self._loud = 0.0
        """The level of what is loud in the audio that is there."""
        self._step = max(1, rate // _STEPS_PER_S)
        self._steps: list[NDArray[np.float64]] = []
        """Levels of the steps that are there whole."""
        self._whole_to = begin
        self._least = max(1, round(_LEAST_QUIET_S * _STEPS_PER_S))
        self._look_ahead = round(_LOOK_AHEAD_S * rate)

    def add(self, samples: Samples) -> None:
        """Take the next samples of the run."""
        new = samples[: self.end - self.known_to]
        at = self.known_to - self.begin
        self._samples[at : at + new.size] = new
        self.known_to += new.size
        whole_to = self.known_to - (self.known_to - self.begin) % self._step
        self._steps.append(self._levels((self._whole_to, whole_to)))
        self._whole_to = whole_to
        levels = np.concatenate(self._steps)
        self._loud = float(np.percentile(levels, _LOUD_PERCENTILE)) if levels.size else 0.0

    def first(self, start: int, within: Interval) -> int | None:
        """Return where the run is first heard, which is to be at `start`; `None` is not known yet.

        It is sought `within` an interval, which ends with the first phoneme.
        """
        if not self._is_known(within[1]):
            return None
        sounds = np.flatnonzero(self._sounds(within))
        return self._border(within, sounds[0]) if sounds.size else start

    def start(self, start: int, within: Interval) -> int | None:
        """Return where it is heard again after a pause, likewise; `start` if there is no pause."""
        if not self._is_known(within[1]):
            return None
        quiet = self._quiet(within, (within[0], start))
        return start if quiet is None else quiet[1]

    def stop(self, end: int, within: Interval) -> int | None:
        """Return where it is last heard before a pause, which is to be at `end`, likewise.

        The interval begins with the last sounds, and ends with the pause or the run.
        """
        last = min(within[1], max(end, within[0]) + self._look_ahead)
        if not self._is_known(last):
            return None
        whole = (within[0], last)
        sounds = self._sounds(whole)
        heard = int(np.flatnonzero(sounds)[-1]) + 1 if sounds.any() else 0
        if heard and (sounds.size - heard >= self._least or last == self.end):
            return self._border(whole, heard)
        # It sounds up to there: what follows came before its time, or there is no pause.
        quiet = self._quiet(whole, (end, last) if end < last else within)
        if quiet is not None:
            return quiet[0]
        return last if last == self.end else end

    def _is_known(self, to: int) -> bool:
        return self.known_to >= min(to, self.end)

    def _quiet(self, within: Interval, beside: Interval) -> Interval | None:
        """Return the silence that has most in common with the interval `beside`."""
        edges = np.flatnonzero(np.diff(np.pad(self._sounds(within), 1, constant_values=True)))
        found, most = None, 0
        for begin, end in edges.reshape(-1, 2):
            quiet = self._border(within, begin), self._border(within, end)
            common = min(quiet[1], beside[1]) - max(quiet[0], beside[0])
            if common > most and end - begin >= self._least:
                found, most = quiet, common
        return found

    def _sounds(self, within: Interval) -> NDArray[np.bool_]:
        """Return of each step within an interval whether it is heard."""
        return np.asarray(self._levels(within) > self._loud * _AUDIBLE)

    def _levels(self, within: Interval) -> NDArray[np.float64]:
        """Return the root mean square of each step within an interval."""
        samples = self._samples[within[0] - self.begin : within[1] - self.begin].astype(np.float64)
        whole = np.pad(samples, (0, -samples.size % self._step)).reshape(-1, self._step)
        return np.asarray(np.sqrt((whole**2).mean(axis=1)))

    def _border(self, within: Interval, step: int) -> int:
        return min(within[0] + int(step) * self._step, within[1])
