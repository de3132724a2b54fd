"""A lock for threads that is given in the order of arrival, and waited for within a limit."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

LIMIT_S = 30.0
"""Of a wait: a run takes seconds, so one that holds the lock for longer hangs, and is not waited
for by everyone else."""


class FifoLock:
    """A lock whose waiters get it in the order in which they came, and do not wait for ever."""

    def __init__(self, limit: float = LIMIT_S) -> None:
        self._limit = limit
        # For a few steps only: what callers hold meanwhile is `_is_held`, handed on in order.
        self._lock = threading.Lock()
        self._is_held = False
        self._waiters: deque[threading.Event] = deque()

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """Hold the lock inside the block; yields false where the wait took too long."""
        held = self._acquire()
        try:
            yield held
        finally:
            if held:
                self._release()

    def _acquire(self) -> bool:
        with self._lock:
            if not self._is_held:
                self._is_held = True
                return True
            mine = threading.Event()
            self._waiters.append(mine)
        if mine.wait(self._limit):
            return True
        with self._lock:
            if mine.is_set():  # it was handed over between the end of the wait and this line
                return True
            self._waiters.remove(mine)
            return False

    def _release(self) -> None:
        with self._lock:
            if self._waiters:
                self._waiters.popleft().set()  # handed over: it never looks free to a newcomer
            else:
                self._is_held = False
