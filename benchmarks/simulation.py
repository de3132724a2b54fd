"""Traces played against the ledger: how near to a real worker, and at what cost a request.

A worker with real voices, twice as many as it has places for, is asked for a minute at moments that
are drawn beforehand, so that no answer decides when the next request comes. What it met is recorded
with `greenroom record` and simulated with the worker's own settings: when requests came, how long
speeches and loads took is taken from the recording; which requests wait, for how long, and what is
loaded how often is the simulator's to say. A wait is from asking to having the model.

The floor of what a request costs is what the ledger takes for it: one hit and one release.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import sites
from benchmarks.figures import Effort, Figure
from benchmarks.listener import Listener
from benchmarks.processes import process
from benchmarks.rounds import Stopwatch
from benchmarks.voice_files import prepared_crowd
from greenroom.config.schema import ManagerSettings
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import ModelRequest, Policy
from greenroom.simulation.comparison import policy_of
from greenroom.simulation.generator import Workload, generate
from greenroom.simulation.outcome import Outcome
from greenroom.simulation.simulator import simulate
from greenroom.simulation.trace import Trace
from greenroom.simulation.trace_sources import read_trace

_VOICES = 6
_CAP = 3
_TEXT = "Yes."
_USE = 0.4
"""How much of the time one caller's speech would fill: more, and the cores decide who waits."""
_AT_ONCE = 0.5
"""Who waited for less than that share of the shortest load found its model ready: even then a
busy machine takes its time."""
_PATIENCE_S = 120.0
_REQUESTS = 360_000


def measure(effort: Effort) -> list[Figure]:
    """Return how far predictions are off, and what a request costs."""
    paths = prepared_crowd(2 if effort.short else _VOICES)
    settings = ManagerSettings(
        default_model_id=paths[0].stem,
        resident_cap=1 if effort.short else _CAP,
        cap_policy="hard",
        min_residency_ms=0,
        pin_default=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        trace = asyncio.run(_recorded(paths, settings, Path(folder) / "trace", 60 * effort.share))
    found = simulate(trace, policy_of(settings, trace))
    return [*_predictions(trace, found), *_cost(effort)]


def _predictions(trace: Trace, found: Outcome) -> list[Figure]:
    assert trace.waited_s is not None
    assert trace.loads is not None
    waited = trace.waited_s[~np.isnan(trace.waited_s)]
    shortest = min(min(model.loads_s) for model in trace.models)
    late = waited[waited > _AT_ONCE * shortest]
    loads = trace.loads
    return [
        Figure("a minute of a real worker: requests", (float(len(trace)),), ""),
        _off("… requests that waited", found.cold, len(late), 0.05),
        _off("… loads", found.loads, loads, 0.05),
        _off("… mean wait", found.wait_mean, float(waited.mean()), 0.10, "s"),
        _off(
            "… wait, 95th percentile", found.wait_p95, float(np.quantile(waited, 0.95)), 0.10, "s"
        ),
        _off("… longest wait", found.wait_most, float(waited.max()), None, "s"),
        Figure(
            "… refused", (float(found.refusals),), "", note=f"{len(trace) - len(waited)} really"
        ),
    ]


def _off(name: str, ours: float, real: float, at_most: float | None, unit: str = "") -> Figure:
    """Return by how much of what was real a prediction is off."""
    off = abs(ours - real) / real if real else float(ours != real)
    said = f"{ours:.3f} s predicted, {real:.3f} s recorded" if unit else f"{ours:g} and {real:g}"
    return Figure(f"{name}: off by", (off,), "", at_most=at_most, note=said)


async def _recorded(
    voices: list[Path], settings: ManagerSettings, file: Path, seconds: float
) -> Trace:
    """Return what a worker met that was asked for so many seconds."""
    given = {
        f"model_manager.{key}": getattr(settings, key)
        for key in ("resident_cap", "cap_policy", "min_residency_ms", "pin_default")
    }
    async with sites.worker(voices[0].stem, voices[0].parent, given) as site:
        async with Listener(site.port) as listener:
            took = [(await listener.say(_TEXT, voice.stem)).arrivals[-1] for voice in voices * 2]
        rate = min(8.0, _USE / min(took))
        asked = generate(
            Workload(len(voices), rate, max(seconds, 0.5) / 3_600, zipf=0.8, burst=2, seed=1)
        )
        program = str(Path(sys.executable).with_name("greenroom"))
        address = f"127.0.0.1:{site.port}"
        async with process([program, "record", "-o", str(file), "--address", address]):
            await asyncio.to_thread(_until_written, file, '"model"', 1)
            watch = Stopwatch()
            async with asyncio.TaskGroup() as calls:
                for at, model in zip(asked.at.tolist(), asked.model.tolist(), strict=True):
                    await asyncio.sleep(max(0.0, at - watch.read()))
                    calls.create_task(_say(site.port, voices[model].stem))
            await asyncio.to_thread(_until_written, file, '"request"', len(asked))
    return read_trace(str(file))


async def _say(port: int, voice: str) -> None:
    async with Listener(port) as listener:
        await listener.say(_TEXT, voice)


def _until_written(file: Path, what: str, times: int) -> None:
    """Wait until the recording has something so many times; raises `TimeoutError`."""
    watch = Stopwatch()
    while not file.exists() or file.read_text().count(what) < times:
        if watch.read() > _PATIENCE_S:
            raise TimeoutError(f"the recording has not {times} times {what}")
        time.sleep(0.1)


def _cost(effort: Effort) -> list[Figure]:
    """Return the processor time of a request, beside the ledger's alone, and of a day of them."""
    trace = generate(Workload(1_000, 100, effort.count(_REQUESTS) / 100 / 3_600, load_s=0.02))
    policy = Policy(resident_cap=1_000, cap_policy="hard", ttl=-1.0, min_residency=0.0)
    ours, floor = [], []
    for _ in range(min(effort.rounds, 5)):
        before = time.process_time()
        simulate(trace, policy)
        ours.append((time.process_time() - before) / len(trace))
        floor.append(_ledgers_part(trace, policy))
    day = tuple(8_640_000 * each for each in ours)
    peer = "the ledger's hit and release alone"
    return [
        Figure("a simulated request, processor time", tuple(ours), "s", peer, tuple(floor)),
        Figure("… a day of 1,000 models at 100 requests a second", day, "s", at_most=120.0),
    ]


def _ledgers_part(trace: Trace, policy: Policy) -> float:
    ledger = Residency(policy)
    names = [model.model_id for model in trace.models]
    for name in names:
        ledger.request(ModelRequest(name), None, 0.0)
        resident = ledger.get(name)
        if resident is not None:
            ledger.loaded(resident, True, 0.0)
            ledger.release(name, None, 0.0)
    asked = [names[model] for model in trace.model.tolist()]
    hit, release = ledger.hit, ledger.release
    before = time.process_time()
    for number, name in enumerate(asked):
        hit(name, number, 0.0)
        release(name, number, 0.0)
    return (time.process_time() - before) / len(asked)
