"""What the ledger's decisions cost as the catalog and the number of residents grow.

The pure ledger, with no event loop and no engine. As in `timeit`, garbage collection rests while
the clock runs. A logarithm grows threefold from 10 to 1,000; what takes constant time may take
half as long again, for processor caches hold ten residents better than a thousand.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence

from benchmarks.figures import Effort, Figure
from benchmarks.rounds import Stopwatch
from greenroom import Catalog, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Decision, Load, ModelRequest, Policy, Unload

_CATALOGS = (10, 10_000)
_RESIDENTS = (10, 100, 1_000)
_STEPS = 5_000
_CONSTANT = 1.5
_HOT = 0.8
"""In the mix: the part of the room that is asked for nine times out of ten."""


class LedgerDriver:
    """Drives a ledger with a catalog and a clock, and carries out every decision at once."""

    def __init__(self, residents: int, catalog: int) -> None:
        self.now = 0.0
        self.catalog = Catalog(ModelSpec(f"m{n}", ToneTTSAdapter) for n in range(catalog))
        span = max(1, catalog // (2 * residents))
        self.asked = [f"m{n * span}" for n in range(2 * residents)]
        """Ids spread over the catalog: twice as many as there is room for."""
        self._turn = itertools.cycle(self.asked)
        policy = Policy(resident_cap=residents, min_residency=0.0, ttl=2.0 * residents)
        self.ledger = Residency(policy)
        for _ in range(residents):
            self.now += 1.0
            self._bring_in(next(self._turn))

    def ask(self, model_id: str) -> None:
        """Take a reference of a model, ready or not, and give it back."""
        self.now += 1.0 / len(self.asked)
        if self.ledger.hit(model_id, None, self.now) is None:
            self._bring_in(model_id)
        else:
            self._carry_out(self.ledger.release(model_id, None, self.now) or ())

    def evict(self) -> None:
        """Ask for the model that left longest ago: the least recently used one must leave."""
        self._bring_in(next(self._turn))

    def expire(self) -> None:
        """Let the one that has been idle longest expire, and load another in its place."""
        self.now = max(self.now, self.ledger.next_due())
        self._carry_out(self.ledger.tick(self.now))
        self._bring_in(next(self._turn))

    def use_all(self) -> None:
        """Use every resident once: what the indexes know of them is out of date."""
        for resident in list(self.ledger.residents):
            self.ask(resident.model_id)

    def _bring_in(self, model_id: str) -> None:
        spec = self.catalog.get(model_id)
        _, decisions = self.ledger.request(ModelRequest(spec.model_id, spec.device), None, self.now)
        self._carry_out(decisions)
        self._carry_out(self.ledger.release(model_id, None, self.now) or ())

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Unload(resident):
                    self._carry_out(self.ledger.gone(resident, self.now))
                case Load(resident):
                    self._carry_out(self.ledger.loaded(resident, self, self.now))


Timing = Callable[[LedgerDriver, int], float]
"""Seconds of one step, the mean of so many."""


def measure(effort: Effort) -> list[Figure]:
    """Return each step's growth with the catalog, then with the residents."""
    steps = effort.count(_STEPS)
    figures: list[Figure] = []
    sizes = [(5, catalog) for catalog in _CATALOGS]
    for name, timing, _ in _TIMINGS:
        small, large = _timed(effort.rounds, sizes, timing, steps)
        title = f"{name}, {_CATALOGS[1]:,} models in the catalog"
        peer = f"{_CATALOGS[0]} in the catalog"
        figures.append(_row(title, large, peer, small, _CONSTANT))
    sizes = [(residents, _CATALOGS[1]) for residents in _RESIDENTS]
    for name, timing, constant in _TIMINGS:
        small, *larger = _timed(effort.rounds, sizes, timing, steps)
        for residents, took in zip(_RESIDENTS[1:], larger, strict=True):
            bound = _CONSTANT if constant else math.log(residents, _RESIDENTS[0])
            peer = f"{_RESIDENTS[0]} residents"
            figures.append(_row(f"{name}, {residents:,} residents", took, peer, small, bound))
    few, *_, many = _timed(effort.rounds, sizes, _time_late_eviction, 1)
    title = f"the one eviction after all {_RESIDENTS[-1]:,} residents were used"
    figures.append(_row(title, many, f"{_RESIDENTS[0]} residents", few, None))
    return figures


def _row(
    name: str, ours: tuple[float, ...], peer: str, theirs: tuple[float, ...], bound: float | None
) -> Figure:
    return Figure(name, ours, "s", peer, theirs, at_most=bound, bounds="ratio")


def _timed(
    rounds: int, sizes: Sequence[tuple[int, int]], timing: Timing, steps: int
) -> list[tuple[float, ...]]:
    """Time every size in turn, round after round."""
    drivers = [LedgerDriver(residents, catalog) for residents, catalog in sizes]
    found: list[list[float]] = [[] for _ in drivers]
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for driver, times in zip(drivers, found, strict=True):
                times.append(timing(driver, steps))
    finally:
        gc.enable()
    return [tuple(times) for times in found]


def _time_hit(driver: LedgerDriver, steps: int) -> float:
    ids = [r.model_id for r in itertools.islice(itertools.cycle(driver.ledger.residents), steps)]
    watch = Stopwatch()
    for model_id in ids:
        driver.ask(model_id)
    return watch.read() / steps


def _time_eviction(driver: LedgerDriver, steps: int) -> float:
    watch = Stopwatch()
    for _ in range(steps):
        driver.evict()
    return watch.read() / steps


def _time_expiry(driver: LedgerDriver, steps: int) -> float:
    watch = Stopwatch()
    for _ in range(steps):
        driver.expire()
    return watch.read() / steps


def _time_mix(driver: LedgerDriver, steps: int) -> float:
    choice = random.Random(steps)
    hot = driver.asked[: int(_HOT * len(driver.asked) / 2)]
    ids = [choice.choice(hot if choice.random() < 0.9 else driver.asked) for _ in range(steps)]
    watch = Stopwatch()
    for model_id in ids:
        driver.ask(model_id)
    return watch.read() / steps


def _time_late_eviction(driver: LedgerDriver, steps: int) -> float:
    driver.use_all()
    return _time_eviction(driver, steps)


_TIMINGS: tuple[tuple[str, Timing, bool], ...] = (
    ("hit + release", _time_hit, True),
    ("request that evicts", _time_eviction, False),
    ("expiry, and a load in its place", _time_expiry, False),
    ("nine hits to a miss or so", _time_mix, False),
)
"""Name, timing, and whether it must take constant time."""
