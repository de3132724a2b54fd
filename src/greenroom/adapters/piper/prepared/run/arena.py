"""Memory between sentences: kept while somebody speaks, given back when nobody has for a while.

A session's arena makes runs a quarter faster, and would keep what its largest run took for ever.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial

from greenroom.adapters.piper.prepared.run.timer import TIMER
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

REST_S = 0.5
"""How long nobody has spoken before memory is given back: longer than from sentence to sentence."""


class Resting:
    """Counts who speaks through a graph, and has memory given back once it is quiet.

    Any of the voices on the graph can do that, in the timer's thread: the one that spoke last, as
    its weights are at hand, or another if that has gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ways: dict[Callable[[], None], None] = {}  # how each voice does it; the latest last
        self._speakers = 0
        self._spoken = 0
        self._waits = False
        """Whether a look is due."""

    def join(self, give_back: Callable[[], None]) -> None:
        """From now on `give_back` may be called, whoever spoke."""
        with self._lock:
            self._ways[give_back] = None

    @contextlib.contextmanager
    def speaking(self, give_back: Callable[[], None]) -> Iterator[None]:
        """Count as a speaker inside the block; `give_back` has joined and is now the latest."""
        with self._lock:
            self._speakers += 1
        try:
            yield
        finally:
            with self._lock:
                self._speakers -= 1
                self._spoken += 1
                if give_back in self._ways:
                    self._ways[give_back] = self._ways.pop(give_back)
                if not self._waits:
                    self._wait()

    def forget(self, give_back: Callable[[], None]) -> None:
        """Call it no more; returns when it is not being called."""
        with self._lock:
            self._ways.pop(give_back, None)

    def _wait(self) -> None:
        self._waits = True
        TIMER.call_later(REST_S, partial(self._look, self._spoken))

    def _look(self, spoken: int) -> None:
        with self._lock:
            self._waits = False
            if self._speakers or not self._ways:
                return
            if self._spoken != spoken:
                self._wait()
                return
            try:
                next(reversed(self._ways))()
            except Exception:
                logger.warning("a graph keeps the memory of its runs", exc_info=True)
