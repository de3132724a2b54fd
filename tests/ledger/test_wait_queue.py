"""Waiting for room: in order, for a limited time, never in vain."""

from __future__ import annotations

import math

import pytest

from tests.ledger.driver import Desk

# Waiting in line


def test_waiting_for_room_is_first_come_first_served() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    for now, model_id in ((1, "joe"), (2, "kim"), (3, "lou")):
        assert desk.at(now).ask(model_id) == [f"wait for {model_id} until {now + 30}"]
    assert desk.at(4).give("amy") == ["unload amy EVICTED"]
    assert desk.gone("amy") == ["load joe"]
    desk.land("joe")
    desk.give("joe")
    assert desk.gone("joe") == ["load kim"]


def test_a_small_model_does_not_overtake_a_big_one_on_its_device() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=5)
    desk.ask("big", footprint=8)
    assert desk.ask("joe", footprint=1) == ["wait for joe until 30"]
    assert desk.ledger.queue.count == 2


def test_a_model_on_another_device_does_not_wait_behind_a_full_one() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=10)
    assert desk.ask("joe", footprint=5) == ["wait for joe until 30"]
    assert desk.ask("kim", footprint=5, device="gpu") == ["load kim"]


def test_a_hit_never_waits_behind_a_miss() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe")
    assert desk.hit("amy", "bob")


def test_callers_of_one_model_wait_at_one_place_and_are_served_together() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("kim", "bob")
    desk.at(1).ask("joe", "cal")
    assert desk.ledger.queue.tickets("joe") == (
        desk.tickets["joe", "ann"],
        desk.tickets["joe", "cal"],
    )
    assert desk.ledger.queue.tickets("lou") == ()
    desk.give("amy")
    assert desk.gone("amy") == ["load joe"]
    assert desk.ledger.queue.count == 1
    assert desk.land("joe") == ["grant joe to ann", "grant joe to cal"]


def test_the_load_slot_goes_to_the_device_whose_caller_came_first() -> None:
    desk = Desk(resident_cap=9)
    desk.ask("amy", device="cpu")
    desk.at(1).ask("joe", device="cpu")
    desk.at(2).ask("gus", device="gpu")
    desk.at(3).ask("kim", device="cpu")
    assert desk.at(4).land("amy") == ["grant amy to ann", "load joe"]
    assert desk.land("joe") == ["grant joe to ann", "load gus"]
    assert desk.land("gus") == ["grant gus to ann", "load kim"]


def test_a_caller_that_waited_too_long_is_told_when_to_try_again() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", acquire_timeout=30, first_retry=2)
    desk.hold("amy")
    desk.at(5).ask("joe")
    assert desk.due() == 35
    assert desk.at(34.5).tick() == []
    assert desk.at(35).tick() == ["refuse joe to ann TIMED_OUT 2"]
    assert desk.ledger.queue.count == 0
    assert desk.due() == math.inf


def test_callers_of_one_place_time_out_one_by_one() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", acquire_timeout=30)
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.at(5).ask("joe", "bob")
    assert desk.at(30).tick() == ["refuse joe to ann TIMED_OUT 1"]
    assert desk.due() == 35
    assert desk.at(35).tick() == ["refuse joe to bob TIMED_OUT 1"]


def test_room_that_comes_at_the_deadline_is_in_time() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", acquire_timeout=30)
    desk.idle("amy")
    desk.ask("joe")
    assert desk.at(30).gone("amy") == ["load joe"]
    assert desk.tick() == []


def test_the_next_in_line_is_served_when_the_first_times_out() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9, acquire_timeout=30)
    desk.hold("amy", footprint=5)
    desk.ask("big", footprint=8)
    desk.at(1).ask("joe", footprint=5)
    assert desk.at(30).tick() == ["refuse big to ann TIMED_OUT 1", "load joe"]


def test_a_full_line_refuses_one_more() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", max_waiting=2, first_retry=3)
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("joe", "bob")
    assert desk.ask("joe", "cal") == ["refuse joe to cal LINE_FULL 3"]
    assert desk.ask("kim", "cal") == ["refuse kim to cal LINE_FULL 3"]
    desk.cancel("joe", "bob")
    assert desk.ask("kim", "cal") == ["wait for kim until 30"]


def test_a_full_line_says_how_long_min_residency_keeps_everybody() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", max_waiting=1, min_residency=20)
    desk.hold("amy")
    desk.ask("joe")
    assert desk.at(5).ask("kim") == ["refuse kim to ann LINE_FULL 15"]


def test_a_full_line_does_not_keep_a_load_from_being_shared() -> None:
    desk = Desk(resident_cap=9, max_waiting=1)
    desk.ask("amy")
    desk.ask("joe")
    assert desk.ask("amy", "bob") == ["join amy"]


def test_somebody_who_gives_up_makes_way_for_the_next() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=5)
    desk.ask("big", footprint=8)
    desk.ask("joe", footprint=5)
    assert desk.cancel("big") == ["load joe"]
    assert desk.ledger.queue.count == 0


def test_a_place_stays_while_one_of_its_callers_does() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("joe", "bob")
    desk.ask("kim")
    assert desk.cancel("joe", "ann") == []
    desk.give("amy")
    assert desk.gone("amy") == ["load joe"]


def test_a_model_asked_for_again_after_everybody_left_goes_to_the_end() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe")
    desk.ask("kim")
    desk.cancel("joe")
    desk.ask("joe")
    desk.give("amy")
    assert desk.gone("amy") == ["load kim"]


# Certain refusals


def test_a_model_larger_than_the_budget_is_refused_at_once() -> None:
    desk = Desk(budgets={"cpu": 10})
    assert desk.ask("big", footprint=11) == ["refuse big to ann TOO_BIG never"]
    assert desk.ask("joe", footprint=10) == ["load joe"]


def test_when_everything_is_pinned_a_hard_cap_refuses_at_once() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.pin("amy")
    desk.idle("amy")
    assert desk.ask("joe") == ["refuse joe to ann NO_ROOM never"]
    assert desk.ledger.queue.count == 0


def test_what_pinned_models_leave_of_the_budget_is_all_there_ever_is() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.hold("amy", footprint=4)
    desk.hold("joe", footprint=4)
    assert desk.ask("kim", footprint=6) == ["wait for kim until 30"]
    assert desk.ask("lou", footprint=7) == ["refuse lou to ann NO_ROOM never"]


def test_pins_on_one_device_take_nothing_from_another() -> None:
    desk = Desk(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.hold("amy", footprint=10, device="gpu")
    assert desk.ask("joe", footprint=10, device="cpu") == ["load joe"]


def test_a_certain_refusal_does_not_wait_for_the_load_that_runs() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.ask("amy", footprint=4)
    assert desk.ask("joe", footprint=7) == ["refuse joe to ann NO_ROOM never"]


def test_a_certain_refusal_does_not_wait_for_its_turn() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.hold("amy", footprint=4)
    desk.hold("joe", footprint=4)
    assert desk.ask("kim", footprint=5) == ["wait for kim until 30"]
    assert desk.ask("lou", footprint=7) == ["refuse lou to ann NO_ROOM never"]


def test_a_pin_that_takes_the_last_room_refuses_those_who_wait() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("joe", "bob")
    desk.ask("kim", "cal")
    assert desk.pin("amy") == [
        "refuse joe to ann NO_ROOM never",
        "refuse joe to bob NO_ROOM never",
        "refuse kim to cal NO_ROOM never",
    ]
    assert desk.due() == math.inf


def test_a_pin_refuses_those_who_wait_even_while_a_load_runs() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=5)
    desk.ask("joe", footprint=5)
    desk.ask("kim", footprint=6)
    assert desk.pin("amy") == ["refuse kim to ann NO_ROOM never"]


@pytest.mark.parametrize(("asked_at", "told_at_once"), [(9.5, True), (10, False)])
def test_min_residency_beyond_the_deadline_refuses_at_once(
    asked_at: float, told_at_once: bool
) -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=30)
    desk.idle("amy")
    expected = f"refuse joe to ann NO_ROOM {40 - asked_at:g}" if told_at_once else None
    assert desk.at(asked_at).ask("joe") == [expected or "wait for joe until 40"]


def test_the_first_end_of_a_min_residency_counts_not_the_last() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", min_residency=40, acquire_timeout=30)
    desk.idle("amy")
    desk.at(8).idle("joe")
    assert desk.at(9).ask("kim") == ["refuse kim to ann NO_ROOM 31"]


def test_one_model_past_its_min_residency_may_be_let_go_at_any_moment() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", min_residency=40, acquire_timeout=30)
    desk.hold("amy")
    desk.at(39).idle("joe")
    assert desk.at(40).ask("kim") == ["wait for kim until 70"]


def test_a_min_residency_that_is_over_counts_even_before_anybody_looked() -> None:
    desk = Desk(
        resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=0, first_retry=2
    )
    desk.hold("amy")
    assert desk.at(41).ask("joe") == ["wait for joe until 41"]
    assert desk.tick() == ["refuse joe to ann TIMED_OUT 2"]


def test_while_a_model_loads_or_leaves_nothing_is_certain() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=30)
    desk.ask("amy")
    assert desk.ask("joe") == ["wait for joe until 30"]
    assert desk.at(1).land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 40"]
    desk.give("amy")
    desk.unload("amy")
    assert desk.ask("joe") == ["wait for joe until 31"]


def test_only_those_are_refused_for_whom_room_comes_too_late() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=28, acquire_timeout=30)
    desk.ask("amy")
    desk.ask("joe", "ann")
    desk.at(5).ask("joe", "bob")
    assert desk.land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 28"]
    assert desk.ledger.queue.count == 1
    assert desk.due() == 33


def test_a_time_out_under_min_residency_says_when_it_ends() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=28, acquire_timeout=30)
    desk.ask("amy")
    desk.ask("joe", "ann")
    desk.at(1).ask("kim", "cal")
    desk.at(5).ask("joe", "bob")
    assert desk.land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 28"]
    assert desk.due() == 31
    assert desk.at(31).tick() == ["refuse kim to cal TIMED_OUT 2"]
    assert desk.due() == 33


# Giving up


def test_the_first_callers_cancellation_is_not_everybodys() -> None:
    desk = Desk()
    desk.ask("amy", "ann")
    desk.ask("amy", "bob")
    assert desk.cancel("amy", "ann") == []
    assert desk.land("amy") == ["grant amy to bob"]
    assert desk["amy"].holders == {"bob": [0.0]}


def test_a_load_that_everybody_left_finishes_and_stays_idle() -> None:
    desk = Desk(ttl=10)
    desk.ask("amy")
    desk.warming("amy")
    assert desk.cancel("amy") == []
    assert desk.at(2).land("amy") == []
    assert not desk["amy"].in_use
    assert desk.hit("amy")


def test_a_reference_granted_before_the_cancellation_is_given_back() -> None:
    desk = Desk(ttl=0)
    desk.hold("amy", "ann")
    desk.hit("amy", "bob")
    assert desk.cancel("amy", "ann") == []
    assert desk["amy"].holders == {"bob": [0.0]}
    assert desk.at(1).give("amy", "bob") == ["unload amy EXPIRED"]


def test_a_cancelled_grant_makes_room_like_a_release() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy", "ann")
    desk.ask("joe", "bob")
    assert desk.at(1).cancel("amy", "ann") == ["unload amy EVICTED"]


def test_a_caller_that_gives_up_in_line_is_never_served() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe")
    assert desk.cancel("joe") == []
    assert desk.due() == math.inf
    assert desk.give("amy") == []
    assert desk.shown() == {"amy": "ready"}


def test_a_caller_that_gives_up_on_a_leaving_model_does_not_have_it_loaded_afresh() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.unload("amy")
    desk.ask("amy", "bob")
    assert desk.cancel("amy", "bob") == []
    assert desk.gone("amy") == []
    assert desk.shown() == {}


def test_cancelling_after_a_refusal_changes_nothing() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.ask("amy", "ann")
    desk.fail("amy")
    assert desk.cancel("amy", "ann") == []
    desk.at(1).ask("amy", "bob")
    assert desk.cancel("amy", "ann") == []
    assert desk.land("amy") == ["grant amy to bob"]
    assert desk.ledger.queue.count == 0
