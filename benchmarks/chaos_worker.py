"""The worker that faults are injected into: engines in processes, each group in one of its own.

Started by `benchmarks.chaos`. It reads commands as lines of JSON on standard input and answers on
standard output; its log goes to standard error, as that of `greenroom serve`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
from typing import Any

from benchmarks.chaos_engines import BreakingTone, BreakingVoice
from benchmarks.soak_rest import threads_here
from benchmarks.voices import piper_voices
from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.cli.terminal.console import configure_logging
from greenroom.cli.terminal.streams import safe_streams
from greenroom.concurrency.threads import DaemonExecutor
from greenroom.config.schema import Config
from greenroom.ledger import backoff
from greenroom.worker.app import Worker

STEADY = ("steady-1", "steady-2")
"""Models of a process that nothing is done to."""

BREAKING = ("breaking-1", "breaking-2")
VOICES = ("voice-1", "voice-2")
"""Models of the two processes that break: tones, and the real voice."""

TWELVE = tuple(f"{kind}-{number}" for kind in ("steady", "breaking") for number in range(1, 7))
"""For a soak: half of them break."""

SPARE = "spare"
"""A model with a process of its own, which is started anew each time."""

STEP_LIMIT_S = 5.0
"""What stands still is noticed after this long."""

FORGETTING_S = 0.5
"""Crashes are forgotten as quickly: here they come from outside, and backing off is right only
for an engine that crashes by itself."""


def catalog(kind: str) -> Catalog:
    """Return the models: `tone`, `real` for those of the real voice too, or `twelve` tones."""
    names = TWELVE if kind == "twelve" else (*STEADY, *BREAKING)
    tones = [
        ModelSpec(
            name,
            ToneTTSAdapter if name.startswith("steady") else BreakingTone,
            options={"frequency": 200.0 + 20 * number},
        )
        for number, name in enumerate(names)
    ]
    spare = ModelSpec(SPARE, ToneTTSAdapter, isolation="model")
    return Catalog([*tones, spare, *(_voices() if kind == "real" else [])])


def _voices() -> list[ModelSpec]:
    (voice,) = piper_voices(1)
    same = {"noise_scale": 0.0, "noise_w_scale": 0.0}
    return [ModelSpec(name, BreakingVoice, voice.path, options=same) for name in VOICES]


def build(listen: str, http_listen: str, kind: str) -> Worker:
    """Return the worker; that of `twelve` has room for three models, and for no more."""
    narrow = kind == "twelve"
    backoff.CRASH_MEMORY_S = FORGETTING_S
    manager = ModelManager(
        catalog=catalog(kind),
        default_model_id=STEADY[0],
        resident_cap=3 if narrow else 16,
        cap_policy="hard",
        pin_default=not narrow,
        min_residency_ms=300,
        ttl_ms=5_000 if narrow else 600_000,
        synthesis_timeout_ms=int(STEP_LIMIT_S * 1_000),
        load_timeout_ms=20_000,
        memory_budget_mb=4_000,
        isolation="engine",
    )
    settings = {"listen": listen, "http_listen": http_listen, "drain_timeout_ms": 2_000}
    return Worker(Config.model_validate({"worker": settings}), manager)


async def obey(worker: Worker, executor: DaemonExecutor) -> None:
    """Carry out commands until `stop`, or until nobody is there to command."""
    while line := await executor.run(sys.stdin.readline):
        command = json.loads(line)["do"]
        if command == "stop":
            return
        if command == "unload spare" and SPARE in _resident_ids(worker):
            await worker.manager.unload(SPARE)
        if command == "unload all":
            for model_id in _resident_ids(worker):
                worker.manager.unpin(model_id)
                await worker.manager.unload(model_id)
        if command.startswith("leak a "):
            _leak(command.removeprefix("leak a "))
        found = snapshot(worker)
        if command == "rest":
            found |= threads_here()
        print(json.dumps(found), flush=True)


_leaked: list[int] = []


def _leak(what: str) -> None:
    """Keep a thread or a descriptor for ever, so that a soak can be seen to find it."""
    if what == "thread":
        threading.Thread(target=threading.Event().wait, name="leaked", daemon=True).start()
    else:
        _leaked.append(os.open(os.devnull, os.O_RDONLY))


def _resident_ids(worker: Worker) -> list[str]:
    return [each.model_id for each in worker.manager.statistics().residents]


def snapshot(worker: Worker) -> dict[str, Any]:
    """Return what is asserted on, and the processes."""
    found = worker.manager.statistics()
    processes = worker.manager._effects.processes
    launcher, running = processes._launcher, processes.all
    return {
        "held": sum(r.refcount + r.streams for r in found.residents),
        "moving": [r.model_id for r in found.residents if str(r.state) not in ("ready",)],
        "residents": [r.model_id for r in found.residents],
        "waiting": found.waiting,
        "hanging": list(found.hanging),
        "streams": {r.model_id: (r.refcount, r.streams) for r in found.residents},
        "capacity_used": found.capacity_used,
        "streams_waiting": found.streams_waiting,
        "booked_mb": found.footprint_mb,
        "sum_mb": sum(r.footprint_mb for r in found.residents),
        "gaps": {r.model_id: r.gaps for r in found.residents},
        "processes": {each.name: each.pid for each in running},
        "connections": {each.name: len(each._open) for each in running},
        "fork_server": None if launcher is None else launcher.pid,
    }


async def serve(listen: str, http_listen: str, kind: str) -> None:
    """Serve until told to stop."""
    worker = await asyncio.to_thread(build, listen, http_listen, kind)
    await worker.listen()
    await worker.initialize()
    executor = DaemonExecutor("chaos", 1)
    await executor.run(lambda: None)
    print(json.dumps({"ready": True, **snapshot(worker)}), flush=True)
    await obey(worker, executor)
    await worker.stop()
    print(json.dumps({"stopped": True}), flush=True)


def main(listen: str, http_listen: str, kind: str) -> None:
    """Set up what the command line sets up, and serve."""
    with safe_streams(to_the_end=True):
        configure_logging(logging.INFO)
        faulthandler.register(signal.SIGUSR1)  # what every thread does, for who looks for a fault
        asyncio.run(serve(listen, http_listen, kind))


if __name__ == "__main__":
    main(*sys.argv[1:4])
