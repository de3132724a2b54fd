"""What is expected of a model, what is certain, and what the process really takes."""

from __future__ import annotations

import pytest

from greenroom.ledger.capacity import NOISE
from tests.ledger.driver import LedgerDriver

OVER = NOISE + 11
"""Bytes clearly over a budget of 10."""


# What is only expected


def test_an_expectation_above_the_budget_is_tried_when_nothing_else_is_in_memory() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    assert driver.request("big", footprint=984, min_footprint=0) == ["load big"]
    assert driver["big"].footprint == 10
    assert driver.request("joe", footprint=1) == ["wait for joe until 30"]


def test_what_may_leave_leaves_before_an_expectation_above_the_budget_is_tried() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.idle("amy", footprint=1)
    driver.hold("joe", footprint=1)
    assert driver.request("big", footprint=984, min_footprint=0) == ["wait for big until 30"]
    assert driver.release("joe") == ["unload amy EVICTED", "unload joe EVICTED"]
    assert driver.gone("amy") == []
    assert driver.gone("joe") == ["load big"]


def test_a_pinned_model_does_not_keep_an_expectation_from_being_tried() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.pin("amy")
    driver.hold("amy", footprint=4)
    assert driver.request("big", footprint=984, min_footprint=0) == ["load big"]
    assert driver["big"].footprint == 6
    assert driver.ledger.capacity.booked["cpu"] == 10


def test_beside_pins_that_fill_the_budget_an_expectation_is_tried_with_nothing_booked() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.pin("amy")
    driver.hold("amy", footprint=10)
    assert driver.request("big", footprint=984, min_footprint=0) == ["load big"]
    assert driver["big"].footprint == 0


def test_an_expectation_within_the_budget_is_booked_as_it_is() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    assert driver.request("joe", footprint=4, min_footprint=0) == ["load joe"]
    assert driver["joe"].footprint == 4


def test_without_a_budget_an_expectation_is_booked_as_it_is() -> None:
    driver = LedgerDriver()
    assert driver.request("joe", footprint=984, min_footprint=0) == ["load joe"]
    assert driver["joe"].footprint == 984


def test_what_is_certain_refuses_what_is_expected_does_not() -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    assert driver.request("big", footprint=20, min_footprint=11) == [
        "refuse big to ann TOO_BIG never"
    ]
    assert driver.request("joe", footprint=20, min_footprint=10) == ["load joe"]


def test_what_is_certain_finds_no_room_beside_pinned_models() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9)
    driver.pin("amy")
    driver.hold("amy", footprint=4)
    assert driver.request("big", footprint=20, min_footprint=7) == [
        "refuse big to ann NO_ROOM never"
    ]


def test_a_load_is_alone_with_nothing_but_pinned_models_beside_it() -> None:
    driver = LedgerDriver(resident_cap=9, max_parallel_loads=2)
    driver.pin("amy")
    driver.hold("amy")
    driver.request("joe")
    assert driver.ledger.capacity.is_alone(driver["joe"])
    driver.request("kim")
    assert not driver.ledger.capacity.is_alone(driver["joe"])
    assert not driver.ledger.capacity.is_alone(driver["kim"])


def test_a_load_beside_one_that_leaves_is_not_alone() -> None:
    driver = LedgerDriver(resident_cap=9)
    driver.idle("amy")
    driver.begin_unload("amy")
    driver.request("joe")
    assert not driver.ledger.capacity.is_alone(driver["joe"])
    driver.gone("amy")
    assert driver.ledger.capacity.is_alone(driver["joe"])


# What the process takes


@pytest.fixture
def driver() -> LedgerDriver:
    return LedgerDriver(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)


def test_no_load_begins_while_the_process_takes_more_than_the_budget(driver: LedgerDriver) -> None:
    driver.hold("amy", footprint=1)
    assert driver.observed(cpu=OVER) == []
    assert driver.request("joe", footprint=1) == ["wait for joe until 30"]
    assert driver.at(1).observed(cpu=9) == ["load joe"]


def test_a_growth_within_the_noise_is_no_overdraft(driver: LedgerDriver) -> None:
    driver.hold("amy", footprint=1)
    driver.observed(cpu=NOISE + 10)
    assert driver.request("joe", footprint=1) == ["load joe"]


def test_an_overdraft_of_one_device_does_not_concern_another(driver: LedgerDriver) -> None:
    driver.hold("amy", footprint=1)
    driver.observed(cpu=OVER)
    assert driver.request("joe", footprint=1, device="gpu") == ["load joe"]


def test_an_overdraft_does_not_keep_out_the_only_model(driver: LedgerDriver) -> None:
    driver.observed(cpu=OVER)
    assert driver.request("joe", footprint=1) == ["load joe"]
    assert driver.request("kim", footprint=1) == ["wait for kim until 30"]


def test_hits_and_joins_go_on_during_an_overdraft(driver: LedgerDriver) -> None:
    driver.hold("amy", footprint=1)
    driver.request("joe", footprint=1)
    driver.observed(cpu=OVER)
    assert driver.hit("amy", "bob")
    assert driver.request("joe", "bob", footprint=1) == ["join joe"]


def test_who_waited_out_an_overdraft_is_told_of_it(driver: LedgerDriver) -> None:
    driver.hold("amy", footprint=1)
    driver.observed(cpu=OVER)
    driver.request("joe", footprint=1)
    assert driver.at(30).tick() == ["refuse joe to ann OVERDRAWN 1"]


def test_one_idle_model_leaves_for_each_look_at_an_overdraft(driver: LedgerDriver) -> None:
    driver.idle("amy", footprint=1)
    driver.at(1).idle("joe", footprint=1)
    assert driver.observed(cpu=OVER) == ["unload amy SURPLUS"]
    assert driver.gone("amy") == []
    assert driver.at(2).observed(cpu=OVER) == ["unload joe SURPLUS"]


def test_models_within_their_min_residency_outstay_an_overdraft() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9, min_residency=5.0)
    driver.idle("amy", footprint=1)
    assert driver.observed(cpu=OVER) == []
    assert driver.next_due() == 5.0
    assert driver.at(5).tick() == ["unload amy SURPLUS"]


def test_a_pinned_model_outstays_an_overdraft(driver: LedgerDriver) -> None:
    driver.pin("amy")
    driver.idle("amy", footprint=1)
    assert driver.observed(cpu=OVER) == []
    assert driver.request("joe", footprint=1) == ["wait for joe until 30"]


def test_a_device_without_a_budget_is_never_overdrawn() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    driver.observed(cpu=10**15)
    assert driver.request("joe") == ["load joe"]


def test_an_overdraft_keeps_loads_out_until_the_last_model_of_the_device_is_gone(
    driver: LedgerDriver,
) -> None:
    driver.hold("amy", footprint=1)
    driver.hold("joe", footprint=1)
    driver.observed(cpu=OVER)
    assert driver.request("kim", footprint=1) == ["wait for kim until 30"]
    driver.release("joe")
    assert driver.begin_unload("joe") == []
    assert driver.gone("joe") == []
    driver.release("amy")
    driver.begin_unload("amy")
    assert driver.gone("amy") == ["load kim"]
