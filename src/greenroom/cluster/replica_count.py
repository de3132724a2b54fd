"""How many replicas there should be: more when callers would wait, fewer when all fit on fewer.

Pure; Ray Serve calls `replica_count` as its policy, with what each replica says of itself.

    1 more       the cores of all are used beyond `BUSY`, or wherever a voice would be loaded its
                 caller would wait longer than `LONG_WAIT_S` for room, or callers wait
    2 fewer      with one replica less the cores would be used less than `IDLE`, and the models
                 that may not leave would still have places
    3 as it is   otherwise

One at a time, as each brings its own places; more than one when the cores ask for it. Both need
some time of the same mind: `AFTER_S`, and longer for fewer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenroom.worker.report import WorkerReport

BUSY = 0.7
"""The share of its cores up to which a replica's streams are kept up without a thought."""

IDLE = 0.5
"""Less than `BUSY`, so that a replica that has just come does not leave again."""

LONG_WAIT_S = 1.0
"""For room, beside the load itself."""

AFTER_S = 10.0
FEWER_AFTER_S = 120.0
"""A replica that leaves takes its voices with it; they are loaded again elsewhere."""

_NEVER_S = 1e6
"""In the place of infinity, which averages do not survive."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one replica says of itself."""

    cores_used: float
    """The share of its cores that its streams need."""
    wait_s: float
    """Until there would be room for another model."""
    waiting: float
    """Callers that wait for room, or to be kept up."""
    places: float
    held: float
    """Models that may not leave."""


def loads_of(report: WorkerReport) -> dict[str, float]:
    """Return what a replica says of itself as numbers by name, which `replica_count` reads."""
    return {
        "cores_used": report.capacity_used,
        "wait_s": _NEVER_S if report.room_in_s is None else report.room_in_s,
        "waiting": float(report.waiting + report.streams_waiting),
        "places": float(report.places),
        "held": float(len(report.residents) - report.evictable_places),
    }


def wanted(loads: Sequence[Load]) -> int:
    """Return how many replicas are wanted by what those that there are say; at least one."""
    count = len(loads)
    if not count:
        return 1
    cores = sum(load.cores_used for load in loads)
    enough = math.ceil(cores / BUSY)
    waits = min(load.wait_s for load in loads) > LONG_WAIT_S
    if enough > count or waits or sum(load.waiting for load in loads) >= count:
        return max(enough, count + 1)
    places = sum(load.places for load in loads) * (count - 1) / count
    fits = sum(load.held for load in loads) <= places
    return count - 1 if count > 1 and fits and cores < IDLE * (count - 1) else count


def replica_count(context: Any) -> tuple[int, dict[str, Any]]:
    """Return how many replicas there should be and what to remember: Ray Serve's policy.

    `context` is its `AutoscalingContext`: the bounds, the numbers of `loads_of` averaged over a
    while, by name and replica, and what was remembered.
    """
    loads = _loads(context.aggregated_metrics or {})
    now, present = context.current_time or 0.0, context.target_num_replicas
    low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    if len(loads) < present:  # some have not said anything yet
        return min(max(present, low), high), {}
    aim = min(max(wanted(loads), low), high)
    if aim == present:
        return present, {}
    side = "more" if aim > present else "fewer"
    since = dict(context.policy_state or {}).get(side, now)
    patience = AFTER_S if aim > present else FEWER_AFTER_S
    if now - since < patience:
        return min(max(present, low), high), {side: since}
    return aim, {}


def _loads(metrics: Mapping[str, Mapping[Any, float]]) -> list[Load]:
    """Return what each replica says that has said all of it."""
    names = Load.__slots__
    if any(name not in metrics for name in names):
        return []
    everywhere = set.intersection(*(set(metrics[name]) for name in names))
    return [Load(**{name: float(metrics[name][each]) for name in names}) for each in everywhere]
