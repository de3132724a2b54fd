"""Turns among threads: one at a time, first come first served."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

LIMIT_S = 30.0
"""A wait that takes longer ends without a turn: whoever has it hangs, and must hold up nobody."""


class Turns:
    """A lock whose waiters get it in the order in which they came, and do not wait for ever."""

    def __init__(self, limit: float = LIMIT_S) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Wait for a turn, and have it inside the block; false if the wait took too long."""
        mine = self._take()
        try:
            yield mine
        finally:
            if mine:
                self._pass_on()

    def _take(self) -> bool:
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(self._limit):
            return True
        with self._lock:
            if mine.is_set():  # it came at the last moment
                return True
            self._waiting.remove(mine)
            return False

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # the turn goes over to that thread
            else:
                self._taken = False
