"""64 callers over HTTP, 8 voices, 3 of them in memory: who is refused, and who waits how long.

Nobody rests: who has heard a speech asks for the next one, of any voice each time, or of its own
for ever. The voices are real, each with 62 MB of weights of its own. The cap binds (`hard`), and
who is idle may leave at once (`min_residency_ms` 0). A wait is from asking to the first audio, with
all refusals and the times for which they send away.

The floor of fairness is the line: of the five voices that are not in memory, each waits for one of
three places, while whoever asks for one of the three does not wait at all. Callers of their own
voices, who ask without a pause, leave no voice idle: without turns the five would never come in,
and are heard only once the others have gone. With turns all are heard alike, and no less in all.
How long a first word may take then follows from the longest speech, which is that of the run
without turns, where all speeches but those of the first seconds are hits, and from the load.
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
from greenroom.ledger.state import Policy
from greenroom.ledger.turns import Turns

_CALLERS = 64
_VOICES = 8
_CAP = 3
_TEXT = "And back it goes."
_WORD = "Yes."
"""What callers of their own voices hear: short, so that a run has many turns."""
_LOOK_S = 0.05
_SETTINGS = {
    "model_manager.pin_default": "false",
    "model_manager.resident_cap": _CAP,
    "model_manager.cap_policy": "hard",
    "model_manager.min_residency_ms": 0,
}
_TURN_AFTER_MS = 2_000
_TURN = 'greenroom_departures_total{reason="turn"}'

Memory = tuple[float, float]
"""Megabytes: all that is resident, and the anonymous part of it."""


@dataclass(slots=True)
class Run:
    """What the callers met, and what was seen of the worker meanwhile."""

    callers: list[Caller]
    before: Memory
    """Once a single caller had heard every voice."""
    load_s: float
    """The longest that this caller waited for a first word, for which a voice was loaded."""
    seconds: float
    """How long they called."""
    turns: int = 0
    """Voices that left in use, for one that waited."""
    memory: list[Memory] = field(default_factory=list)
    residents: int = 0
    """The most at once that the worker told of, those that come and go included."""

    @property
    def waits(self) -> list[float]:
        """Of all speeches."""
        return [wait for caller in self.callers for wait in caller.waits]

    @property
    def speeches(self) -> list[int]:
        """Of each caller, while everybody called."""
        return [caller.in_time for caller in self.callers]


def measure(effort: Effort) -> list[Figure]:
    """Return errors, refusals, residents, waits and memory."""
    paths = prepared_crowd(2 if effort.short else _VOICES)
    voices = [path.stem for path in paths]
    count = 8 if effort.short else _CALLERS
    mixed = [Caller(_any_voice(voices, number)) for number in range(count)]
    few = [Caller(_any_voice(voices, number)) for number in range(2)]
    patient = asyncio.run(_run(paths, mixed, _SETTINGS, 20 * effort.share))
    quiet = asyncio.run(_run(paths, few, _SETTINGS, 5 * effort.share))
    without, turned = (
        asyncio.run(_run(paths, _loyal(voices, count), _turning(after), seconds, _WORD))
        for after, seconds in ((-1, 15 * effort.share), (_TURN_AFTER_MS, 120 * effort.share))
    )
    return [
        *_promised(patient, f"{count} callers, {len(voices)} voices, cap {_CAP}"),
        _slowest(patient, at_most=8.0),
        *_memory(patient),
        Figure(f"… {len(few)} callers: turns", (float(quiet.turns),), "", at_most=0),
        *_promised(without, "each its own voice, no turns, so that three are never idle"),
        _slowest(without),
        *_promised(turned, "each its own voice, with turns", heard_by_all=not effort.short),
        *_fair(turned, without, len(voices)),
    ]


def _loyal(voices: list[str], count: int) -> list[Caller]:
    return [Caller(itertools.repeat(voices[number % len(voices)])) for number in range(count)]


def _turning(after_ms: int) -> dict[str, object]:
    return _SETTINGS | {"model_manager.turn_after_ms": after_ms}


def _fair(turned: Run, without: Run, voices: int) -> list[Figure]:
    """Return how alike callers are heard with turns, how long they wait, and what it costs."""
    peer = "without turns"
    took, took_without = (run.seconds / max(1, sum(run.speeches)) for run in (turned, without))
    speech = max((whole for each in without.callers for whole in each.wholes[:-1]), default=0.0)
    longest = _TURN_AFTER_MS / 1000 + 1.5 * max(0, voices - _CAP) / _CAP * _turn_s(
        speech, turned.load_s, voices
    )
    return [
        Figure("… turns", (float(turned.turns),), ""),
        Figure("… 1 - Jain's index of speeches", (1 - _jain(turned.speeches),), "", at_most=0.01),
        Figure(
            "… longest wait for a first word, ÷ what may be",
            (max(turned.waits) / longest,),
            "",
            at_most=1.0,
            note=f"{longest:.1f} s: turns of {speech:.1f} s speech and {turned.load_s:.2f} s load",
        ),
        Figure("… for each speech", (took,), "s", peer, (took_without,), 1 / 0.9, "ratio"),
    ]


def _turn_s(speech: float, load: float, voices: int) -> float:
    """Return the seconds of a turn, from one voice in a place to the next."""
    turns = Turns(Policy(turn_after=_TURN_AFTER_MS / 1000))
    turns.learn_speech(speech)
    turns.learn_load(load)
    return turns.quantum(max(0, voices - _CAP), _CAP) + turns.cost


def _jain(counts: list[int]) -> float:
    """Return 1 where all have as much, 1/n where one of n has all."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 1.0


def _any_voice(voices: list[str], number: int) -> Iterator[str]:
    choice = random.Random(number)
    while True:
        yield choice.choice(voices)


def _promised(run: Run, what: str, *, heard_by_all: bool = False) -> list[Figure]:
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
        row("… callers who heard none in time", unheard, 0 if heard_by_all else None),
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
    voices: list[Path],
    callers: list[Caller],
    settings: dict[str, object],
    seconds: float,
    text: str = _TEXT,
) -> Run:
    async with sites.worker(voices[0].stem, voices[0].parent, settings) as site:
        async with Listener(site.port) as listener:
            alone = [(await listener.say(text, voice.stem)).first for voice in voices]
        run = Run(callers, memory_mb(site.pid), max(alone), seconds)
        async with _watched(site, run):
            await asyncio.gather(*(each.call(site.port, text, seconds) for each in callers))
        async with Listener(site.port) as listener:
            run.turns = _turns_in(await listener.text("/metrics"))
    return run


def _turns_in(metrics: str) -> int:
    lines = [line for line in metrics.splitlines() if _TURN in line]
    return round(float(lines[0].split()[-1]))


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
