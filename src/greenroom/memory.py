"""How much memory there is, how much this process takes, and how it gives some back."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import cache
from pathlib import Path

import psutil

MIB = 1024 * 1024

DEFAULT_SHARE = 0.8
"""The part of the memory this process may have that models may take, unless configured."""

_M_TRIM_THRESHOLD = -1  # from malloc.h
_TRIM_THRESHOLD = 128 * 1024  # what glibc itself begins with


def limit_bytes() -> int:
    """Return the memory this process may have: the cgroup's limit or the machine's RAM."""
    total = int(psutil.virtual_memory().total)
    return min([total, *_cgroup_limits()])


def _cgroup_limits(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Read cgroup v2 `memory.max` and v1 `memory.limit_in_bytes`; `max` means none."""
    found = []
    for path in (root / "memory.max", root / "memory" / "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    return found


def resident_bytes() -> int:
    """Return the physical memory this process takes, mapped files included."""
    return int(psutil.Process().memory_info().rss)


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
