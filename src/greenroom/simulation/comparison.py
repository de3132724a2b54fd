"""Several settings side by side: each plays the same trace, with the optimum beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from greenroom.config.schema import ManagerSettings
from greenroom.errors import ConfigError
from greenroom.ledger.state import Policy
from greenroom.simulation.belady import fewest_loads
from greenroom.simulation.outcome import Outcome
from greenroom.simulation.simulator import simulate
from greenroom.simulation.trace import Trace

VARIABLE = (
    "resident_cap",
    "cap_policy",
    "memory_budget_mb",
    "ttl_ms",
    "min_residency_ms",
    "max_parallel_loads",
    "acquire_timeout_ms",
    "turn_after_ms",
)
"""The keys of `model_manager` that a simulation obeys."""

MOST_COLUMNS = 64
"""Settings side by side: more are not compared by eye, and each takes a run."""

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Column:
    """One of several settings, and what the trace met under it."""

    name: str
    """The varied keys and their values; `as configured` where nothing is varied."""
    settings: Mapping[str, Any]
    """All that the simulation obeys."""
    outcome: Outcome
    places: int
    """How many models were in memory at most, or may be where that is more."""
    fewest_loads: int | None
    """Belady's optimum for as many places; `None` where callers were refused, as it serves all."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        found = asdict(self)
        found["outcome"] |= {"refusals": self.outcome.refusals}
        return found


def variations(varied: Sequence[tuple[str, Sequence[str]]]) -> Iterator[dict[str, str]]:
    """Yield each combination of the values of some keys.

    Raises `ConfigError` for a key that nothing here obeys, and for too many combinations.
    """
    count = 1
    for key, values in varied:
        if key not in VARIABLE:
            raise ConfigError(f"a simulation does not obey {key!r}; vary {', '.join(VARIABLE)}.")
        count *= len(values)
    if count > MOST_COLUMNS:
        raise ConfigError(f"that is {count} settings side by side; give {MOST_COLUMNS} at most.")
    keys = [key for key, _ in varied]
    for values in itertools.product(*(values for _, values in varied)):
        yield dict(zip(keys, values, strict=True))


def compare(
    trace: Trace, configured: Iterable[tuple[Mapping[str, str], ManagerSettings]]
) -> Iterator[Column]:
    """Yield a column for each of several settings, named by what is varied, as it is done."""
    optimum: dict[int, int] = {}
    for varied, settings in configured:
        outcome = simulate(trace, policy_of(settings, trace))
        # With the soft cap there may have been more, and of that the optimum must be told.
        places = max(outcome.most_residents, _most_places(settings))
        if places not in optimum and not outcome.refusals:
            optimum[places] = fewest_loads(trace.model, places, trace.resident[:places])
        yield Column(
            name=" ".join(f"{key}={value}" for key, value in varied.items()) or "as configured",
            settings={key: getattr(settings, key) for key in VARIABLE},
            outcome=outcome,
            places=places,
            fewest_loads=None if outcome.refusals else optimum[places],
        )


def policy_of(settings: ManagerSettings, trace: Trace) -> Policy:
    """Return the ledger's policy; without `memory_budget_mb` memory has no limit.

    The share of the machine's memory that a worker would take instead says nothing here: the
    machine that simulates is not the one that serves.
    """
    budget = settings.memory_budget_mb
    devices = {model.device for model in trace.models}
    return Policy(
        resident_cap=settings.resident_cap,
        cap_policy=settings.cap_policy,
        budgets={} if budget is None else dict.fromkeys(devices, int(budget * _MIB)),
        ttl=settings.ttl_ms / 1000,
        min_residency=settings.min_residency_ms / 1000,
        max_parallel_loads=settings.max_parallel_loads,
        acquire_timeout=settings.acquire_timeout_ms / 1000,
        turn_after=settings.turn_after_ms / 1000,
    )


def _most_places(settings: ManagerSettings) -> int:
    # Where a budget binds before the cap does, what was seen says how many there may be.
    return 0 if settings.memory_budget_mb is not None else settings.resident_cap
