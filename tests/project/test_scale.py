"""The play of a large cluster: the same each time, and what a router does not know shows."""

from __future__ import annotations

import pytest

from benchmarks.scale import Cluster, Met, Plan


def met(plan: Plan) -> Met:
    return Cluster(plan, workers=12, voices=80, places=5).run(seconds=40, rate=6)


def test_every_call_is_sent_somewhere_and_the_play_is_the_same_each_time() -> None:
    first, again = (met(Plan("", 0.5)) for _ in range(2))
    assert first.calls == pytest.approx(240, rel=0.3)
    assert (first.at_home, first.loads, first.waits) == (again.at_home, again.loads, again.waits)
    assert len(first.waits) + first.refused <= first.calls
    assert first.reports > 0


def test_what_the_router_has_sent_keeps_a_herd_from_one_worker() -> None:
    remembered = met(Plan("", 5.0, herd=300))
    forgotten = met(Plan("", 5.0, remembers=False, herd=300))
    assert remembered.most_in_flight < 60 < forgotten.most_in_flight
    assert remembered.herd_copies > forgotten.herd_copies
    assert remembered.beyond_cores < forgotten.beyond_cores


def test_the_voices_of_lost_workers_are_loaded_elsewhere() -> None:
    assert met(Plan("", 0.5, lost=1 / 3)).loads > met(Plan("", 0.5)).loads


def test_a_new_router_asks_in_turn_until_it_has_heard_of_workers() -> None:
    quick, slow = (met(Plan("", period, new_router=True)) for period in (0.5, 10.0))
    old = met(Plan("", 10.0))
    assert quick.at_home > slow.at_home
    assert old.at_home > slow.at_home
