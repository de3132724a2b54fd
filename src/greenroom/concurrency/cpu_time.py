"""How long processes have computed, and how many cores that keeps busy."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class CpuTime:
    """What some processes have used of the processors, as of one moment; seconds."""

    at: float
    """By the monotonic clock."""
    used: Mapping[int, float]
    """Of each process, by its id."""

    def cores_since(self, earlier: CpuTime) -> float:
        """Return how many cores were busy on average since then; 0 if that is no time ago.

        A process that has come since counts from its beginning, one that has gone not at all.
        """
        passed = self.at - earlier.at
        used = sum(max(0.0, total - earlier.used.get(pid, 0.0)) for pid, total in self.used.items())
        return used / passed if passed > 0 else 0.0


def cpu_time(others: Iterable[int] = ()) -> CpuTime:
    """Return what this process and `others` have used until now; who has ended used nothing.

    Reads files of the others, if there are any: call off the loop.
    """
    used = {os.getpid(): time.process_time()} | {pid: _used_by(pid) for pid in others}
    return CpuTime(time.monotonic(), used)


def _used_by(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0
