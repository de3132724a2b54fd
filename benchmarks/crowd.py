"""Many callers, few places: 32 callers do 1,000 operations each over 8 voices, 3 of them in memory.

An operation takes a reference, keeps it for a turn of the loop, and gives it back. Every fiftieth
speaks in between, and half of those give the reference back while the stream still runs. While it
runs, everything is counted from outside: in the voice (who is loaded, who leaves) and by the
callers (who holds what).
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from dataclasses import dataclass, replace

from benchmarks.figures import Effort, Figure
from benchmarks.rounds import Stopwatch
from greenroom import CapacityError, Catalog, ManagerStatistics, ModelManager, TTSAdapter
from greenroom.adapters.tone import ToneTTSAdapter

_CALLERS = 32
_OPERATIONS = 1_000
_CAP = 3
_PARALLEL_LOADS = 4
_SPEAKS_EVERY = 50
_FRAMES = 5
_POPULARITY = (8, 7, 6, 5, 4, 3, 2, 1)
"""How often each of the voices is asked for, in proportion."""


@dataclass(slots=True)
class Run:
    """What one run did."""

    seconds: float
    operations: int
    statistics: ManagerStatistics
    rules: Rules


class Rules:
    """Counts from outside what the manager promises, and each time it is broken."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.peak = 0
        """The most voices between the begin of load and the end of unload at once."""
        self.broken: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        """Operations that ended in an error, by its name."""
        self._here: dict[str, TTSAdapter] = {}
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enters(self, voice: TTSAdapter) -> None:
        """A voice begins to load; called in its thread."""
        with self._lock:
            self.broken["two instances of one model"] += voice.spec.model_id in self._here
            self._here[voice.spec.model_id] = voice
            self.peak = max(self.peak, len(self._here))
            self.broken["more residents than the cap"] += len(self._here) > self.cap

    def leaves(self, voice: TTSAdapter) -> None:
        """A voice begins to unload; called in its thread."""
        with self._lock:
            self.broken["unloaded under a reference"] += self._held[voice.spec.model_id] > 0

    def left(self, voice: TTSAdapter) -> None:
        """A voice is unloaded; called in its thread."""
        with self._lock:
            self.broken["unloaded twice"] += self._here.pop(voice.spec.model_id, None) is not voice

    def taken(self, model_id: str, voice: TTSAdapter) -> None:
        """A caller has a reference."""
        with self._lock:
            self._held[model_id] += 1
            self.broken["handed out what is not loaded"] += self._here.get(model_id) is not voice

    def given_back(self, model_id: str) -> None:
        """A caller is about to give its reference back, or its last stream has ended."""
        with self._lock:
            self._held[model_id] -= 1

    def check(self, manager: ModelManager) -> None:
        """Compare what the manager says with what was counted."""
        residents = manager.list_resident()
        self.broken["the manager books more than the cap"] += len(residents) > self.cap
        for resident in residents:
            uses = resident.refcount + resident.streams
            self.broken["a reference is not counted"] += uses < self._held[resident.model_id]


def measure(effort: Effort) -> list[Figure]:
    """Return rules broken, peak, errors and speed, the last against a cap nobody meets."""
    operations = effort.count(_OPERATIONS)
    runs: list[Run] = []
    roomy: list[Run] = []
    for _ in range(min(effort.rounds, 5)):
        roomy.append(asyncio.run(_run(operations, cap=len(_POPULARITY))))
        runs.append(asyncio.run(_run(operations, cap=_CAP)))
    what = f"{_CALLERS} callers × {operations:,} operations, {len(_POPULARITY)} voices, cap {_CAP}"
    broken = [run.rules.broken for run in runs]
    lost = [run.rules.lost for run in runs]
    peak = max(run.rules.peak for run in runs)
    peer = f"cap {len(_POPULARITY)}: nobody leaves"
    return [
        Figure(f"{what}: rules broken", (_worst(broken),), "", at_most=0, note=_named(broken)),
        Figure("… residents at the peak", (float(peak),), "", at_most=_CAP),
        Figure("… operations refused", (_worst(lost),), "", at_most=0, note=_named(lost)),
        Figure("… operations", _speed(runs), "/s", peer, _speed(roomy), note=_told(runs[-1])),
        Figure("… loads", tuple(run.statistics.loads / run.seconds for run in runs), "/s"),
    ]


def _worst(counts: list[Counter[str]]) -> float:
    return float(max(count.total() for count in counts))


def _named(counts: list[Counter[str]]) -> str:
    return ", ".join(sorted({name for count in counts for name in +count}))


def _speed(runs: list[Run]) -> tuple[float, ...]:
    return tuple(run.operations / run.seconds for run in runs)


def _told(run: Run) -> str:
    total = run.statistics
    joined = run.operations - total.hits - total.loads
    return (
        f"{total.hits:,} hits, {total.loads:,} loads, {joined:,} that shared one of them, "
        f"{total.evictions:,} evictions"
    )


async def _run(operations: int, *, cap: int) -> Run:
    rules = Rules(cap)
    adapter = _watched(rules)
    catalog = Catalog(replace(spec, adapter=adapter) for spec in ToneTTSAdapter.discover(()))
    names = [spec.model_id for spec in catalog]
    manager = ModelManager(
        catalog=catalog,
        default_model_id=names[0],
        pin_default=False,
        resident_cap=cap,
        cap_policy="hard",
        min_residency_ms=0,
        max_parallel_loads=_PARALLEL_LOADS,
        acquire_timeout_ms=300_000,
    )
    async with manager:
        watching = asyncio.create_task(_watch(manager, rules))
        watch = Stopwatch()
        callers = (_call(manager, rules, names, number, operations) for number in range(_CALLERS))
        await asyncio.gather(*callers)
        seconds = watch.read()
        watching.cancel()
        await asyncio.wait([watching])
        statistics = manager.statistics()
    return Run(seconds, _CALLERS * operations, statistics, rules)


async def _call(
    manager: ModelManager, rules: Rules, names: list[str], number: int, operations: int
) -> None:
    choice = random.Random(number)
    for turn in range(operations):
        model_id = choice.choices(names, _POPULARITY)[0]
        try:
            voice = await manager.load(model_id, owner=number)
        except CapacityError as error:
            rules.lost[type(error).__name__] += 1
            continue
        rules.taken(model_id, voice)
        if turn % _SPEAKS_EVERY == number % _SPEAKS_EVERY:
            await _speak(manager, rules, voice, number, early=turn % 2 == 0)
        else:
            await asyncio.sleep(0)
            rules.given_back(model_id)
            await manager.release(model_id, owner=number)


async def _speak(
    manager: ModelManager, rules: Rules, voice: TTSAdapter, number: int, *, early: bool
) -> None:
    """Hear a few frames; `early` gives the reference back before the stream ends."""
    model_id = voice.spec.model_id
    async with voice.synthesize_stream("A few frames.") as stream:
        for _ in range(_FRAMES):
            await anext(stream)
        if early:
            await manager.release(model_id, owner=number)
        await anext(stream)
        rules.given_back(model_id)
    if not early:
        await manager.release(model_id, owner=number)


async def _watch(manager: ModelManager, rules: Rules) -> None:
    while True:
        rules.check(manager)
        await asyncio.sleep(0.002)


def _watched(rules: Rules) -> type[TTSAdapter]:
    class WatchedTone(ToneTTSAdapter):
        """A tone that reports its coming and going."""

        def load(self) -> None:
            rules.enters(self)
            super().load()

        def unload(self) -> None:
            rules.leaves(self)
            super().unload()
            rules.left(self)

    return WatchedTone
