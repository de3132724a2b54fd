"""How much memory there is, how much this process takes, and how it gives some back."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from dataclasses import dataclass
from functools import cache

import psutil

from greenroom.devices import gpu_of
from greenroom.memory import cgroups, nvml

MIB = 1024 * 1024

DEFAULT_SHARE = 0.8
"""The part of the memory this process may have that models may take, unless configured."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Physical memory in bytes, by what it takes to get it back; also a difference of two."""

    anonymous: int
    """Heaps, stacks and whatever else is in no file: only freeing it gives it back."""
    mapped: int = 0
    """Pages of mapped files: shared by all processes that map them, and the system drops them by
    itself when memory gets short, to read them again from the file when they are next used."""

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.anonymous - earlier.anonymous, self.mapped - earlier.mapped)


_STATUS = "/proc/self/status"
_M_TRIM_THRESHOLD = -1  # from malloc.h
_TRIM_THRESHOLD = 128 * 1024  # what glibc itself begins with


def limit_bytes() -> int:
    """Return the memory this process may have: the smallest limit of its cgroups, or the RAM."""
    total = int(psutil.virtual_memory().total)
    return min([total, *cgroups.memory_limits()])


def resident_bytes() -> int:
    """Return the physical memory this process takes, mapped files included."""
    return int(psutil.Process().memory_info().rss)


def usage() -> Usage:
    """Return what this process takes now. Reads a file: call off the loop.

    From `RssAnon` and `RssFile` on Linux, which may lag by some 100 KB behind what the processors
    have counted. Elsewhere mapped files cannot be told apart cheaply: what is this process's alone,
    where the system says so, counts as anonymous, and nothing as mapped.
    """
    try:
        return _usage_in(_STATUS)
    except (OSError, KeyError, ValueError):
        return Usage(_unshared_bytes())


def _usage_in(path: str) -> Usage:
    """Read `RssAnon` and `RssFile`; raises `OSError`, `KeyError` or `ValueError`."""
    with open(path, "rb") as status:
        sizes = dict(line.split(b":", 1) for line in status if line.startswith(b"Rss"))
    anonymous, mapped = (int(sizes[name].split()[0]) for name in (b"RssAnon", b"RssFile"))
    return Usage(anonymous * 1024, mapped * 1024)


def anonymous_bytes_of(pid: int) -> int:
    """Return what another process takes, as `usage` does; 0 when it is gone or does not tell."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        return _usage_in(f"/proc/{pid}/status").anonymous
    return 0


def usage_on(device: str) -> Usage | None:
    """Return what this process takes of a device's memory now; `None` where that is not told.

    Of a GPU all counts as anonymous. Any other device shares the machine's memory.
    """
    gpu = gpu_of(device)
    if gpu is None:
        return usage()
    taken = nvml.process_bytes(gpu)
    return None if taken is None else Usage(taken)


def growth_on(device: str, before: Usage | None) -> Usage | None:
    """Return by how much this process has grown on a device; `None` where that is not told.

    `before` is what `usage_on` said: nothing of a GPU that the process had not used yet.
    """
    now = usage_on(device)
    return None if now is None else now - (before or Usage(0))


def share_on(device: str) -> int | None:
    """Return the bytes of a GPU that models may take, `None` for any other device."""
    gpu = gpu_of(device)
    total = None if gpu is None else nvml.total_bytes(gpu)
    return None if total is None else int(total * DEFAULT_SHARE)


def _unshared_bytes() -> int:
    process = psutil.Process()
    with contextlib.suppress(psutil.Error, AttributeError):
        return int(process.memory_full_info().uss)
    return int(process.memory_info().rss)


def anonymous_bytes() -> int:
    """Return the physical memory that only freeing gives back."""
    return usage().anonymous


def mapped_bytes() -> int:
    """Return the pages of mapped files in physical memory; 0 where that cannot be told."""
    return usage().mapped


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError):
        libc = ctypes.CDLL("libc.so.6")
        if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt"):
            return libc
    return None


def trim() -> None:
    """Give freed heap pages back to the system (glibc keeps them otherwise). Call off the loop."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


class Trimming:
    """Trims together: at most one `trim` at a time, and one for all that ask while it runs.

    Whoever asks waits for a trim that began after it asked, so what it had freed is back when
    `trim` returns; of a burst of unloads most share theirs.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
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
        """Trim once for all that have asked, holding the lock before and after, not meanwhile."""
        self._running, covered = True, self._asked
        self._turn.release()
        try:
            trim()
        finally:
            self._turn.acquire()
            self._running, self._served = False, covered
            self._turn.notify_all()


together = Trimming()
"""The process has one heap to trim, however many managers it has."""


@cache
def keep_little() -> None:
    """Have every heap of the process give back what is freed at its top, from now on.

    Each thread may have a heap of its own, and `trim` reaches the top of the main one only. Left
    alone, glibc lets the others keep the more the larger the blocks were that it saw freed: 8 to
    30 MB were still there after a voice had left.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
