"""How much memory there is, how much this process takes, and how it gives some back."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import psutil

MIB = 1024 * 1024

DEFAULT_SHARE = 0.8
"""The part of the memory this process may have that models may take, unless configured."""


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
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError, AttributeError):
        trim: Callable[[int], int] = ctypes.CDLL("libc.so.6").malloc_trim
        return trim
    return None


def trim() -> None:
    """Give freed heap pages back to the system (glibc keeps them otherwise). Call off the loop."""
    release = _malloc_trim()
    if release is not None:
        release(0)
