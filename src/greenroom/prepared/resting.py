"""Memory between sentences: kept while somebody speaks, given back when nobody has for a while.

A session's arena makes runs a quarter faster, and would keep what its largest run took for ever.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

REST_S = 0.5
"""How long nobody has spoken before memory is given back: longer than from sentence to sentence."""


class Resting:
    """Counts who speaks, and calls `give_back` in a thread of its own once it is quiet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._speakers = 0
        self._spoken = 0
        self._timer: threading.Timer | None = None
        self._give_back: Callable[[], None] | None = None

    @contextlib.contextmanager
    def speaking(self, give_back: Callable[[], None]) -> Iterator[None]:
        """Count as a speaker inside the block; the latest one's `give_back` is what is called."""
        with self._lock:
            self._speakers += 1
        try:
            yield
        finally:
            with self._lock:
                self._speakers -= 1
                self._spoken += 1
                self._give_back = give_back
                if self._timer is None:
                    self._wait()

    def forget(self, give_back: Callable[[], None]) -> None:
        """Call it no more; returns when it is not being called."""
        with self._lock:
            if self._give_back == give_back:
                self._give_back = None

    def _wait(self) -> None:
        self._timer = threading.Timer(REST_S, self._look, (self._spoken,))
        self._timer.daemon = True
        self._timer.start()

    def _look(self, spoken: int) -> None:
        with self._lock:
            self._timer = None
            if self._speakers or self._give_back is None:
                return
            if self._spoken != spoken:
                self._wait()
                return
            give_back, self._give_back = self._give_back, None
            try:
                give_back()
            except Exception:
                logger.warning("a graph keeps the memory of its runs", exc_info=True)
