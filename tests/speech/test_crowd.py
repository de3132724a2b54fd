"""Crowds whose steps do not take what was learned: those who are admitted have no gap."""

from __future__ import annotations

import pytest

from tests.speech.crowd import Crowd


def gaps(crowd: Crowd) -> tuple[int, int]:
    """Return how many speeches have a gap, of how many."""
    return sum(talk.clock.gaps > 0 for talk in crowd.ended), len(crowd.ended)


def after_a_few(seed: int) -> Crowd:
    """Return a model of which four have spoken, mostly one at a time: on cores that were idle."""
    crowd = Crowd(seed)
    for _ in range(4):
        crowd.arrive(crowd.random.uniform(0.0, 4.0))
    crowd.run()
    crowd.ended.clear()
    return crowd


def all_gaps(crowds: list[Crowd]) -> float:
    """Return the share of speeches with a gap."""
    for crowd in crowds:
        crowd.run()
    found = [gaps(crowd) for crowd in crowds]
    return sum(stuttering for stuttering, _ in found) / sum(speeches for _, speeches in found)


@pytest.mark.parametrize("callers", [24, 64])
def test_many_who_come_at_one_instant_hear_no_gap(callers: int) -> None:
    crowds = [after_a_few(seed) for seed in range(8)]
    for crowd in crowds:
        for _ in range(callers):
            crowd.arrive(60.0)
    assert all_gaps(crowds) <= 0.002


def test_twice_as_many_as_there_is_room_for_hear_no_gap() -> None:
    crowds = [after_a_few(seed) for seed in range(8)]
    for crowd in crowds:
        for _ in range(36):
            crowd.arrive(60.0 + crowd.random.uniform(0.0, 5.7), again_until=69.0)
    assert all_gaps(crowds) <= 0.002


def test_a_burst_on_top_of_a_full_load_makes_no_gap() -> None:
    crowds = [after_a_few(seed) for seed in range(8)]
    for crowd in crowds:
        for _ in range(14):
            crowd.arrive(60.0 + crowd.random.uniform(0.0, 3.0), again_until=69.0)
        for _ in range(24):
            crowd.arrive(64.0)
    assert all_gaps(crowds) <= 0.002


def test_when_a_core_is_taken_away_while_most_of_both_is_used_nobody_hears_a_gap() -> None:
    crowds = [after_a_few(seed) for seed in range(8)]
    for crowd in crowds:
        for _ in range(14):
            crowd.arrive(60.0 + crowd.random.uniform(0.0, 5.7), again_until=72.0)
        crowd.take_core_away(66.0)
    assert all_gaps(crowds) <= 0.002
