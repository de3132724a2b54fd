"""Loads that fail, unloads that hang, and the end."""

from __future__ import annotations

import math

import pytest

from greenroom.errors import ModelNotResidentError
from greenroom.ledger.state import Reason, Refused
from tests.ledger.driver import Desk

# Failing


def test_a_load_that_fails_leaves_nothing_behind() -> None:
    desk = Desk(budgets={"cpu": 10})
    desk.ask("amy", "ann", footprint=9)
    desk.ask("amy", "bob", footprint=9)
    amy = desk["amy"]
    refusals = desk.ledger.failed(amy, "no such file", desk.now)
    assert refusals == [
        Refused(desk.tickets["amy", "ann"], Reason.LOAD_FAILED, 1.0, "no such file"),
        Refused(desk.tickets["amy", "bob"], Reason.LOAD_FAILED, 1.0, "no such file"),
    ]
    assert desk.ledger.get("amy") is None
    assert (amy.waiters, amy.holders, amy.instance) == ({}, {}, None)
    assert desk.ledger.capacity.booked["cpu"] == 0
    assert desk.ask("joe", footprint=9) == ["load joe"]


def test_a_failed_model_is_left_alone_for_a_growing_while() -> None:
    desk = Desk(first_retry=1, longest_retry=300)
    waits = []
    for _ in range(12):
        desk.ask("amy")
        (refusal,) = desk.fail("amy")
        wait = float(refusal.removeprefix("refuse amy to ann LOAD_FAILED ").removesuffix(": boom"))
        waits.append(wait)
        again = desk.at(desk.now + wait / 4).ask("amy")
        assert again == [f"refuse amy to ann BACKING_OFF {wait * 0.75:g}: boom"]
        desk.at(desk.now + wait * 0.75)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_success_resets_the_back_off() -> None:
    desk = Desk()
    for now in (0, 1):
        desk.at(now).ask("amy")
        desk.fail("amy")
    assert desk.at(2.5).ask("amy") == ["refuse amy to ann BACKING_OFF 0.5: boom"]
    desk.at(3).idle("amy")
    desk.unload("amy")
    desk.gone("amy")
    assert desk.ask("amy") == ["load amy"]
    assert desk.fail("amy") == ["refuse amy to ann LOAD_FAILED 1: boom"]


def test_a_failure_of_one_model_does_not_hold_up_another() -> None:
    desk = Desk()
    desk.ask("amy")
    desk.fail("amy")
    assert desk.ask("joe") == ["load joe"]


def test_a_burst_of_callers_is_one_attempt() -> None:
    desk = Desk()
    desk.ask("amy", "ann")
    for owner in ("bob", "cal", "dee"):
        desk.ask("amy", owner)
    assert len(desk.fail("amy")) == 4
    assert desk.ask("amy", "ann") == ["refuse amy to ann BACKING_OFF 1: boom"]
    assert (desk.ledger.failed_loads, desk.ledger.loads) == (1, 0)


def test_a_hung_load_keeps_its_room_booked_until_it_has_ended() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    desk.ask("amy", footprint=8)
    desk.warming("amy")
    assert desk.fail("amy", gone=False) == ["refuse amy to ann LOAD_FAILED 1: boom"]
    assert desk.shown() == {"amy": "unloading"}
    assert desk.ledger.capacity.booked["cpu"] == 8
    assert desk.ask("joe", footprint=8) == ["wait for joe until 30"]
    assert desk.at(1).ask("amy", footprint=8) == ["wait for amy until 31"]
    assert desk.overdue("amy") == []
    assert desk.gone("amy") == ["load joe"]


def test_a_hung_load_gives_its_slot_to_the_next_model() -> None:
    desk = Desk(resident_cap=2)
    desk.ask("amy")
    desk.ask("joe")
    assert desk.fail("amy", gone=False)[1:] == ["load joe"]
    assert desk.shown() == {"amy": "unloading", "joe": "loading"}


def test_nobody_counts_on_the_room_of_a_hung_load() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    desk.ask("joe")
    desk.fail("joe", gone=False)
    assert desk.ask("kim") == ["unload amy EVICTED", "wait for kim until 30"]


def test_a_pinned_model_that_fails_gives_its_room_back() -> None:
    desk = Desk(budgets={"cpu": 10})
    desk.pin("amy")
    desk.ask("amy", footprint=8)
    desk.fail("amy")
    assert desk.ask("joe", footprint=10) == ["load joe"]


# Unloads that take too long


def test_an_overdue_unload_keeps_its_room_but_nobody_counts_on_it() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", budgets={"cpu": 10})
    desk.idle("amy", footprint=5)
    desk.at(1).idle("joe", footprint=5)
    assert desk.ask("kim", footprint=5) == ["unload amy EVICTED", "wait for kim until 31"]
    assert desk.overdue("amy") == ["unload joe EVICTED"]
    assert desk.overdue("amy") == []
    assert desk.ledger.capacity.booked["cpu"] == 10
    assert desk.gone("joe") == ["load kim"]
    assert desk.ledger.capacity.booked["cpu"] == 10
    assert desk.gone("amy") == []
    assert desk.ledger.capacity.booked["cpu"] == 5


def test_over_the_soft_cap_an_overdue_unload_holds_up_nobody() -> None:
    desk = Desk(resident_cap=1)
    desk.idle("amy")
    assert desk.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert desk.overdue("amy") == ["load joe"]
    assert desk.shown() == {"amy": "unloading", "joe": "loading"}


def test_an_overdue_unload_counts_as_one_too_many() -> None:
    desk = Desk(resident_cap=1)
    desk.idle("amy")
    desk.ask("joe")
    desk.overdue("amy")
    desk.land("joe")
    assert desk.give("joe") == ["unload joe SURPLUS"]


# The end


def test_close_refuses_everybody_who_waits_and_every_later_request() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("joe", "bob")
    desk.ask("kim", "cal")
    assert desk.close() == [
        "refuse kim to cal SHUTDOWN never",
        "refuse joe to ann SHUTDOWN never",
        "refuse joe to bob SHUTDOWN never",
    ]
    assert desk.ledger.queue.count == 0
    assert desk["joe"].waiters == {}
    assert desk.ask("lou") == ["refuse lou to ann SHUTDOWN never"]
    assert desk.close() == []


def test_after_close_nobody_gets_a_model_that_is_ready_or_lands() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.ask("joe")
    desk.close()
    assert not desk.hit("amy")
    assert desk.ask("amy") == ["refuse amy to ann SHUTDOWN never"]
    assert desk.ask("joe") == ["refuse joe to ann SHUTDOWN never"]
    assert desk.land("joe") == []
    assert not desk.hit("joe")
    assert not desk["joe"].in_use


def test_after_close_a_release_is_always_told() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.hit("amy")
    desk.close()
    desk.tick()
    assert desk.at(1).give("amy") == []
    assert desk.unload("amy") == ["unload amy UNLOADED"]


def test_after_close_holders_may_be_waited_for() -> None:
    desk = Desk()
    desk.hold("amy")
    desk.close()
    assert desk.drain("amy") == []
    assert desk.end_drain("amy") == []
    assert desk.shown() == {"amy": "draining"}
    assert desk.give("amy") == ["unload amy UNLOADED"]


@pytest.mark.parametrize("draining", [False, True])
def test_a_forced_unload_lets_a_model_go_whoever_holds_it(draining: bool) -> None:
    desk = Desk(budgets={"cpu": 10})
    desk.hold("amy", footprint=4)
    desk.speak("amy")
    if draining:
        desk.drain("amy")
    desk.close()
    assert desk.force_unload("amy") == ["unload amy SHUTDOWN"]
    amy = desk["amy"]
    assert desk.at(1).give("amy") is None
    assert desk.hush(amy) == []
    assert desk.due() == math.inf
    assert desk.gone("amy") == []
    assert desk.ledger.capacity.booked["cpu"] == 0
    with pytest.raises(ModelNotResidentError):
        desk.give("amy")
