"""Turns: a model in use leaves for one that has waited long enough, and comes back by the line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from greenroom.ledger.state import ModelRequest, Policy, Reason, Resident, State, Unload
from greenroom.ledger.turns import LEAST_DRAIN, LEAST_QUANTUM, Turns
from tests.ledger.driver import LedgerDriver


def contended(*holders: str, **policy: Any) -> LedgerDriver:
    """A ledger whose every place is held, each by a caller named like its model."""
    driver = LedgerDriver(turn_after=2.0, resident_cap=len(holders), cap_policy="hard", **policy)
    for model_id in holders:
        driver.hold(model_id, model_id)
    return driver


# When a turn begins


def test_the_head_of_a_line_that_has_waited_long_enough_has_the_longest_tenant_drain() -> None:
    driver = contended("amy", "joe")
    driver.at(5).request("kim")
    assert driver.next_due() == 7
    assert driver.at(6.9).tick() == []
    assert driver.at(7).tick() == ["drain amy for kim"]
    assert driver.states() == {"amy": "draining", "joe": "ready"}
    assert driver.at(8).release("amy", "amy") == ["unload amy TURN"]
    assert driver.gone("amy") == ["load kim"]
    assert driver.ledger.departures == {Reason.TURN: 1}


def test_without_turns_nobody_leaves_while_in_use() -> None:
    driver = LedgerDriver(turn_after=-1.0, resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    driver.request("kim")
    assert driver.next_due() == 30
    assert driver.at(29).tick() == []
    assert driver.states() == {"amy": "ready"}


def test_a_turn_waits_for_the_end_of_a_min_residency() -> None:
    driver = contended("amy", min_residency=20)
    driver.request("kim")
    assert driver.next_due() == 20
    assert driver.at(19.9).tick() == []
    assert driver.at(20).tick() == ["drain amy for kim"]


def test_a_pinned_model_has_no_turn_to_give() -> None:
    driver = contended("amy", "joe")
    driver.pin("amy")
    driver.request("kim")
    assert driver.at(2).tick() == ["drain joe for kim"]


def test_pinning_a_model_takes_its_turn_back() -> None:
    driver = contended("amy", "joe")
    driver.request("kim")
    driver.at(2).tick()
    assert driver.pin("amy") == ["stay amy", "drain joe for kim"]
    assert driver["amy"].pinned
    assert driver.hit("amy")


def test_an_idle_model_leaves_rather_than_one_in_use() -> None:
    driver = contended("amy", "joe")
    driver.at(1).request("kim")
    assert driver.at(2).release("joe", "joe") == ["unload joe EVICTED"]
    assert driver.at(9).tick() == []
    assert driver.states() == {"amy": "ready", "joe": "unloading"}


def test_one_model_drains_at_a_time_for_the_line_of_a_device() -> None:
    driver = contended("amy", "joe")
    driver.request("kim")
    driver.request("lou")
    assert driver.at(2).tick() == ["drain amy for kim"]
    assert driver.at(4).tick() == []
    driver.release("amy", "amy")
    assert driver.gone("amy") == ["load kim"]
    assert driver.loaded("kim") == ["grant kim to ann", "drain joe for lou"]


def test_no_turn_begins_while_a_load_slot_is_what_is_missing() -> None:
    driver = LedgerDriver(turn_after=2.0, resident_cap=2, cap_policy="hard")
    driver.hold("amy")
    driver.request("joe")
    driver.request("kim")
    assert driver.next_due() == 30
    assert driver.at(9).tick() == []
    assert driver.loaded("joe") == ["grant joe to ann", "drain amy for kim"]


def test_missing_bytes_come_from_the_longest_tenant_of_their_own_device() -> None:
    driver = LedgerDriver(
        turn_after=2.0, resident_cap=9, budgets={"cpu": 9, "gpu": 5}, max_parallel_loads=2
    )
    driver.hold("amy", footprint=6)
    driver.hold("joe", footprint=4, device="gpu")
    driver.request("kim", footprint=4, device="gpu")
    assert driver.at(2).tick() == ["drain joe for kim"]


def test_an_idle_model_that_is_not_enough_leaves_when_it_is_its_turn() -> None:
    driver = LedgerDriver(turn_after=2.0, resident_cap=9, budgets={"cpu": 9})
    driver.idle("amy", footprint=3)
    driver.hold("joe", footprint=6)
    driver.request("kim", footprint=9)
    assert driver.at(2).tick() == ["unload amy TURN", "drain joe for kim"]
    assert driver.release("joe") == ["unload joe TURN"]
    assert driver.gone("amy") == []
    assert driver.gone("joe") == ["load kim"]


def test_no_turn_begins_for_what_the_process_takes_beyond_the_budget() -> None:
    driver = LedgerDriver(turn_after=2.0, resident_cap=9, budgets={"cpu": 9})
    driver.hold("amy", footprint=6)
    driver.observed(cpu=1 << 40)
    driver.request("kim", footprint=6)
    assert driver.at(9).tick() == []
    assert driver.observed(cpu=6) == ["drain amy for kim"]


def test_a_model_that_leaves_in_its_turn_says_for_which_and_who_loses_it() -> None:
    driver = contended("amy")
    driver.request("kim")
    driver.at(2).tick()
    amy = driver["amy"]
    assert driver.ledger.release("amy", "amy", 2.0) == [Unload(amy, Reason.TURN, "kim", ())]
    driver = contended("amy")
    driver.park("amy", "amy")
    driver.request("kim")
    amy = driver["amy"]
    assert driver.ledger.tick(2.0) == [Unload(amy, Reason.TURN, "kim", ("amy",))]


# While a model drains for a turn


def test_new_callers_of_a_model_that_drains_queue_behind_and_get_it_when_it_is_back() -> None:
    driver = contended("amy")
    driver.request("kim")
    driver.at(2).tick()
    assert not driver.hit("amy", "eve")
    assert driver.at(3).request("amy", "eve") == ["wait for amy until 33"]
    assert driver.release("amy", "amy") == ["unload amy TURN"]
    assert driver.gone("amy") == ["load kim"]
    driver.loaded("kim")
    assert driver.at(5).release("kim") == ["unload kim EVICTED"]
    assert driver.gone("kim") == ["load amy"]
    assert driver.loaded("amy") == ["grant amy to eve"]


def test_streams_that_run_finish_before_the_model_leaves() -> None:
    driver = contended("amy")
    amy = driver.open_stream("amy")
    driver.request("kim")
    driver.at(2).tick()
    assert driver.release("amy", "amy") is None
    assert driver.at(4).close_stream(amy, 1.0) == ["unload amy TURN"]


def test_a_turn_that_nobody_waits_for_any_more_is_taken_back() -> None:
    driver = contended("amy")
    driver.request("kim")
    driver.at(2).tick()
    driver.at(3).request("amy", "eve")
    assert driver.cancel("kim") == ["stay amy", "grant amy to eve"]
    assert driver.hit("amy", "dan")


def test_a_turn_is_taken_back_when_an_idle_model_makes_room_meanwhile() -> None:
    driver = contended("amy", "joe")
    driver.request("kim")
    driver.at(2).tick()
    assert driver.release("joe", "joe") == ["unload joe EVICTED", "stay amy"]


def test_a_drain_that_takes_too_long_is_taken_back_and_the_next_turn_is_anothers() -> None:
    driver = contended("amy", "joe")
    driver.request("kim")
    assert driver.at(2).tick() == ["drain amy for kim"]
    assert driver.next_due() == 2 + LEAST_DRAIN
    assert driver.at(2 + LEAST_DRAIN).tick() == ["stay amy", "drain joe for kim"]
    assert driver.hit("amy", "eve")


def test_a_drain_may_take_twice_the_longest_speech() -> None:
    driver = contended("amy", "joe")
    driver.at(8).close_stream(driver.open_stream("amy"), 0.0)
    driver.request("kim")
    assert driver.at(10).tick() == ["drain amy for kim"]
    assert driver.next_due() == 26


def test_an_unload_that_an_operator_asks_for_is_not_taken_back_with_the_turn() -> None:
    driver = contended("amy", "joe")
    driver.request("kim")
    driver.at(2).tick()
    assert driver.begin_unload("amy", drain=True) == ["drain joe for kim"]
    assert driver.cancel("kim") == ["stay joe"]
    assert driver.states() == {"amy": "draining", "joe": "ready"}
    assert driver.release("amy", "amy") == ["unload amy UNLOADED"]


def test_a_drain_that_an_operator_takes_back_begins_a_tenure_anew() -> None:
    driver = contended("amy", "joe")
    driver.request("kim")
    driver.at(2).tick()
    assert driver.end_drain("amy") == ["drain joe for kim"]


def test_a_shutdown_takes_no_turn_back() -> None:
    driver = contended("amy")
    driver.request("kim")
    driver.at(2).tick()
    driver.close()
    assert driver.at(60).tick() == []
    assert driver.states() == {"amy": "draining"}
    assert not driver.hit("amy")
    assert driver.release("amy", "amy") == ["unload amy UNLOADED"]


# How long a tenure is


def turns(**policy: float) -> Turns:
    return Turns(Policy(turn_after=2.0, acquire_timeout=30.0, **policy))  # type: ignore[arg-type]


def test_a_quantum_is_nine_loads_so_that_a_place_is_of_use_nine_tenths_of_the_time() -> None:
    made = turns()
    made.learn_load(0.5)
    made.learn_speech(1.5)
    assert made.cost == 2.0
    assert made.quantum(waiting=3, places=3) == 4.5


def test_a_quantum_is_short_enough_for_all_who_wait() -> None:
    made = turns()
    made.learn_load(2.0)
    # Seven turns of 2 + 2 seconds in one place are all of the 28 seconds that they may wait for.
    assert made.quantum(waiting=7, places=1) == 2.0
    assert made.quantum(waiting=4, places=1) == 5.0
    assert made.quantum(waiting=4, places=2) == 12.0
    assert made.quantum(waiting=1, places=1) == 18.0


def test_a_quantum_is_never_shorter_than_the_longest_speech_nor_than_a_second() -> None:
    made = turns()
    assert made.quantum(waiting=0, places=1) == LEAST_QUANTUM
    made.learn_speech(3.0)
    assert made.quantum(waiting=1_000, places=1) == 3.0


def test_what_a_turn_costs_is_the_longest_of_late_and_longer_ones_are_forgotten_slowly() -> None:
    made = turns()
    made.learn_speech(10.0)
    made.learn_speech(1.0)
    assert made.cost == pytest.approx(9.8)
    for _ in range(200):
        made.learn_speech(1.0)
    assert made.cost == 1.0


def test_a_speech_longer_than_anyone_waits_counts_as_that_long() -> None:
    made = turns()
    made.learn_speech(3_600.0)
    assert made.cost == 30.0


def test_a_load_counts_with_its_warmup() -> None:
    driver = LedgerDriver()
    driver.request("amy")
    driver.warming("amy", 0.25)
    driver.loaded("amy", warmup_s=0.5)
    assert driver.ledger.turns.cost == 0.75


def test_a_tenant_keeps_its_place_for_its_quantum_however_long_others_wait() -> None:
    driver = contended("amy")
    driver.close_stream(driver.open_stream("amy"), -14.0)
    driver.request("kim")
    assert driver.next_due() == 14
    assert driver.at(13.9).tick() == []
    assert driver.at(14).tick() == ["drain amy for kim"]


def test_a_speech_that_ends_moves_the_next_turn() -> None:
    driver = contended("amy")
    amy = driver.open_stream("amy")
    driver.request("kim")
    assert driver.next_due() == 2
    assert driver.at(1).close_stream(amy, -3.0) == []
    assert driver.next_due() == 4


def test_a_speech_that_ends_while_nobody_waits_changes_nothing_else() -> None:
    driver = contended("amy")
    assert driver.close_stream(driver.open_stream("amy"), 0.0) is None


# Who is told at once


def rotating() -> LedgerDriver:
    """A ledger of one place whose line has moved twice, 4 s apart, for models used without end."""
    driver = contended("amy")
    driver.close_stream(driver.open_stream("amy"), -2.0)
    for model_id in ("joe", "kim", "lou"):
        driver.request(model_id, model_id)
    for now, old, new in ((8, "amy", "joe"), (16, "joe", "kim")):
        assert driver.at(now).tick() == [f"drain {old} for {new}"]
        driver.release(old, old)
        driver.gone(old)
        driver.loaded(new)
    return driver


def test_a_caller_that_would_come_too_late_is_told_at_once_and_when_to_come() -> None:
    driver = rotating()
    assert driver.request("m0")[-1].startswith("wait")
    # At 4 s a turn the sixteenth comes in 64 s, and in half of that it would be too late as well.
    for number in range(1, 14):
        assert driver.request(f"m{number}") == [f"wait for m{number} until 46"]
    assert driver.request("m14") == ["refuse m14 to ann NO_ROOM 64"]
    assert driver.ledger.refusals == {Reason.NO_ROOM: 1}


def test_a_caller_of_a_model_that_waits_already_is_not_refused() -> None:
    driver = rotating()
    for number in range(14):
        driver.request(f"m{number}")
    assert driver.request("m13", "bob") == ["wait for m13 until 46"]


def test_nobody_is_refused_for_the_line_of_another_device() -> None:
    driver = rotating()
    for number in range(14):
        driver.request(f"m{number}")
    assert driver.request("gil", device="gpu") == ["wait for gil until 46"]


def test_nobody_is_refused_before_the_line_was_seen_to_move() -> None:
    driver = contended("amy")
    driver.close_stream(driver.open_stream("amy"), -2.0)
    for number in range(50):
        assert driver.request(f"m{number}") == [f"wait for m{number} until 30"]


def test_a_line_that_moves_by_itself_is_believed() -> None:
    driver = contended("amy")
    driver.close_stream(driver.open_stream("amy"), -2.0)
    for number in range(40):
        driver.request(f"m{number}")
    # Each is used for a tenth of a second, and idle then.
    before = "amy"
    for number in range(8):
        driver.at(0.1 * number).release(before, "amy" if before == "amy" else "ann")
        driver.gone(before)
        driver.loaded(before := f"m{number}")
    assert driver.request("zoe")[0].startswith("wait")


def test_who_gives_up_waiting_is_told_how_long_the_line_is() -> None:
    driver = rotating()
    driver.request("m0")
    driver.request("m1")
    driver.at(24).tick()
    assert driver.at(29).tick() == ["stay kim"]
    # Behind two models and one more, at 4 s a turn: the first of them has it at any moment.
    assert driver.at(30).tick() == ["refuse lou to lou TIMED_OUT 12"]


def test_how_fast_a_line_moves_is_forgotten_when_nobody_waits() -> None:
    made = turns()
    made.learn_speech(2.0)
    made.served(0.0)
    assert made.wait_expected(1, 1, 0.0) is None
    made.served(3.0)
    assert made.wait_expected(1, 1, 3.0) == 3.0
    assert made.wait_expected(2, 1, 4.0) == 5.0
    assert made.wait_expected(1, 1, 99.0) == 0.0
    made.rest()
    assert made.wait_expected(1, 1, 99.0) is None


def test_the_line_is_seen_to_move_where_turns_come_at_once() -> None:
    made = Turns(Policy(turn_after=0.0))
    made.learn_speech(9.0)
    made.served(0.0)
    made.served(3.0)
    assert made.wait_expected(1, 1, 3.0) == 3.0


def test_the_newest_interval_counts_for_a_third_or_so() -> None:
    made = turns()
    made.learn_speech(9.0)
    for now in (0.0, 3.0, 4.0):
        made.served(now)
    assert made.wait_expected(1, 1, 4.0) == pytest.approx(3.0 - 0.3 * 2.0)


def test_a_line_is_expected_to_move_at_the_shortest_quantum_at_best() -> None:
    made = turns()
    made.learn_speech(3.0)
    made.served(0.0)
    made.served(100.0)
    assert made.wait_expected(1, places=1, now=100.0) == 6.0
    # One drain at a time: with many places it is the drains that take their time.
    assert made.wait_expected(1, places=6, now=100.0) == 3.0


def test_without_turns_a_line_is_not_expected_to_move() -> None:
    made = Turns(Policy(turn_after=-1.0))
    made.served(0.0)
    made.served(1.0)
    assert made.wait_expected(1, 1, 1.0) is None
    tenant = Resident(ModelRequest("amy"), State.READY, 1, 0, 0.0, 1.0)
    assert made.due(0.0, tenant, 1, 1) == math.inf


def test_a_model_that_crashes_in_its_turn_does_not_stay() -> None:
    driver = contended("amy")
    amy = driver.open_stream("amy")
    driver.request("kim")
    driver.at(2).tick()
    assert driver.crashed("amy") == []
    assert driver.cancel("kim") == []
    assert driver.close_stream(amy) == ["unload amy CRASHED"]
