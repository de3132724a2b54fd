"""The worker that the soak tries: good voices, bad engines, and faults on command.

Started by `benchmarks.soak`. It reads commands as lines of JSON on standard input and answers on
standard output; its log goes to standard error, as that of `greenroom serve`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from fuzz.adapter import AdapterDoor
from fuzz.engine import CHUNKS, Tame, wild
from greenroom import AudioChunk, Catalog, ModelManager, ModelSpec, TTSAdapter
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.cli.terminal.console import configure_logging
from greenroom.cli.terminal.streams import safe_streams
from greenroom.concurrency.threads import DaemonExecutor
from greenroom.config.schema import Config
from greenroom.worker.app import Worker

JOE = "piper-en-us-joe-medium"
TONES = ("tone-220", "tone-247", "tone-277", "tone-330")
CANARY, STRICT, RUBBISH, HANGING = "tone-440", "strict", "rubbish", "hanging"

LOAD_LIMIT_S = 8.0
DRAIN_MS = 2_000
STRICT_RATE = 24_000

_HANG_S = 12.0


class Faults:
    """What is broken at the moment, and what was noticed inside the engines."""

    hung_until: ClassVar[float] = 0.0
    no_thread_until: ClassVar[float] = 0.0
    noticed: ClassVar[list[str]] = []


class Strict(Tame):
    """One sentence at a time: notices when it is entered twice, and speaks each caller's level.

    The text says the level, in hundredths: `Level 25.` is spoken at 0.25.
    """

    concurrency: ClassVar[int | None] = 1
    sample_rate = STRICT_RATE

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._lock = threading.Lock()

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Yield chunks of one level, at the pace of an engine that works."""
        if not self._lock.acquire(blocking=False):
            Faults.noticed.append("an engine with concurrency 1 was entered twice")
            raise RuntimeError("entered twice")
        try:
            digits = "".join(filter(str.isdigit, text))
            level = np.float32(int(digits or 50) / 100)
            for _ in range(CHUNKS):
                time.sleep(0.005)
                yield AudioChunk(np.full(STRICT_RATE // 10, level, np.float32), STRICT_RATE)
        finally:
            self._lock.release()


class Rubbish(Tame):
    """At every load another engine, which does what a random plan of the fuzz target says."""

    dice: ClassVar[random.Random] = random.Random(1)

    def __new__(cls, spec: ModelSpec) -> Any:
        """Return an object of the class that was drawn."""
        plan = tuple(pair for pair in AdapterDoor().draw(cls.dice) if pair[0] not in _OUTSIDE)
        return wild(plan, _LIVING)(spec)


class Hanging(Tame):
    """Speaks, but for the while in which its streams hang for longer than they may."""

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Hang first, if that is asked for."""
        if time.monotonic() < Faults.hung_until:
            time.sleep(_HANG_S)
        yield from super().synthesize(text, options)


_OUTSIDE = ("callers", "owner", "discover", "check_options", "check_spec")
_LIVING: weakref.WeakSet[TTSAdapter] = weakref.WeakSet()


def catalog() -> Catalog:
    """Return the models: the real voice says the same each time."""
    same = {"noise_scale": 0.0, "noise_w_scale": 0.0}
    (joe,) = (spec for spec in Catalog.discover() if spec.model_id == JOE)
    real = ModelSpec(JOE, joe.adapter, joe.path, options=same)
    tones = [
        ModelSpec(name, ToneTTSAdapter, options={"frequency": float(name[5:])})
        for name in (*TONES, CANARY)
    ]
    bad = [ModelSpec(STRICT, Strict), ModelSpec(RUBBISH, Rubbish), ModelSpec(HANGING, Hanging)]
    return Catalog([real, *tones, *bad])


def build(listen: str, http_listen: str) -> Worker:
    """Return a worker that is busy with few models, so that they come and go."""
    manager = ModelManager(
        catalog=catalog(),
        default_model_id=JOE,
        resident_cap=5,
        max_parallel_loads=2,
        ttl_ms=4_000,
        min_residency_ms=500,
        evict_check_interval_ms=500,
        load_timeout_ms=int(LOAD_LIMIT_S * 1_000),
        synthesis_timeout_ms=int(LOAD_LIMIT_S * 1_000),
        acquire_timeout_ms=20_000,
        memory_budget_mb=4_000,
    )
    settings = {
        "listen": listen,
        "http_listen": http_listen,
        "session_idle_ms": 5_000,
        "drain_timeout_ms": DRAIN_MS,
    }
    return Worker(Config.model_validate({"worker": settings}), manager)


def break_threads() -> None:
    """Let `threading.Thread.start` fail, as the system does, while that is asked for."""
    start = threading.Thread.start

    def may_start(thread: threading.Thread) -> None:
        if time.monotonic() < Faults.no_thread_until:
            raise RuntimeError("can't start new thread")
        start(thread)

    threading.Thread.start = may_start  # type: ignore[method-assign, assignment]


def fill_the_log_disk(seconds: float) -> None:
    """Let every write to standard error fail for a while, as on a full disk; blocks."""
    kept = os.dup(2)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 2)
    time.sleep(seconds)
    os.dup2(kept, 2)
    os.close(kept)
    os.close(full)


async def obey(worker: Worker, executor: DaemonExecutor) -> None:
    """Carry out commands until `stop`, or until nobody is there to command."""
    while line := await executor.run(sys.stdin.readline):
        command = json.loads(line)
        seconds = float(command["seconds"])
        until = time.monotonic() + seconds
        match command["do"]:
            case "stop":
                return
            case "no threads":
                Faults.no_thread_until = until
            case "hang":
                Faults.hung_until = until
            case "full log":
                await executor.run(functools.partial(fill_the_log_disk, seconds))
            case "many lines":
                for number in range(3_000):
                    logging.getLogger("greenroom.soak").info("a line of the log, %d", number)
        print(json.dumps(snapshot(worker)), flush=True)


def snapshot(worker: Worker) -> dict[str, Any]:
    """Return what the soak asserts on."""
    found = worker.manager.statistics()
    return {
        "residents": [
            {
                "model": r.model_id,
                "state": str(r.state),
                "refcount": r.refcount,
                "streams": r.streams,
                "owners": list(r.owners)[:5],
            }
            for r in found.residents
        ],
        "waiting": found.waiting,
        "loads": found.loads,
        "failed_loads": found.failed_loads,
        "unloads": found.unloads,
        "evictions": found.evictions,
        "noticed": Faults.noticed,
        "threads": threading.active_count(),
    }


async def serve(listen: str, http_listen: str) -> None:
    """Serve until told to stop; say how long stopping took."""
    worker = await asyncio.to_thread(build, listen, http_listen)
    await worker.listen()
    await worker.initialize()
    executor = DaemonExecutor("soak", 1)
    await executor.run(lambda: None)
    print(json.dumps({"ready": True, **snapshot(worker)}), flush=True)
    await obey(worker, executor)
    began = time.monotonic()
    await worker.stop()
    print(json.dumps({"stopped_s": time.monotonic() - began}), flush=True)


def main(listen: str, http_listen: str, seed: str) -> None:
    """Set up what the command line sets up, and serve."""
    with safe_streams(to_the_end=True):
        configure_logging(logging.INFO)
        break_threads()
        Rubbish.dice = random.Random(int(seed))
        asyncio.run(serve(listen, http_listen))


if __name__ == "__main__":
    main(*sys.argv[1:4])
