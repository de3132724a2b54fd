"""How much memory there is, and how much of each device's memory this process takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from greenroom.catalog.devices import CPU, gpu_of
from greenroom.memory import cgroups, nvml

MIB = 1024 * 1024

DEFAULT_SHARE = 0.8
"""The part of the memory this process may have that models may take, unless configured."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Physical memory in bytes, by what it takes to get it back; also a difference of two."""

    anonymous: int
    """Heaps, stacks and all else that is in no file: only freeing it gives it back."""
    mapped: int = 0
    """Pages of mapped files: shared by all processes that map them, and the system drops them by
    itself when memory gets short, to read them again from the file when they are next used."""

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.anonymous - earlier.anonymous, self.mapped - earlier.mapped)


_STATUS = "/proc/self/status"


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
    have counted. Elsewhere mapped files cannot be counted apart cheaply: memory that is this
    process's alone, where the system says so, counts as anonymous, and nothing as mapped.
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


def usage_of(pid: int) -> Usage | None:
    """Return what another process takes now; `None` when it has ended or cannot be read."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        return _usage_in(f"/proc/{pid}/status")
    return None


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """Physical memory of a whole process, in bytes."""

    anonymous: int
    """What only freeing gives back."""
    mapped: int
    """Pages of mapped files: each file counts once, however many models map it."""
    proportional: int | None
    """All of it, pages that several processes have divided among them; `None` where the system
    does not tell."""


def process_usage() -> ProcessUsage:
    """Return what this process takes. Takes 0.4 ms for 350 MB: call off the loop."""
    now = usage()
    return ProcessUsage(now.anonymous, now.mapped, proportional_bytes_of(os.getpid()))


def proportional_bytes_of(pid: int) -> int | None:
    """Return what another process takes, pages that several have divided among them (`Pss`).

    `None` when it has ended or cannot be read. Takes 0.4 ms for 350 MB: call off the loop.
    """
    with contextlib.suppress(OSError, StopIteration, ValueError):
        with open(f"/proc/{pid}/smaps_rollup", "rb") as sizes:
            line = next(line for line in sizes if line.startswith(b"Pss:"))
        return int(line.split()[1]) * 1024
    return None


def anonymous_bytes_of(pid: int) -> int:
    """Return the anonymous memory of another process; 0 when it has ended or cannot be read."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        return _usage_in(f"/proc/{pid}/status").anonymous
    return 0


def usage_on(device: str, pid: int | None = None) -> Usage | None:
    """Return what a process, this one unless it is given, takes of a device's memory.

    `None` if the device does not report it. Of a GPU all counts as anonymous. Any other device
    shares the machine's memory.
    """
    gpu = gpu_of(device)
    if gpu is None:
        return usage() if pid is None else usage_of(pid)
    taken = nvml.process_bytes(gpu, pid)
    return None if taken is None else Usage(taken)


def growth_on(device: str, before: Usage | None) -> Usage | None:
    """Return how much this process has grown on a device; `None` if it does not report that."""
    return growth(usage_on(device), before)


def growth(now: Usage | None, before: Usage | None) -> Usage | None:
    """Return the difference of two results of `usage_on`; `None` if the device reports nothing.

    `before` is `None` of a GPU that the process had not used yet.
    """
    return None if now is None else now - (before or Usage(0))


def gpu_budget_bytes(device: str) -> int | None:
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
    """Return the pages of mapped files in physical memory; 0 where the system does not say."""
    return usage().mapped


class ProcessMemory:
    """What the process takes of each device's memory beyond what it took before its first model.

    That is what is really taken for the models, whatever was booked for them. The growth of the
    surrounding program counts as well: it cannot be told apart. `begin` and `read` block: call
    them off the loop.
    """

    def __init__(self, devices: Iterable[str]) -> None:
        # Devices of other kinds share the machine's memory, or report nothing.
        self._devices = [name for name in devices if name == CPU or gpu_of(name) is not None]
        self._before: dict[str, int] = {}
        self.children: set[int] = set()
        """Ids of child processes whose memory counts as this process's own."""
        self.beside: Callable[[], int] = int
        """Returns the anonymous memory of what else counts, such as engines in processes."""
        self.whole: ProcessUsage | None = None
        """What this process took when it was last read, whoever takes it; `None` before that."""

    def begin(self) -> None:
        """Remember what the process takes before any model is loaded."""
        self._before = self._taken()
        self.whole = process_usage()

    def read(self) -> dict[str, int]:
        """Return, by device, the bytes taken since `begin`; without devices that report nothing.

        Of the machine's memory that is anonymous memory, which only freeing gives back.
        """
        now = self._taken()
        self.whole = process_usage()
        taken = {device: max(0, size - self._before.get(device, 0)) for device, size in now.items()}
        if CPU in taken:
            # A copy: the event loop may add or remove a child while this thread reads.
            taken[CPU] += sum(map(anonymous_bytes_of, tuple(self.children))) + self.beside()
        return taken

    def _taken(self) -> dict[str, int]:
        found = {device: usage_on(device) for device in self._devices}
        return {device: taken.anonymous for device, taken in found.items() if taken is not None}
