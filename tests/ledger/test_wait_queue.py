"""Waiting for room: in order, for a limited time, never in vain."""

from __future__ import annotations

import math

import pytest

from tests.ledger.driver import LedgerDriver

# Waiting in line


def test_waiting_for_room_is_first_come_first_served() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    for now, model_id in ((1, "joe"), (2, "kim"), (3, "lou")):
        assert driver.at(now).request(model_id) == [f"wait for {model_id} until {now + 30}"]
    assert driver.at(4).release("amy") == ["unload amy EVICTED"]
    assert driver.gone("amy") == ["load joe"]
    driver.loaded("joe")
    driver.release("joe")
    assert driver.gone("joe") == ["load kim"]


def test_a_small_model_does_not_overtake_a_big_one_on_its_device() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.hold("amy", footprint=5)
    driver.request("big", footprint=8)
    assert driver.request("joe", footprint=1) == ["wait for joe until 30"]
    assert driver.ledger.queue.count == 2


def test_a_model_on_another_device_does_not_wait_behind_a_full_one() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.hold("amy", footprint=10)
    assert driver.request("joe", footprint=5) == ["wait for joe until 30"]
    assert driver.request("kim", footprint=5, device="gpu") == ["load kim"]


def test_a_hit_never_waits_behind_a_miss() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    driver.request("joe")
    assert driver.hit("amy", "bob")


def test_callers_of_one_model_wait_at_one_place_and_are_served_together() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    driver.request("joe", "ann")
    driver.request("kim", "bob")
    driver.at(1).request("joe", "cal")
    assert driver.ledger.queue.tickets("joe") == (
        driver.tickets["joe", "ann"],
        driver.tickets["joe", "cal"],
    )
    assert driver.ledger.queue.tickets("lou") == ()
    driver.release("amy")
    assert driver.gone("amy") == ["load joe"]
    assert driver.ledger.queue.count == 1
    assert driver.loaded("joe") == ["grant joe to ann", "grant joe to cal"]


def test_the_load_slot_goes_to_the_device_whose_caller_came_first() -> None:
    driver = LedgerDriver(resident_cap=9)
    driver.request("amy", device="cpu")
    driver.at(1).request("joe", device="cpu")
    driver.at(2).request("gus", device="gpu")
    driver.at(3).request("kim", device="cpu")
    assert driver.at(4).loaded("amy") == ["grant amy to ann", "load joe"]
    assert driver.loaded("joe") == ["grant joe to ann", "load gus"]
    assert driver.loaded("gus") == ["grant gus to ann", "load kim"]


def test_a_caller_that_waited_too_long_is_told_when_to_try_again() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", acquire_timeout=30, first_retry=2)
    driver.hold("amy")
    driver.at(5).request("joe")
    assert driver.next_due() == 35
    assert driver.at(34.5).tick() == []
    assert driver.at(35).tick() == ["refuse joe to ann TIMED_OUT 2"]
    assert driver.ledger.queue.count == 0
    assert driver.next_due() == math.inf


def test_callers_of_one_place_time_out_one_by_one() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", acquire_timeout=30)
    driver.hold("amy")
    driver.request("joe", "ann")
    driver.at(5).request("joe", "bob")
    assert driver.at(30).tick() == ["refuse joe to ann TIMED_OUT 1"]
    assert driver.next_due() == 35
    assert driver.at(35).tick() == ["refuse joe to bob TIMED_OUT 1"]


def test_room_that_comes_at_the_deadline_is_in_time() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", acquire_timeout=30)
    driver.idle("amy")
    driver.request("joe")
    assert driver.at(30).gone("amy") == ["load joe"]
    assert driver.tick() == []


def test_the_next_in_line_is_served_when_the_first_times_out() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9, acquire_timeout=30)
    driver.hold("amy", footprint=5)
    driver.request("big", footprint=8)
    driver.at(1).request("joe", footprint=5)
    assert driver.at(30).tick() == ["refuse big to ann TIMED_OUT 1", "load joe"]


def test_a_full_line_refuses_one_more() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", max_waiting=2, first_retry=3)
    driver.hold("amy")
    driver.request("joe", "ann")
    driver.request("joe", "bob")
    assert driver.request("joe", "cal") == ["refuse joe to cal LINE_FULL 3"]
    assert driver.request("kim", "cal") == ["refuse kim to cal LINE_FULL 3"]
    driver.cancel("joe", "bob")
    assert driver.request("kim", "cal") == ["wait for kim until 30"]


def test_a_full_line_says_how_long_min_residency_keeps_everybody() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", max_waiting=1, min_residency=20)
    driver.hold("amy")
    driver.request("joe")
    assert driver.at(5).request("kim") == ["refuse kim to ann LINE_FULL 15"]


def test_a_full_line_does_not_keep_a_load_from_being_shared() -> None:
    driver = LedgerDriver(resident_cap=9, max_waiting=1)
    driver.request("amy")
    driver.request("joe")
    assert driver.request("amy", "bob") == ["join amy"]


def test_somebody_who_gives_up_makes_way_for_the_next() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.hold("amy", footprint=5)
    driver.request("big", footprint=8)
    driver.request("joe", footprint=5)
    assert driver.cancel("big") == ["load joe"]
    assert driver.ledger.queue.count == 0


def test_a_place_stays_while_one_of_its_callers_does() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    driver.request("joe", "ann")
    driver.request("joe", "bob")
    driver.request("kim")
    assert driver.cancel("joe", "ann") == []
    driver.release("amy")
    assert driver.gone("amy") == ["load joe"]


def test_a_model_asked_for_again_after_everybody_left_goes_to_the_end() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    driver.request("joe")
    driver.request("kim")
    driver.cancel("joe")
    driver.request("joe")
    driver.release("amy")
    assert driver.gone("amy") == ["load kim"]


# Certain refusals


def test_a_model_larger_than_the_budget_is_refused_at_once() -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    assert driver.request("big", footprint=11) == ["refuse big to ann TOO_BIG never"]
    assert driver.request("joe", footprint=10) == ["load joe"]


def test_when_everything_is_pinned_a_hard_cap_refuses_at_once() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.pin("amy")
    driver.idle("amy")
    assert driver.request("joe") == ["refuse joe to ann NO_ROOM never"]
    assert driver.ledger.queue.count == 0


def test_what_pinned_models_leave_of_the_budget_is_all_there_ever_is() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.pin("amy")
    driver.hold("amy", footprint=4)
    driver.hold("joe", footprint=4)
    assert driver.request("kim", footprint=6) == ["wait for kim until 30"]
    assert driver.request("lou", footprint=7) == ["refuse lou to ann NO_ROOM never"]


def test_pins_on_one_device_take_nothing_from_another() -> None:
    driver = LedgerDriver(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)
    driver.pin("amy")
    driver.hold("amy", footprint=10, device="gpu")
    assert driver.request("joe", footprint=10, device="cpu") == ["load joe"]


def test_a_certain_refusal_does_not_wait_for_the_load_that_runs() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.pin("amy")
    driver.request("amy", footprint=4)
    assert driver.request("joe", footprint=7) == ["refuse joe to ann NO_ROOM never"]


def test_a_certain_refusal_does_not_wait_for_its_turn() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.pin("amy")
    driver.hold("amy", footprint=4)
    driver.hold("joe", footprint=4)
    assert driver.request("kim", footprint=5) == ["wait for kim until 30"]
    assert driver.request("lou", footprint=7) == ["refuse lou to ann NO_ROOM never"]


def test_a_pin_that_takes_the_last_room_refuses_those_who_wait() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    driver.request("joe", "ann")
    driver.request("joe", "bob")
    driver.request("kim", "cal")
    assert driver.pin("amy") == [
        "refuse joe to ann NO_ROOM never",
        "refuse joe to bob NO_ROOM never",
        "refuse kim to cal NO_ROOM never",
    ]
    assert driver.next_due() == math.inf


def test_a_pin_refuses_those_who_wait_even_while_a_load_runs() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.hold("amy", footprint=5)
    driver.request("joe", footprint=5)
    driver.request("kim", footprint=6)
    assert driver.pin("amy") == ["refuse kim to ann NO_ROOM never"]


@pytest.mark.parametrize(("asked_at", "told_at_once"), [(9.5, True), (10, False)])
def test_min_residency_beyond_the_deadline_refuses_at_once(
    asked_at: float, told_at_once: bool
) -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=30)
    driver.idle("amy")
    expected = f"refuse joe to ann NO_ROOM {40 - asked_at:g}" if told_at_once else None
    assert driver.at(asked_at).request("joe") == [expected or "wait for joe until 40"]


def test_the_first_end_of_a_min_residency_counts_not_the_last() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", min_residency=40, acquire_timeout=30)
    driver.idle("amy")
    driver.at(8).idle("joe")
    assert driver.at(9).request("kim") == ["refuse kim to ann NO_ROOM 31"]


def test_one_model_past_its_min_residency_may_be_let_go_at_any_moment() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", min_residency=40, acquire_timeout=30)
    driver.hold("amy")
    driver.at(39).idle("joe")
    assert driver.at(40).request("kim") == ["wait for kim until 70"]


def test_a_min_residency_that_is_over_counts_even_before_anybody_looked() -> None:
    driver = LedgerDriver(
        resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=0, first_retry=2
    )
    driver.hold("amy")
    assert driver.at(41).request("joe") == ["wait for joe until 41"]
    assert driver.tick() == ["refuse joe to ann TIMED_OUT 2"]


def test_while_a_model_loads_or_leaves_nothing_is_certain() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=30)
    driver.request("amy")
    assert driver.request("joe") == ["wait for joe until 30"]
    assert driver.at(1).loaded("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 40"]
    driver.release("amy")
    driver.begin_unload("amy")
    assert driver.request("joe") == ["wait for joe until 31"]


def test_only_those_are_refused_for_whom_room_comes_too_late() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=28, acquire_timeout=30)
    driver.request("amy")
    driver.request("joe", "ann")
    driver.at(5).request("joe", "bob")
    assert driver.loaded("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 28"]
    assert driver.ledger.queue.count == 1
    assert driver.next_due() == 33


def test_a_time_out_under_min_residency_says_when_it_ends() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=28, acquire_timeout=30)
    driver.request("amy")
    driver.request("joe", "ann")
    driver.at(1).request("kim", "cal")
    driver.at(5).request("joe", "bob")
    assert driver.loaded("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 28"]
    assert driver.next_due() == 31
    assert driver.at(31).tick() == ["refuse kim to cal TIMED_OUT 2"]
    assert driver.next_due() == 33


# Giving up


def test_the_first_callers_cancellation_is_not_everybodys() -> None:
    driver = LedgerDriver()
    driver.request("amy", "ann")
    driver.request("amy", "bob")
    assert driver.cancel("amy", "ann") == []
    assert driver.loaded("amy") == ["grant amy to bob"]
    assert driver["amy"].references == [("bob", 0.0)]


def test_a_load_that_everybody_left_finishes_and_stays_idle() -> None:
    driver = LedgerDriver(ttl=10)
    driver.request("amy")
    driver.warming("amy")
    assert driver.cancel("amy") == []
    assert driver.at(2).loaded("amy") == []
    assert not driver["amy"].in_use
    assert driver.hit("amy")


def test_a_reference_granted_before_the_cancellation_is_given_back() -> None:
    driver = LedgerDriver(ttl=0)
    driver.hold("amy", "ann")
    driver.hit("amy", "bob")
    assert driver.cancel("amy", "ann") == []
    assert driver["amy"].references == [("bob", 0.0)]
    assert driver.at(1).release("amy", "bob") == ["unload amy EXPIRED"]


def test_a_cancelled_grant_makes_room_like_a_release() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy", "ann")
    driver.request("joe", "bob")
    assert driver.at(1).cancel("amy", "ann") == ["unload amy EVICTED"]


def test_a_caller_that_gives_up_in_line_is_never_served() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    driver.request("joe")
    assert driver.cancel("joe") == []
    assert driver.next_due() == math.inf
    assert driver.release("amy") == []
    assert driver.states() == {"amy": "ready"}


def test_a_caller_that_gives_up_on_a_leaving_model_does_not_have_it_loaded_afresh() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.begin_unload("amy")
    driver.request("amy", "bob")
    assert driver.cancel("amy", "bob") == []
    assert driver.gone("amy") == []
    assert driver.states() == {}


def test_cancelling_after_a_refusal_changes_nothing() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.request("amy", "ann")
    driver.failed("amy")
    assert driver.cancel("amy", "ann") == []
    driver.at(1).request("amy", "bob")
    assert driver.cancel("amy", "ann") == []
    assert driver.loaded("amy") == ["grant amy to bob"]
    assert driver.ledger.queue.count == 0
