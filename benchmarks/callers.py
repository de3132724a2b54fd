"""64 callers over HTTP, 8 voices, 3 of them in memory: who is refused, and who waits how long.

Nobody rests: who has heard a speech asks for the next one, of any voice each time, or of its own
for ever. The voices are real, each with 62 MB of weights of its own. The cap binds (`hard`), and
who is idle may leave at once (`min_residency_ms` 0). A wait is from asking to the first audio, with
all refusals and the times for which they send away.

The floor of fairness is the line: of the five voices that are not in memory, each waits for one of
three places, while whoever asks for one of the three does not wait at all. A voice in use is never
evicted, so while three are asked for without a pause the others never come in: that is what callers
of their own voices show, who are refused after 5 s to make it seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import sites
from benchmarks.audience import Caller
from benchmarks.figures import Effort, Figure
from benchmarks.listener import Listener
from benchmarks.processes import memory_mb
from benchmarks.voice_files import prepared_crowd

_CALLERS = 64
_VOICES = 8
_CAP = 3
_TEXT = "And back it goes."
_LOOK_S = 0.05
_SETTINGS = {
    "model_manager.pin_default": "false",
    "model_manager.resident_cap": _CAP,
    "model_manager.cap_policy": "hard",
    "model_manager.min_residency_ms": 0,
}
_IMPATIENT = {"model_manager.acquire_timeout_ms": 5_000}

Memory = tuple[float, float]
"""Megabytes: all that is resident, and the anonymous part of it."""


@dataclass(slots=True)
class Run:
    """What the callers met, and what was seen of the worker meanwhile."""

    callers: list[Caller]
    before: Memory
    """Once a single caller had heard every voice."""
    memory: list[Memory] = field(default_factory=list)
    residents: int = 0
    """The most at once that the worker told of, those that come and go included."""

    @property
    def waits(self) -> list[float]:
        """Of all speeches."""
        return [wait for caller in self.callers for wait in caller.waits]


def measure(effort: Effort) -> list[Figure]:
    """Return errors, refusals, residents, waits and memory."""
    paths = prepared_crowd(2 if effort.short else _VOICES)
    voices = [path.stem for path in paths]
    count = 8 if effort.short else _CALLERS
    mixed = [Caller(_any_voice(voices, number)) for number in range(count)]
    loyal = [Caller(itertools.repeat(voices[number % len(voices)])) for number in range(count)]
    patient = asyncio.run(_run(paths, mixed, _SETTINGS, 20 * effort.share))
    refused = asyncio.run(_run(paths, loyal, _SETTINGS | _IMPATIENT, 12 * effort.share))
    return [
        *_promised(patient, f"{count} callers, {len(voices)} voices, cap {_CAP}"),
        _slowest(patient, at_most=8.0),
        *_memory(patient),
        *_promised(refused, "each its own voice, so that three are never idle"),
        _slowest(refused),
    ]


def _any_voice(voices: list[str], number: int) -> Iterator[str]:
    choice = random.Random(number)
    while True:
        yield choice.choice(voices)


def _promised(run: Run, what: str) -> list[Figure]:
    errors = sum((caller.errors for caller in run.callers), Counter[str]())
    refusals = sum((caller.refusals for caller in run.callers), Counter[str]())
    unheard = sum(not caller.in_time for caller in run.callers)

    def row(name: str, count: int, at_most: int | None = None, note: str = "") -> Figure:
        return Figure(name, (float(count),), "", at_most=at_most, note=note)

    return [
        row(f"{what}: errors", errors.total(), 0, ", ".join(errors)),
        row("… refused, typed and with a time", refusals.total(), note=", ".join(refusals)),
        row("… residents at the peak", run.residents, _CAP),
        row("… speeches heard", len(run.waits)),
        row("… callers who heard none in time", unheard),
    ]


def _slowest(run: Run, at_most: float | None = None) -> Figure:
    waits, peer = run.waits, "the median of all speeches"
    name, middle = "… slowest first audio", median(waits)
    return Figure(name, (max(waits),), "s", peer, (middle,), at_most, "ratio")


def _memory(run: Run) -> list[Figure]:
    peak, _ = max(run.memory)
    seen = [anonymous for _, anonymous in run.memory]
    third = len(seen) // 3
    grown = median(seen[2 * third :]) - median(seen[third : 2 * third + 1])
    name, one = "… resident memory at the peak", "once one caller heard every voice"
    return [
        Figure(name, (peak,), "MB", one, (run.before[0],), 1.5, "ratio"),
        Figure("… growth of anonymous memory, second third to last", (grown,), "MB", at_most=20.0),
    ]


async def _run(
    voices: list[Path], callers: list[Caller], settings: dict[str, object], seconds: float
) -> Run:
    async with sites.worker(voices[0].stem, voices[0].parent, settings) as site:
        async with Listener(site.port) as listener:
            for voice in voices:
                await listener.say(_TEXT, voice.stem)
        run = Run(callers, memory_mb(site.pid))
        async with _watched(site, run):
            await asyncio.gather(*(each.call(site.port, _TEXT, seconds) for each in callers))
    return run


@contextlib.asynccontextmanager
async def _watched(site: sites.Site, run: Run) -> AsyncIterator[None]:
    watching = asyncio.create_task(_watch(site, run))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def _watch(site: sites.Site, run: Run) -> None:
    async with Listener(site.port) as listener:
        while True:
            run.residents = max(run.residents, len((await listener.get("/api/ps"))["models"]))
            run.memory.append(memory_mb(site.pid))
            await asyncio.sleep(_LOOK_S)
