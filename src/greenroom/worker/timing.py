"""What one speech took: until it was first heard, and in the engine; all in seconds."""

from __future__ import annotations

import time

from greenroom.audio.frames import AudioFrame


class Timing:
    """Begins when the speech is asked for."""

    def __init__(self) -> None:
        self.first_audio_s: float | None = None
        """From asking to the first frame, loading included; `None` until it is heard."""
        self.audio_s = 0.0
        """Of the frames that were taken."""
        self.engine_s = 0.0
        """That threads spent in the engine; known when the speech has ended."""
        self.over = False
        """Whether it was heard to its end."""
        self._asked = time.monotonic()

    def heard(self, frame: AudioFrame) -> None:
        """Count a frame that its caller takes now."""
        if self.first_audio_s is None:
            self.first_audio_s = time.monotonic() - self._asked
        self.audio_s += frame.samples / frame.sample_rate

    @property
    def real_time_factor(self) -> float | None:
        """Seconds in the engine for a second of audio; `None` unless it was heard to its end."""
        return self.engine_s / self.audio_s if self.over and self.audio_s else None
