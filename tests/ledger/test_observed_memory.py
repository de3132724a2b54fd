"""What is expected of a model, what is certain, and what the process really takes."""

from __future__ import annotations

import pytest

from greenroom.ledger.capacity import NOISE
from tests.ledger.driver import Desk

OVER = NOISE + 11
"""Bytes clearly over a budget of 10."""


# What is only expected


def test_an_expectation_above_the_budget_is_tried_when_nothing_else_is_in_memory() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    assert desk.ask("big", footprint=984, min_footprint=0) == ["load big"]
    assert desk["big"].footprint == 10
    assert desk.ask("joe", footprint=1) == ["wait for joe until 30"]


def test_what_may_leave_leaves_before_an_expectation_above_the_budget_is_tried() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=1)
    desk.hold("joe", footprint=1)
    assert desk.ask("big", footprint=984, min_footprint=0) == ["wait for big until 30"]
    assert desk.give("joe") == ["unload amy EVICTED", "unload joe EVICTED"]
    assert desk.gone("amy") == []
    assert desk.gone("joe") == ["load big"]


def test_a_pinned_model_does_not_keep_an_expectation_from_being_tried() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.hold("amy", footprint=4)
    assert desk.ask("big", footprint=984, min_footprint=0) == ["load big"]
    assert desk["big"].footprint == 6
    assert desk.ledger.capacity.booked["cpu"] == 10


def test_an_expectation_within_the_budget_is_booked_as_it_is() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    assert desk.ask("joe", footprint=4, min_footprint=0) == ["load joe"]
    assert desk["joe"].footprint == 4


def test_without_a_budget_an_expectation_is_booked_as_it_is() -> None:
    desk = Desk()
    assert desk.ask("joe", footprint=984, min_footprint=0) == ["load joe"]
    assert desk["joe"].footprint == 984


def test_what_is_certain_refuses_what_is_expected_does_not() -> None:
    desk = Desk(budgets={"cpu": 10})
    assert desk.ask("big", footprint=20, min_footprint=11) == ["refuse big to ann TOO_BIG never"]
    assert desk.ask("joe", footprint=20, min_footprint=10) == ["load joe"]


def test_what_is_certain_finds_no_room_beside_pinned_models() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.hold("amy", footprint=4)
    assert desk.ask("big", footprint=20, min_footprint=7) == ["refuse big to ann NO_ROOM never"]


def test_a_load_is_alone_with_nothing_but_pinned_models_beside_it() -> None:
    desk = Desk(resident_cap=9, max_parallel_loads=2)
    desk.pin("amy")
    desk.hold("amy")
    desk.ask("joe")
    assert desk.ledger.capacity.is_alone(desk["joe"])
    desk.ask("kim")
    assert not desk.ledger.capacity.is_alone(desk["joe"])
    assert not desk.ledger.capacity.is_alone(desk["kim"])


def test_a_load_beside_one_that_leaves_is_not_alone() -> None:
    desk = Desk(resident_cap=9)
    desk.idle("amy")
    desk.unload("amy")
    desk.ask("joe")
    assert not desk.ledger.capacity.is_alone(desk["joe"])
    desk.gone("amy")
    assert desk.ledger.capacity.is_alone(desk["joe"])


# What the process takes


@pytest.fixture
def desk() -> Desk:
    return Desk(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)


def test_no_load_begins_while_the_process_takes_more_than_the_budget(desk: Desk) -> None:
    desk.hold("amy", footprint=1)
    assert desk.look(cpu=OVER) == []
    assert desk.ask("joe", footprint=1) == ["wait for joe until 30"]
    assert desk.at(1).look(cpu=9) == ["load joe"]


def test_a_growth_within_the_noise_is_no_overdraft(desk: Desk) -> None:
    desk.hold("amy", footprint=1)
    desk.look(cpu=NOISE + 10)
    assert desk.ask("joe", footprint=1) == ["load joe"]


def test_an_overdraft_of_one_device_does_not_concern_another(desk: Desk) -> None:
    desk.hold("amy", footprint=1)
    desk.look(cpu=OVER)
    assert desk.ask("joe", footprint=1, device="gpu") == ["load joe"]


def test_an_overdraft_does_not_keep_out_the_only_model(desk: Desk) -> None:
    desk.look(cpu=OVER)
    assert desk.ask("joe", footprint=1) == ["load joe"]
    assert desk.ask("kim", footprint=1) == ["wait for kim until 30"]


def test_hits_and_joins_go_on_during_an_overdraft(desk: Desk) -> None:
    desk.hold("amy", footprint=1)
    desk.ask("joe", footprint=1)
    desk.look(cpu=OVER)
    assert desk.hit("amy", "bob")
    assert desk.ask("joe", "bob", footprint=1) == ["join joe"]


def test_who_waited_out_an_overdraft_is_told_of_it(desk: Desk) -> None:
    desk.hold("amy", footprint=1)
    desk.look(cpu=OVER)
    desk.ask("joe", footprint=1)
    assert desk.at(30).tick() == ["refuse joe to ann OVERDRAWN 1"]


def test_one_idle_model_leaves_for_each_look_at_an_overdraft(desk: Desk) -> None:
    desk.idle("amy", footprint=1)
    desk.at(1).idle("joe", footprint=1)
    assert desk.look(cpu=OVER) == ["unload amy SURPLUS"]
    assert desk.gone("amy") == []
    assert desk.at(2).look(cpu=OVER) == ["unload joe SURPLUS"]


def test_models_within_their_min_residency_outstay_an_overdraft() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9, min_residency=5.0)
    desk.idle("amy", footprint=1)
    assert desk.look(cpu=OVER) == []
    assert desk.due() == 5.0
    assert desk.at(5).tick() == ["unload amy SURPLUS"]


def test_a_pinned_model_outstays_an_overdraft(desk: Desk) -> None:
    desk.pin("amy")
    desk.idle("amy", footprint=1)
    assert desk.look(cpu=OVER) == []
    assert desk.ask("joe", footprint=1) == ["wait for joe until 30"]


def test_a_device_without_a_budget_is_never_overdrawn() -> None:
    desk = Desk()
    desk.hold("amy")
    desk.look(cpu=10**15)
    assert desk.ask("joe") == ["load joe"]
