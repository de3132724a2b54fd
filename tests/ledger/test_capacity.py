"""Room: the cap and the budget, and who makes some."""

from __future__ import annotations

import pytest

from tests.ledger.driver import Desk

# The cap


def test_the_hard_cap_is_never_exceeded() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", max_parallel_loads=3)
    desk.hold("amy")
    assert desk.ask("joe") == ["load joe"]
    assert desk.ask("kim") == ["wait for kim until 30"]
    assert desk.shown() == {"amy": "ready", "joe": "loading"}


def test_a_leaving_model_counts_until_it_is_gone() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.idle("amy")
    assert desk.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert desk.at(1).tick() == []
    assert desk.gone("amy") == ["load joe"]


def test_nobody_is_evicted_twice_for_one_need() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    desk.at(1).idle("joe")
    assert desk.ask("kim") == ["unload amy EVICTED", "wait for kim until 31"]
    assert desk.ask("lou") == ["wait for lou until 31"]
    assert desk.tick() == []
    assert desk.shown()["joe"] == "ready"


def test_below_the_cap_nobody_has_to_leave() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    assert desk.ask("joe") == ["load joe"]


def test_the_soft_cap_evicts_before_it_gives_way() -> None:
    desk = Desk(resident_cap=1)
    desk.idle("amy")
    assert desk.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert desk.gone("amy") == ["load joe"]


def test_the_soft_cap_gives_way_when_nobody_may_leave() -> None:
    desk = Desk(resident_cap=1)
    desk.hold("amy")
    assert desk.ask("joe") == ["load joe"]
    assert desk.land("joe") == ["grant joe to ann"]
    assert desk.shown() == {"amy": "ready", "joe": "ready"}


def test_the_soft_cap_gives_way_when_pinned_models_fill_it() -> None:
    desk = Desk(resident_cap=1)
    desk.pin("amy")
    desk.idle("amy")
    desk.hold("joe")
    assert desk.give("joe") == ["unload joe SURPLUS"]


def test_the_surplus_leaves_oldest_use_first_once_it_is_idle() -> None:
    desk = Desk(resident_cap=1)
    for model_id in ("amy", "joe", "kim"):
        desk.hold(model_id)
    assert desk.at(1).give("joe") == ["unload joe SURPLUS"]
    assert desk.at(2).give("kim") == ["unload kim SURPLUS"]
    assert desk.at(3).give("amy") == []


def test_the_surplus_leaves_when_min_residency_ends_and_the_ledger_says_when() -> None:
    desk = Desk(resident_cap=1, min_residency=20, ttl=600)
    desk.idle("amy")
    desk.at(5).idle("joe")
    desk.at(6).hit("amy")
    desk.at(7).give("amy")
    assert desk.due() == 20
    assert desk.at(20).tick() == ["unload amy SURPLUS"]
    assert desk.due() == 605


def test_only_as_many_leave_as_are_too_many() -> None:
    desk = Desk(resident_cap=2)
    for model_id in ("amy", "joe", "kim", "lou"):
        desk.hold(model_id)
    assert desk.at(1).give("amy") == ["unload amy SURPLUS"]
    assert desk.at(2).give("joe") == ["unload joe SURPLUS"]
    assert desk.at(3).give("kim") == []


def test_over_the_soft_cap_a_newcomer_waits_for_those_who_leave() -> None:
    desk = Desk(resident_cap=1)
    desk.hold("amy")
    desk.hold("joe")
    assert desk.give("joe") == ["unload joe SURPLUS"]
    assert desk.ask("kim") == ["wait for kim until 30"]
    assert desk.gone("joe") == ["load kim"]


def test_one_leaving_model_is_enough_for_one_newcomer_at_the_cap() -> None:
    desk = Desk(resident_cap=2)
    desk.idle("amy")
    desk.idle("joe")
    desk.unload("amy")
    assert desk.ask("kim") == ["wait for kim until 30"]
    assert desk.shown()["joe"] == "ready"


def test_surplus_counts_those_who_leave_as_gone() -> None:
    desk = Desk(resident_cap=1, max_parallel_loads=2)
    desk.idle("amy")
    desk.ask("joe")
    assert desk.shown() == {"amy": "unloading"}
    desk.gone("amy")
    assert desk.land("joe") == ["grant joe to ann"]
    assert desk.give("joe") == []


# The memory budget


def test_the_memory_budget_is_never_exceeded() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=5)
    assert desk.ask("joe", footprint=6) == ["unload amy EVICTED", "wait for joe until 30"]
    assert desk.gone("amy") == ["load joe"]
    assert desk.ledger.capacity.booked["cpu"] == 6


def test_a_model_that_just_fits_the_budget_is_loaded() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=5)
    assert desk.ask("joe", footprint=5) == ["load joe"]


def test_the_soft_cap_does_not_soften_the_budget() -> None:
    desk = Desk(budgets={"cpu": 10})
    desk.hold("amy", footprint=6)
    assert desk.ask("joe", footprint=6) == ["wait for joe until 30"]
    assert desk.at(1).give("amy") == ["unload amy EVICTED"]


def test_as_many_leave_as_the_missing_bytes_need_and_no_more() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    for now, model_id in enumerate(("amy", "joe", "kim")):
        desk.at(now).idle(model_id, footprint=3)
    assert desk.at(3).ask("lou", footprint=7) == [
        "unload amy EVICTED",
        "unload joe EVICTED",
        "wait for lou until 33",
    ]
    assert desk.gone("joe") == []
    assert desk.gone("amy") == ["load lou"]


def test_nobody_is_evicted_in_vain() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=3)
    desk.hold("joe", footprint=6)
    assert desk.at(1).ask("kim", footprint=8) == ["wait for kim until 31"]
    assert desk.shown() == {"amy": "ready", "joe": "ready"}
    assert desk.at(2).give("joe") == ["unload amy EVICTED", "unload joe EVICTED"]


def test_under_a_hard_cap_nobody_is_evicted_in_vain() -> None:
    desk = Desk(budgets={"cpu": 20}, resident_cap=2, cap_policy="hard")
    desk.idle("amy", footprint=3, device="gpu")
    desk.hold("joe", footprint=15)
    assert desk.ask("kim", footprint=6) == ["wait for kim until 30"]
    assert desk.shown() == {"amy": "ready", "joe": "ready"}


def test_bytes_come_from_the_same_device_only() -> None:
    desk = Desk(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=8, device="gpu")
    desk.at(1).idle("joe", footprint=8, device="cpu")
    assert desk.ask("kim", footprint=8, device="cpu") == [
        "unload joe EVICTED",
        "wait for kim until 31",
    ]
    assert desk.shown()["amy"] == "ready"


def test_each_device_has_its_own_budget() -> None:
    desk = Desk(budgets={"cpu": 10, "gpu": 5}, resident_cap=9)
    desk.hold("amy", footprint=8, device="cpu")
    desk.hold("joe", footprint=5, device="gpu")
    assert desk.ask("kim", footprint=3, device="gpu") == ["wait for kim until 30"]
    assert desk.ask("lou", footprint=2, device="cpu") == ["load lou"]
    assert desk.ledger.capacity.booked == {"cpu": 10, "gpu": 5}


def test_a_device_without_a_budget_has_no_limit() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=10**15, device="tpu")
    assert desk.ask("joe", footprint=10**15, device="tpu") == ["load joe"]


def test_a_victim_for_bytes_counts_towards_the_cap_as_well() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=2, cap_policy="hard")
    desk.idle("amy", device="gpu")
    desk.at(1).idle("joe", footprint=8)
    assert desk.at(2).ask("kim", footprint=8) == ["unload joe EVICTED", "wait for kim until 32"]
    assert desk.gone("joe") == ["load kim"]


@pytest.mark.parametrize("budget", [8, 10])
def test_after_the_bytes_the_cap_takes_the_oldest_use_of_any_device(budget: int) -> None:
    desk = Desk(budgets={"cpu": budget}, resident_cap=3, min_residency=20)
    desk.hold("lou", device="gpu")
    desk.hold("amy", device="gpu")
    desk.hold("max", device="cpu")
    desk.hold("joe", device="cpu", footprint=8)
    for now, model_id in enumerate(("amy", "joe", "max", "lou")):
        desk.at(now).give(model_id)
    assert desk.at(4).ask("kim", footprint=8) == ["wait for kim until 34"]
    assert desk.at(20).tick() == ["unload joe EVICTED", "unload amy EVICTED"]
    assert desk.gone("joe") == []
    assert desk.gone("amy") == ["load kim"]


def test_one_missing_byte_comes_from_its_own_device() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=2, cap_policy="hard")
    desk.idle("amy", device="gpu")
    desk.at(1).idle("joe", footprint=5)
    assert desk.ask("kim", footprint=6) == ["unload joe EVICTED", "wait for kim until 31"]


def test_nobody_is_evicted_when_one_byte_would_still_be_missing() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=3)
    desk.hold("joe", footprint=5)
    assert desk.ask("kim", footprint=6) == ["wait for kim until 30"]
    assert desk.shown()["amy"] == "ready"


def test_a_budget_that_is_just_full_presses_nobody() -> None:
    desk = Desk(budgets={"cpu": 10}, min_residency=20, ttl=600)
    desk.idle("amy", footprint=10)
    assert desk.tick() == []
    assert desk.due() == 600


def test_bytes_that_are_promised_are_counted_on_but_not_given_away() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=2)
    desk.idle("joe", footprint=8)
    desk.unload("amy")
    assert desk.ask("kim", footprint=2) == ["wait for kim until 30"]
    assert desk.shown()["joe"] == "ready"
    assert desk.gone("amy") == ["load kim"]


def test_a_measured_footprint_replaces_the_estimate() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.ask("amy", footprint=8)
    desk.land("amy", footprint=3)
    assert desk.ledger.capacity.booked["cpu"] == 3
    assert desk.ask("joe", footprint=7) == ["load joe"]
    desk.land("joe", footprint=6)
    desk.give("amy")
    assert desk.unload("amy") == ["unload amy UNLOADED"]
    desk.gone("amy")
    assert desk.ledger.capacity.booked["cpu"] == 6


def test_a_model_that_grew_over_the_budget_pushes_others_out() -> None:
    desk = Desk(budgets={"gpu": 9, "cpu": 10}, resident_cap=9)
    desk.idle("gus", footprint=9, device="gpu")
    desk.idle("amy", footprint=4)
    desk.at(1).idle("joe", footprint=2)
    assert desk.at(2).ask("kim", footprint=4) == ["load kim"]
    assert desk.land("kim", footprint=6) == ["grant kim to ann", "unload amy SURPLUS"]
    assert desk.gone("amy") == []
    assert desk.shown() == {"gus": "ready", "joe": "ready", "kim": "ready"}


def test_a_model_that_grew_over_the_budget_alone_leaves_when_it_is_idle() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.ask("amy", footprint=5)
    desk.land("amy", footprint=11)
    assert desk.give("amy") == ["unload amy SURPLUS"]
    assert desk.tick() == []


def test_growth_over_the_budget_waits_for_min_residency_and_the_ledger_says_when() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9, min_residency=20)
    desk.ask("amy", footprint=5)
    desk.land("amy", footprint=11)
    assert desk.at(1).give("amy") == []
    assert desk.due() == 20
    assert desk.at(20).tick() == ["unload amy SURPLUS"]


@pytest.mark.parametrize("measured", [3, 7])
def test_what_a_pinned_model_really_takes_is_out_of_reach_for_others(measured: int) -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.ask("amy", footprint=5)
    desk.land("amy", footprint=measured)
    desk.hold("joe", footprint=3)
    over, under = 11 - measured, 10 - measured
    assert desk.ask("kim", footprint=over) == ["refuse kim to ann NO_ROOM never"]
    assert desk.ask("lou", footprint=under) == ["wait for lou until 30"]


@pytest.mark.parametrize("late", [False, True])
def test_all_pinned_models_of_a_device_add_up(late: bool) -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    for model_id in ("amy", "joe"):
        if not late:
            desk.pin(model_id)
        desk.hold(model_id, footprint=3)
        desk.pin(model_id)
    desk.hold("kim", footprint=2)
    assert desk.ask("lou", footprint=5) == ["refuse lou to ann NO_ROOM never"]
    assert desk.ask("max", footprint=4) == ["wait for max until 30"]


def test_a_pin_kept_through_a_drain_adds_to_the_others() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    for model_id in ("amy", "joe"):
        desk.pin(model_id)
        desk.hold(model_id, footprint=3)
    desk.hold("kim", footprint=2)
    desk.drain("joe")
    desk.end_drain("joe")
    assert desk.ask("lou", footprint=5) == ["refuse lou to ann NO_ROOM never"]
    assert desk.ask("max", footprint=4) == ["wait for max until 30"]
