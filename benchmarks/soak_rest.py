"""What a worker and its processes hold at rest: threads and descriptors, and what is too much.

A pool has as many threads as were ever needed at once, up to its size, and a short run only begins
to fill it: while a worker works, that looks like growth. At rest each kind of thread is a pool's,
of which there may be as many as it has places, or there are as many of it as there were at the
start: so one thread or one descriptor that a fault leaves behind is found in a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import memory_mb
from greenroom.concurrency.threads import DaemonExecutor

_NUMBER = re.compile(r"[-_:]?\[?\d+\]?")

_OF_ENGINE = 6
"""Descriptors of an engine's process: the standard ones, its lifeline, for calls and for cores."""

_OF_GRPC = "native event_engine"
_MOST_OF_GRPC = 16
"""gRPC's own pool, which has more threads for 20 s after it had much to do."""

_SPARE_MB = 32.0
_GROWTH = 0.05
"""Memory at rest may be so much more, both together: each thread of a pool has a heap, and the
journal fills. What grows on and on is found by the quarters of a long run."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What a worker and the fork server hold while there is no model."""

    threads: Counter[str]
    descriptors: Counter[str]
    pools: Counter[str]
    """How many threads of a kind there may be at most."""
    memory_mb: float
    """Anonymous."""

    def is_like(self, other: Rest) -> bool:
        """Whether the same is held, but for memory."""
        return (self.threads, self.descriptors) == (other.threads, other.descriptors)


def threads_here() -> dict[str, dict[str, int]]:
    """Return this process's threads by kind, and how many of a kind pools may have."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found: Counter[str] = Counter()
    for task in map(int, os.listdir("/proc/self/task")):
        found[_kind(names.get(task) or _native_name(task))] += 1
    pools = Counter({_OF_GRPC: _MOST_OF_GRPC})
    for each in gc.get_objects():
        if type(each) is DaemonExecutor:
            pools[f"greenroom-{each.name}"] += each.size
    usual: Any = asyncio.get_running_loop()._default_executor  # type: ignore[attr-defined]
    pools["asyncio"] += 0 if usual is None else usual._max_workers
    return {"threads": dict(found), "pools": dict(pools)}


def _native_name(task: int) -> str:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return "native " + Path(f"/proc/self/task/{task}/comm").read_text().strip()
    return "ended"


def _kind(name: str) -> str:
    return _NUMBER.sub("", name)


def descriptors_of(pid: int) -> Counter[str]:
    """Return what a process has open, by kind; nothing once it has ended."""
    found: Counter[str] = Counter()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # the one that the list is read from
                found[_kind(os.readlink(f"/proc/{pid}/fd/{name}"))] += 1
    return found


def rest_of(pid: int, look: Mapping[str, Any]) -> Rest:
    """Return what a worker holds, by its answer to `rest`, and its fork server with it."""
    descriptors = descriptors_of(pid)
    threads = Counter(look["threads"])
    server = look["fork_server"]
    if server is not None:
        for kind, count in descriptors_of(server).items():
            descriptors[f"the fork server's {kind}"] = count
        threads["the fork server's"] = _thread_count(server)
    return Rest(threads, descriptors, Counter(look["pools"]), memory_mb(pid)[1])


def left_behind(before: Rest, after: Rest) -> dict[str, str]:
    """Return what there is more of after a run than there may be, and how much that is."""
    found = {}
    for what in ("threads", "descriptors"):
        had, has = getattr(before, what), getattr(after, what)
        for kind, count in has.items():
            most = max(had[kind], after.pools[kind] if what == "threads" else 0)
            if count > most:
                found[f"{what}, {kind}"] = f"{count}, at most {most}"
    most_mb = before.memory_mb * (1 + _GROWTH) + _SPARE_MB
    if after.memory_mb > most_mb:
        found["memory"] = f"{after.memory_mb:.0f} MB, at most {most_mb:.0f}"
    return found


def astray(processes: Mapping[str, int], connections: Mapping[str, int]) -> dict[str, str]:
    """Return what engines' processes hold beyond one thread, and one descriptor, a connection.

    By name: their ids, and how many connections the worker has to each. No call is under way.
    """
    found = {}
    for name, pid in processes.items():
        threads, descriptors = _thread_count(pid), descriptors_of(pid).total()
        if threads > 1 + connections[name]:
            found[f"threads of {name}"] = f"{threads}, {connections[name]} connections"
        if descriptors > _OF_ENGINE + connections[name]:
            found[f"descriptors of {name}"] = f"{descriptors}, {connections[name]} connections"
    return found


def _thread_count(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0
