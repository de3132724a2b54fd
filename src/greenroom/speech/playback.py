"""When a listener will have heard all that was made for it, and the gaps in which it heard nothing.

The listener plays at real time what it gets, however fast it takes it: a caller who writes a file
has the same deadlines as one who plays, so that it never gets in the way of those who do.
"""

from __future__ import annotations

import math

GAP_S = 0.02
"""Silence that is heard as a gap: one frame."""


class PlaybackClock:
    """The playback of one stream; times are in seconds, on one monotonic clock.

    It runs from the first audio that is taken, stands still while paused, and does not count
    silence as a gap when there was no text to say or nobody who waited for audio.
    """

    def __init__(self) -> None:
        self.gaps = 0
        """Silences of more than `GAP_S` in the midst of speech."""
        self.late_s = 0.0
        """All silence in the midst of speech, in seconds."""
        self._silent_at: float | None = None
        self._excused_until = -math.inf
        self._paused_at: float | None = None

    @property
    def started(self) -> bool:
        """Whether audio has been taken."""
        return self._silent_at is not None

    def silent_at(self, now: float) -> float:
        """Return when the listener will have heard all that it took; `now` before the first audio.

        While paused that moment moves on with `now`.
        """
        if self._silent_at is None:
            return now
        frozen = 0.0 if self._paused_at is None else now - self._paused_at
        return self._silent_at + frozen

    def due(self, now: float, buffered: float) -> float:
        """Return when the next audio is due, if `buffered` seconds are made and not taken.

        A listener who has not taken what is there cannot have heard it: it has it still to hear.
        """
        silent_at = self.silent_at(now)
        if buffered > 0.0:
            silent_at = max(silent_at, now) + buffered
        return max(silent_at, self._excused_until)

    def excuse(self, until: float) -> None:
        """Count no silence before `until`: there was no text to say."""
        self._excused_until = max(self._excused_until, until)

    def take(self, seconds: float, now: float) -> None:
        """Count audio that the listener takes."""
        if self._silent_at is None:
            self._silent_at = now
        self._silent_at = max(self.silent_at(now), now) + seconds
        if self._paused_at is not None:
            self._silent_at -= now - self._paused_at

    def come(self, now: float, waiting_since: float | None) -> float:
        """Count the gap that audio ends which comes when there was none left; returns its seconds.

        `waiting_since` is when its consumer began to wait for it; `None` when nobody waits.
        """
        if self._silent_at is None or self._paused_at is not None or waiting_since is None:
            return 0.0
        late = now - max(self._silent_at, self._excused_until, waiting_since)
        if late <= 0.0:
            return 0.0
        self.late_s += late
        self.gaps += late > GAP_S
        return late

    def pause(self, now: float) -> None:
        """Stand still until `resume`."""
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> None:
        """Go on from where it stood."""
        if self._paused_at is None:
            return
        if self._silent_at is not None:
            # One that was silent already when it was paused has nothing to go on with.
            self._silent_at = max(self._silent_at, self._paused_at) + now - self._paused_at
        self._paused_at = None
