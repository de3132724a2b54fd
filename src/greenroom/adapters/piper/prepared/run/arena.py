"""Shrink onnxruntime's memory arenas between sentences: kept while in use, given back when idle.

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

SHRINK_AFTER_S = 0.5
"""How long an arena is idle before it shrinks: longer than the pause between two sentences."""


class ArenaShrinker:
    """Counts the runs of a graph's sessions, and has the arenas shrink when there are none.

    Arenas shrink at the end of a run, so a voice on the graph has to run it once more, in the
    timer's thread: the voice that ran last, as its weights are in the caches, or another if that
    one has been closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shrinks: dict[Callable[[], None], None] = {}
        """How each voice shrinks the arenas; that of the voice that ran last is the last one."""
        self._users = 0
        self._uses = 0
        """Grows with each use, so that a timer that is due knows whether there was one since."""
        self._is_scheduled = False

    def add(self, shrink: Callable[[], None]) -> None:
        """Add a voice: `shrink` may be called from now on, also when another voice ran last."""
        with self._lock:
            self._shrinks[shrink] = None

    @contextlib.contextmanager
    def in_use(self, shrink: Callable[[], None]) -> Iterator[None]:
        """Keep the arenas as they are inside the block; `shrink` was added before."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._uses += 1
                if shrink in self._shrinks:
                    self._shrinks[shrink] = self._shrinks.pop(shrink)
                if not self._is_scheduled:
                    self._schedule()

    def remove(self, shrink: Callable[[], None]) -> None:
        """Remove a voice; when this returns, `shrink` is not running and never will again."""
        with self._lock:
            self._shrinks.pop(shrink, None)

    def _schedule(self) -> None:
        self._is_scheduled = True
        TIMER.call_later(SHRINK_AFTER_S, partial(self._shrink_if_idle, self._uses))

    def _shrink_if_idle(self, uses: int) -> None:
        # The lock is held while a voice shrinks: `remove` must not return in the middle of that, as
        # the voice's weights are let go of next. A caller who wants to speak waits that long.
        with self._lock:
            self._is_scheduled = False
            if self._users or not self._shrinks:
                return
            if self._uses != uses:
                self._schedule()
                return
            try:
                next(reversed(self._shrinks))()
            except Exception:  # the engine's, of any kind: the next sentence schedules it again
                logger.warning("a graph keeps the memory of its runs", exc_info=True)
