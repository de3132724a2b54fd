"""Room: the cap and the budget, and who makes some."""

from __future__ import annotations

import pytest

from greenroom.ledger.state import ModelRequest, Unload
from tests.ledger.driver import LedgerDriver

# The cap


def test_the_hard_cap_is_never_exceeded() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", max_parallel_loads=3)
    driver.hold("amy")
    assert driver.request("joe") == ["load joe"]
    assert driver.request("kim") == ["wait for kim until 30"]
    assert driver.states() == {"amy": "ready", "joe": "loading"}


def test_a_leaving_model_counts_until_it_is_gone() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.idle("amy")
    assert driver.request("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert driver.at(1).tick() == []
    assert driver.gone("amy") == ["load joe"]


def test_nobody_is_evicted_twice_for_one_need() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy")
    driver.at(1).idle("joe")
    assert driver.request("kim") == ["unload amy EVICTED", "wait for kim until 31"]
    assert driver.request("lou") == ["wait for lou until 31"]
    assert driver.tick() == []
    assert driver.states()["joe"] == "ready"


def test_below_the_cap_nobody_has_to_leave() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy")
    assert driver.request("joe") == ["load joe"]


def test_the_soft_cap_evicts_before_it_gives_way() -> None:
    driver = LedgerDriver(resident_cap=1)
    driver.idle("amy")
    assert driver.request("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert driver.gone("amy") == ["load joe"]


def test_the_soft_cap_gives_way_when_nobody_may_leave() -> None:
    driver = LedgerDriver(resident_cap=1)
    driver.hold("amy")
    assert driver.request("joe") == ["load joe"]
    assert driver.loaded("joe") == ["grant joe to ann"]
    assert driver.states() == {"amy": "ready", "joe": "ready"}


def test_the_soft_cap_gives_way_when_pinned_models_fill_it() -> None:
    driver = LedgerDriver(resident_cap=1)
    driver.pin("amy")
    driver.idle("amy")
    driver.hold("joe")
    assert driver.release("joe") == ["unload joe SURPLUS"]


def test_the_surplus_leaves_oldest_use_first_once_it_is_idle() -> None:
    driver = LedgerDriver(resident_cap=1)
    for model_id in ("amy", "joe", "kim"):
        driver.hold(model_id)
    assert driver.at(1).release("joe") == ["unload joe SURPLUS"]
    assert driver.at(2).release("kim") == ["unload kim SURPLUS"]
    assert driver.at(3).release("amy") == []


def test_the_surplus_leaves_when_min_residency_ends_and_the_ledger_says_when() -> None:
    driver = LedgerDriver(resident_cap=1, min_residency=20, ttl=600)
    driver.idle("amy")
    driver.at(5).idle("joe")
    driver.at(6).hit("amy")
    driver.at(7).release("amy")
    assert driver.next_due() == 20
    assert driver.at(20).tick() == ["unload amy SURPLUS"]
    assert driver.next_due() == 605


def test_only_as_many_leave_as_are_too_many() -> None:
    driver = LedgerDriver(resident_cap=2)
    for model_id in ("amy", "joe", "kim", "lou"):
        driver.hold(model_id)
    assert driver.at(1).release("amy") == ["unload amy SURPLUS"]
    assert driver.at(2).release("joe") == ["unload joe SURPLUS"]
    assert driver.at(3).release("kim") == []


def test_over_the_soft_cap_a_newcomer_waits_for_those_who_leave() -> None:
    driver = LedgerDriver(resident_cap=1)
    driver.hold("amy")
    driver.hold("joe")
    assert driver.release("joe") == ["unload joe SURPLUS"]
    assert driver.request("kim") == ["wait for kim until 30"]
    assert driver.gone("joe") == ["load kim"]


def test_one_leaving_model_is_enough_for_one_newcomer_at_the_cap() -> None:
    driver = LedgerDriver(resident_cap=2)
    driver.idle("amy")
    driver.idle("joe")
    driver.begin_unload("amy")
    assert driver.request("kim") == ["wait for kim until 30"]
    assert driver.states()["joe"] == "ready"


def test_surplus_counts_those_who_leave_as_gone() -> None:
    driver = LedgerDriver(resident_cap=1, max_parallel_loads=2)
    driver.idle("amy")
    driver.request("joe")
    assert driver.states() == {"amy": "unloading"}
    driver.gone("amy")
    assert driver.loaded("joe") == ["grant joe to ann"]
    assert driver.release("joe") == []


# The memory budget


def test_the_memory_budget_is_never_exceeded() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.idle("amy", footprint=5)
    assert driver.request("joe", footprint=6) == ["unload amy EVICTED", "wait for joe until 30"]
    assert driver.gone("amy") == ["load joe"]
    assert driver.ledger.capacity.booked["cpu"] == 6


def test_a_model_that_just_fits_the_budget_is_loaded() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.idle("amy", footprint=5)
    assert driver.request("joe", footprint=5) == ["load joe"]


def test_the_soft_cap_does_not_soften_the_budget() -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    driver.hold("amy", footprint=6)
    assert driver.request("joe", footprint=6) == ["wait for joe until 30"]
    assert driver.at(1).release("amy") == ["unload amy EVICTED"]


def test_as_many_leave_as_the_missing_bytes_need_and_no_more() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    for now, model_id in enumerate(("amy", "joe", "kim")):
        driver.at(now).idle(model_id, footprint=3)
    assert driver.at(3).request("lou", footprint=7) == [
        "unload amy EVICTED",
        "unload joe EVICTED",
        "wait for lou until 33",
    ]
    assert driver.gone("joe") == []
    assert driver.gone("amy") == ["load lou"]


def test_nobody_is_evicted_in_vain() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.idle("amy", footprint=3)
    driver.hold("joe", footprint=6)
    assert driver.at(1).request("kim", footprint=8) == ["wait for kim until 31"]
    assert driver.states() == {"amy": "ready", "joe": "ready"}
    assert driver.at(2).release("joe") == ["unload amy EVICTED", "unload joe EVICTED"]


def test_under_a_hard_cap_nobody_is_evicted_in_vain() -> None:
    driver = LedgerDriver(budgets={"cpu": 20}, resident_cap=2, cap_policy="hard")
    driver.idle("amy", footprint=3, device="gpu")
    driver.hold("joe", footprint=15)
    assert driver.request("kim", footprint=6) == ["wait for kim until 30"]
    assert driver.states() == {"amy": "ready", "joe": "ready"}


def test_bytes_come_from_the_same_device_only() -> None:
    driver = LedgerDriver(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)
    driver.idle("amy", footprint=8, device="gpu")
    driver.at(1).idle("joe", footprint=8, device="cpu")
    assert driver.request("kim", footprint=8, device="cpu") == [
        "unload joe EVICTED",
        "wait for kim until 31",
    ]
    assert driver.states()["amy"] == "ready"


def test_each_device_has_its_own_budget() -> None:
    driver = LedgerDriver(budgets={"cpu": 10, "gpu": 5}, resident_cap=9)
    driver.hold("amy", footprint=8, device="cpu")
    driver.hold("joe", footprint=5, device="gpu")
    assert driver.request("kim", footprint=3, device="gpu") == ["wait for kim until 30"]
    assert driver.request("lou", footprint=2, device="cpu") == ["load lou"]
    assert driver.ledger.capacity.booked == {"cpu": 10, "gpu": 5}


def test_a_device_without_a_budget_has_no_limit() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.hold("amy", footprint=10**15, device="tpu")
    assert driver.request("joe", footprint=10**15, device="tpu") == ["load joe"]


def test_a_victim_for_bytes_counts_towards_the_cap_as_well() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=2, cap_policy="hard")
    driver.idle("amy", device="gpu")
    driver.at(1).idle("joe", footprint=8)
    assert driver.at(2).request("kim", footprint=8) == [
        "unload joe EVICTED",
        "wait for kim until 32",
    ]
    assert driver.gone("joe") == ["load kim"]


@pytest.mark.parametrize("budget", [8, 10])
def test_after_the_bytes_the_cap_takes_the_oldest_use_of_any_device(budget: int) -> None:
    driver = LedgerDriver(budgets={"cpu": budget}, resident_cap=3, min_residency=20)
    driver.hold("lou", device="gpu")
    driver.hold("amy", device="gpu")
    driver.hold("max", device="cpu")
    driver.hold("joe", device="cpu", footprint=8)
    for now, model_id in enumerate(("amy", "joe", "max", "lou")):
        driver.at(now).release(model_id)
    assert driver.at(4).request("kim", footprint=8) == ["wait for kim until 34"]
    assert driver.at(20).tick() == ["unload joe EVICTED", "unload amy EVICTED"]
    assert driver.gone("joe") == []
    assert driver.gone("amy") == ["load kim"]


def test_one_missing_byte_comes_from_its_own_device() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=2, cap_policy="hard")
    driver.idle("amy", device="gpu")
    driver.at(1).idle("joe", footprint=5)
    assert driver.request("kim", footprint=6) == ["unload joe EVICTED", "wait for kim until 31"]


def test_nobody_is_evicted_when_one_byte_would_still_be_missing() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.idle("amy", footprint=3)
    driver.hold("joe", footprint=5)
    assert driver.request("kim", footprint=6) == ["wait for kim until 30"]
    assert driver.states()["amy"] == "ready"


def test_a_budget_that_is_just_full_presses_nobody() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, min_residency=20, ttl=600)
    driver.idle("amy", footprint=10)
    assert driver.tick() == []
    assert driver.next_due() == 600


def test_bytes_that_are_promised_are_counted_on_but_not_given_away() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.idle("amy", footprint=2)
    driver.idle("joe", footprint=8)
    driver.begin_unload("amy")
    assert driver.request("kim", footprint=2) == ["wait for kim until 30"]
    assert driver.states()["joe"] == "ready"
    assert driver.gone("amy") == ["load kim"]


def test_a_measured_footprint_replaces_the_estimate() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.request("amy", footprint=8)
    driver.loaded("amy", footprint=3)
    assert driver.ledger.capacity.booked["cpu"] == 3
    assert driver.request("joe", footprint=7) == ["load joe"]
    driver.loaded("joe", footprint=6)
    driver.release("amy")
    assert driver.begin_unload("amy") == ["unload amy UNLOADED"]
    driver.gone("amy")
    assert driver.ledger.capacity.booked["cpu"] == 6


def test_a_model_that_grew_over_the_budget_pushes_others_out() -> None:
    driver = LedgerDriver(budgets={"gpu": 9, "cpu": 10}, resident_cap=9)
    driver.idle("gus", footprint=9, device="gpu")
    driver.idle("amy", footprint=4)
    driver.at(1).idle("joe", footprint=2)
    assert driver.at(2).request("kim", footprint=4) == ["load kim"]
    assert driver.loaded("kim", footprint=6) == ["grant kim to ann", "unload amy SURPLUS"]
    assert driver.gone("amy") == []
    assert driver.states() == {"gus": "ready", "joe": "ready", "kim": "ready"}


def test_a_model_that_grew_over_the_budget_alone_leaves_when_it_is_idle() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.request("amy", footprint=5)
    driver.loaded("amy", footprint=11)
    assert driver.release("amy") == ["unload amy SURPLUS"]
    assert driver.tick() == []


def test_growth_over_the_budget_waits_for_min_residency_and_the_ledger_says_when() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9, min_residency=20)
    driver.request("amy", footprint=5)
    driver.loaded("amy", footprint=11)
    assert driver.at(1).release("amy") == []
    assert driver.next_due() == 20
    assert driver.at(20).tick() == ["unload amy SURPLUS"]


@pytest.mark.parametrize("measured", [3, 7])
def test_what_a_pinned_model_really_takes_is_out_of_reach_for_others(measured: int) -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.pin("amy")
    driver.request("amy", footprint=5)
    driver.loaded("amy", footprint=measured)
    driver.hold("joe", footprint=3)
    over, under = 11 - measured, 10 - measured
    assert driver.request("kim", footprint=over) == ["refuse kim to ann NO_ROOM never"]
    assert driver.request("lou", footprint=under) == ["wait for lou until 30"]


@pytest.mark.parametrize("late", [False, True])
def test_all_pinned_models_of_a_device_add_up(late: bool) -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    for model_id in ("amy", "joe"):
        if not late:
            driver.pin(model_id)
        driver.hold(model_id, footprint=3)
        driver.pin(model_id)
    driver.hold("kim", footprint=2)
    assert driver.request("lou", footprint=5) == ["refuse lou to ann NO_ROOM never"]
    assert driver.request("max", footprint=4) == ["wait for max until 30"]


def test_a_pin_kept_through_a_drain_adds_to_the_others() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    for model_id in ("amy", "joe"):
        driver.pin(model_id)
        driver.hold(model_id, footprint=3)
    driver.hold("kim", footprint=2)
    driver.begin_unload("joe", drain=True)
    driver.end_drain("joe")
    assert driver.request("lou", footprint=5) == ["refuse lou to ann NO_ROOM never"]
    assert driver.request("max", footprint=4) == ["wait for max until 30"]


def test_an_eviction_says_which_model_its_room_is_for_and_other_departures_do_not() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.idle("amy")
    _, (unload, _) = driver.ledger.request(ModelRequest("joe"), "ann", 1.0)
    assert isinstance(unload, Unload)
    assert unload.makes_room_for == "joe"
    assert unload.why == "least recently used, its room was needed for joe"
    driver.gone("amy")
    driver.loaded("joe")
    driver.release("joe")
    (unload,) = driver.ledger.begin_unload("joe", 2.0, drain=False)
    assert isinstance(unload, Unload)
    assert unload.why == "unload was asked for"


def test_all_that_must_leave_for_a_caller_leave_in_the_step_that_makes_them_free_to_go() -> None:
    driver = LedgerDriver(resident_cap=2, min_residency=20)
    driver.idle("amy")
    driver.idle("joe")
    assert driver.at(15).request("max") == ["load max"]
    assert driver.request("kim") == ["wait for kim until 45"]
    assert driver.at(21).loaded("max") == [
        "grant max to ann",
        "unload amy EVICTED",
        "unload joe EVICTED",
    ]
