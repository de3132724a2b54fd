"""Give freed memory back to the system: glibc's `malloc_trim` and its trim threshold."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from functools import cache

_M_TRIM_THRESHOLD = -1  # from malloc.h
_TRIM_THRESHOLD = 128 * 1024  # what glibc itself begins with


@cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library, `None` where it is not glibc."""
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError):
        libc = ctypes.CDLL("libc.so.6")
        if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt"):
            return libc
    return None


def malloc_trim() -> None:
    """Give freed heap pages back to the system (glibc keeps them otherwise). Call off the loop."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


class CoalescedTrims:
    """Trims of one heap: at most one `malloc_trim` at a time, and one for all that ask meanwhile.

    Each caller waits for a trim that began after it asked, so what it had freed is back when
    `trim` returns; of a burst of unloads most share theirs.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        # Callers are numbered as they ask. A trim serves all numbers given out before it began.
        self._asked = 0
        self._served = 0
        self._running = False

    def trim(self) -> None:
        """Give back what was freed before this call. Blocks: call off the loop."""
        with self._turn:
            self._asked += 1
            mine = self._asked
            while self._served < mine:
                if self._running:
                    self._turn.wait()
                else:
                    self._lead()

    def _lead(self) -> None:
        """Trim once for all that have asked.

        The lock is held before and after, not meanwhile: others can ask while the trim runs.
        """
        self._running, covered = True, self._asked
        self._turn.release()
        try:
            malloc_trim()
        finally:
            self._turn.acquire()
            self._running, self._served = False, covered
            self._turn.notify_all()


_process_heap = CoalescedTrims()
"""The process has one heap to trim, however many managers it has."""


def trim() -> None:
    """Give back what was freed before this call, in one trim with all who ask meanwhile.

    Blocks: call off the loop.
    """
    _process_heap.trim()


@cache
def set_trim_threshold() -> None:
    """Have every heap of the process give back what is freed at its top, from now on.

    Each thread may have a heap of its own, and `malloc_trim` reaches the top of the main one only.
    Left alone, glibc lets the others keep the more the larger the blocks were that it saw freed: 8
    to 30 MB were still there after a voice had left.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
