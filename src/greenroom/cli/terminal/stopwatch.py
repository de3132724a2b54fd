"""How long speech took, measured from the moment that there was text."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterator

from greenroom.audio.frames import AudioFrame

_MAX_OUTSIDE = 0.1
"""The share of the time that reading and writing may take; beyond it no factor is reported."""


class Stopwatch:
    """Measures time and audio; time spent `outside` does not count as synthesis."""

    def __init__(self) -> None:
        self.audio_s = 0.0
        self.began_at = self.last_audio_at = time.perf_counter()
        self.first_audio_at = math.inf
        self._outside = 0.0

    def start(self) -> None:
        """Start now: the model is loaded, or the first text has arrived."""
        self.began_at = self.last_audio_at = time.perf_counter()
        self._outside = 0.0

    def count(self, frame: AudioFrame) -> None:
        """Count a frame that has just arrived."""
        self.last_audio_at = time.perf_counter()
        self.first_audio_at = min(self.first_audio_at, self.last_audio_at)
        self.audio_s += frame.samples / frame.sample_rate

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Count the time of the block as spent on reading text or writing audio."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self._outside += time.perf_counter() - since

    async def timed(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        """Yield the pieces of `text`; the stopwatch starts at the first."""
        first = True
        while True:
            with self.outside():
                piece = await anext(text, None)
            if piece is None:
                return
            if first:
                self.start()
            first = False
            yield piece

    @property
    def seconds(self) -> float:
        """The time since the start."""
        return time.perf_counter() - self.began_at

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of synthesis for a second of audio; `None` if reading or writing was slow."""
        took = self.last_audio_at - self.began_at
        if not self.audio_s or self._outside > _MAX_OUTSIDE * took:
            return None
        return took / self.audio_s

    def __str__(self) -> str:
        parts = [f"{self.audio_s:.2f} s of audio"]
        if self.audio_s:
            parts.append(f"first audio after {self.first_audio_at - self.began_at:.2f} s")
        if self.real_time_factor is not None:
            parts.append(f"real-time factor {self.real_time_factor:.2f}")
        return ", ".join(parts)
