"""How much one key may use: sessions, streams at once, requests a minute, length of text."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from greenroom.errors import WorkerBusyError

STREAM_RETRY_S = 1.0
"""A stream may end at any moment, so this is how often it is worth asking for its place."""


def _nobody_counts(reason: str) -> None:
    pass


class Allowance:
    """Counts what is used; everything is allowed where there is no limit.

    Requests refill evenly, and may come in a burst of a minute's worth.
    `refused` is told what was refused, as `greenroom.worker.prometheus.LIMITS` names it.
    """

    def __init__(
        self,
        max_streams: int | None = None,
        requests_per_minute: int | None = None,
        *,
        max_sessions: int | None = None,
        max_text_chars: int | None = None,
        refused: Callable[[str], None] = _nobody_counts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_streams = max_streams
        self._rate = requests_per_minute
        self.max_sessions = max_sessions
        self._max_text_chars = max_text_chars
        self._refused = refused
        self._clock = clock
        self._streams = 0
        self._left = float(requests_per_minute or 0)
        self._since = clock()

    def text_limit(self, everybodys: int) -> int:
        """Return how many characters one text may have, where everybody's may have so many."""
        return min(everybodys, self._max_text_chars or everybodys)

    def count_request(self) -> None:
        """Raises `WorkerBusyError` when there were too many; a refused one does not count."""
        if self._rate is None:
            return
        now = self._clock()
        refilled = self._left + (now - self._since) * self._rate / 60
        self._left, self._since = min(float(self._rate), refilled), now
        if self._left < 1:
            self._refused("key_requests")
            raise WorkerBusyError(
                f"this key may send {self._rate} requests a minute",
                (1 - self._left) * 60 / self._rate,
            )
        self._left -= 1

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """Count one stream inside the block; raises `WorkerBusyError` when there are too many."""
        if self._max_streams is not None and self._streams >= self._max_streams:
            self._refused("key_streams")
            raise WorkerBusyError(
                f"this key has {self._streams} streams running already", STREAM_RETRY_S
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
