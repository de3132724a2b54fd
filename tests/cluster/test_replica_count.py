"""How many replicas there should be, by what they say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from greenroom.cluster.replica_count import (
    AFTER_S,
    FEWER_AFTER_S,
    Load,
    loads_of,
    replica_count,
    wanted,
)
from tests.cluster.replicas import ready, report

CALM = Load(cores_used=0.4, wait_s=0.0, waiting=0.0, places=3.0, held=1.0)
IDLE = replace(CALM, cores_used=0.05)


def context(loads: list[Load], now: float = 0.0, **more: Any) -> Any:
    """Return what Ray Serve tells its policy."""
    metrics = {
        name: {f"r{n}": getattr(load, name) for n, load in enumerate(loads)}
        for name in Load.__slots__
    }
    given = {
        "aggregated_metrics": metrics,
        "current_time": now,
        "target_num_replicas": len(loads),
        "capacity_adjusted_min_replicas": 1,
        "capacity_adjusted_max_replicas": 8,
        "policy_state": {},
    }
    return SimpleNamespace(**(given | more))


def test_as_many_as_there_are_while_callers_are_served_and_cores_are_used() -> None:
    assert wanted([CALM, CALM, CALM]) == 3


def test_more_where_a_voice_would_wait_for_room_everywhere() -> None:
    full = replace(CALM, wait_s=5.0)
    assert wanted([full, full]) == 3
    assert wanted([full, CALM]) == 2


def test_more_when_callers_wait() -> None:
    assert wanted([replace(CALM, waiting=4.0), CALM]) == 3


def test_as_many_more_as_the_cores_need() -> None:
    assert wanted([replace(CALM, cores_used=1.4)] * 2) == 4


def test_one_less_when_the_others_have_cores_and_places_enough() -> None:
    assert wanted([IDLE] * 4) == 3
    assert wanted([IDLE]) == 1


def test_not_fewer_while_the_models_in_use_have_no_places_elsewhere() -> None:
    assert wanted([replace(IDLE, held=3.0)] * 4) == 4


def test_what_has_just_grown_does_not_shrink_again() -> None:
    busy = replace(CALM, cores_used=0.75)
    grown = wanted([busy, busy])
    assert grown == 3
    spread = replace(CALM, cores_used=1.5 / 3)
    assert wanted([spread] * 3) == 3


def test_a_report_is_what_is_counted() -> None:
    said = loads_of(report(ready("joe", 9.0), ready("amy"), room_in_s=None, waiting=2))
    assert said == {"cores_used": 0, "wait_s": 1e6, "waiting": 2, "places": 3, "held": 1}


@pytest.mark.parametrize(
    ("loads", "aim", "after_s"),
    [([replace(CALM, waiting=9.0)] * 2, 3, AFTER_S), ([IDLE] * 3, 2, FEWER_AFTER_S)],
)
def test_it_changes_its_mind_only_after_a_while(
    loads: list[Load], aim: int, after_s: float
) -> None:
    count, state = replica_count(context(loads))
    assert count == len(loads)
    count, state = replica_count(context(loads, after_s - 0.1, policy_state=state))
    assert count == len(loads)
    count, state = replica_count(context(loads, after_s, policy_state=state))
    assert (count, state) == (aim, {})


def test_a_moment_s_calm_begins_the_while_anew() -> None:
    busy = [replace(CALM, waiting=9.0)] * 2
    _, state = replica_count(context(busy))
    _, state = replica_count(context([CALM] * 2, 5.0, policy_state=state))
    count, _ = replica_count(context(busy, AFTER_S, policy_state=state))
    assert count == 2


def test_the_bounds_hold() -> None:
    busy = context([replace(CALM, waiting=9.0)] * 2, AFTER_S, policy_state={"more": 0.0})
    busy.capacity_adjusted_max_replicas = 2
    assert replica_count(busy)[0] == 2
    few = context([IDLE], capacity_adjusted_min_replicas=2)
    assert replica_count(few)[0] == 2


def test_nothing_changes_until_all_have_said_something() -> None:
    assert replica_count(context([IDLE], target_num_replicas=3))[0] == 3
    assert replica_count(context([], target_num_replicas=2, aggregated_metrics=None))[0] == 2
