"""A timer for delayed calls: one daemon thread, however many calls are due."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable

from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)


class Due:
    """One call to come; `Timer.cancel` takes it back."""

    def __init__(self, when: float, number: int, call: Callable[[], None]) -> None:
        self.when = when
        """On the monotonic clock."""
        self.call = call
        self._number = number

    def __lt__(self, other: Due) -> bool:
        return (self.when, self._number) < (other.when, other._number)


class Timer:
    """Makes calls when they are due, one after the other, in the order of their times.

    The thread begins with the first call and then sleeps until the next is due. Calls are short:
    one that blocks holds up the others.
    """

    def __init__(self) -> None:
        self._due: list[Due] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._begin()

    def _begin(self) -> None:
        """Have no thread. What is due stays so: a forked child makes the calls of its own copy."""
        self._changed = threading.Condition()
        self._thread = None

    def __len__(self) -> int:
        return len(self._due)

    def call_later(self, delay: float, call: Callable[[], None]) -> Due:
        """Have `call` made in `delay` seconds; what it raises is logged. Never raises itself."""
        with self._changed:
            due = Due(time.monotonic() + delay, next(self._numbers), call)
            heapq.heappush(self._due, due)
            self._changed.notify()
            self._start()
        return due

    def cancel(self, due: Due) -> bool:
        """Take a call back; false if it has begun."""
        with self._changed:
            if due not in self._due:
                return False
            self._due.remove(due)
            heapq.heapify(self._due)
            return True

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = threading.Thread(target=self._run, name="greenroom-timer", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread is to be had: the next call tries again
            logger.warning("no thread for calls that are due: %s", error)
            return
        self._thread = thread

    def _run(self) -> None:
        while True:
            due = self._next()
            try:
                due.call()
            except Exception:  # the thread's outermost guard: the other calls are still to come
                logger.warning("a call that was due has failed", exc_info=True)
            del due  # it would keep what it is about in memory until the next one

    def _next(self) -> Due:
        """Wait for the first call that is due, and take it."""
        with self._changed:
            while True:
                wait = self._due[0].when - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)
                self._changed.wait(wait)


TIMER = Timer()
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TIMER._begin)
