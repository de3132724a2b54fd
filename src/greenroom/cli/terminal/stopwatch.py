"""How long speech took: measured from the moment there was text."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterator

from greenroom.audio.frames import AudioFrame

_FREE = 0.1
"""The part of the time that others may take before a real-time factor would be about them."""


class Stopwatch:
    """Counts audio and time; what is spent `outside` is not the synthesis's."""

    def __init__(self) -> None:
        self.audio_s = 0.0
        self.began_at = self.last_audio_at = time.perf_counter()
        self.first_audio_at = math.inf
        self._outside = 0.0

    def start(self) -> None:
        """Begin now: everything is loaded, or the first text is here."""
        self.began_at = self.last_audio_at = time.perf_counter()
        self._outside = 0.0

    def count(self, frame: AudioFrame) -> None:
        """Take note of a frame that has just come."""
        self.last_audio_at = time.perf_counter()
        self.first_audio_at = min(self.first_audio_at, self.last_audio_at)
        self.audio_s += frame.samples / frame.sample_rate

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Take note of time spent on reading text or on writing audio."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self._outside += time.perf_counter() - since

    async def timed(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        """Pass the pieces of `text` on; time runs from the first."""
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
        """Seconds of synthesis for a second of audio; `None` if others were slower."""
        took = self.last_audio_at - self.began_at
        if not self.audio_s or self._outside > _FREE * took:
            return None
        return took / self.audio_s

    def __str__(self) -> str:
        parts = [f"{self.audio_s:.2f} s of audio"]
        if self.audio_s:
            parts.append(f"first audio after {self.first_audio_at - self.began_at:.2f} s")
        if self.real_time_factor is not None:
            parts.append(f"real-time factor {self.real_time_factor:.2f}")
        return ", ".join(parts)
