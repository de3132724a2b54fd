"""Loads that fail, unloads that hang, and the end."""

from __future__ import annotations

import math

import pytest

from greenroom.errors import ModelNotResidentError
from greenroom.ledger.backoff import Failure
from greenroom.ledger.state import Reason, Refused
from greenroom.ledger.transitions import LedgerStateError
from tests.ledger.driver import LedgerDriver

# Failing


def test_a_load_that_fails_leaves_nothing_behind() -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    driver.request("amy", "ann", footprint=9)
    driver.request("amy", "bob", footprint=9)
    amy = driver["amy"]
    refusals = driver.ledger.failed(amy, "no such file", driver.now)
    assert refusals == [
        Refused(driver.tickets["amy", "ann"], Reason.LOAD_FAILED, 1.0, "no such file"),
        Refused(driver.tickets["amy", "bob"], Reason.LOAD_FAILED, 1.0, "no such file"),
    ]
    assert driver.ledger.get("amy") is None
    assert (amy.waiters, amy.holders, amy.instance) == ({}, {}, None)
    assert driver.ledger.capacity.booked["cpu"] == 0
    assert driver.request("joe", footprint=9) == ["load joe"]


def test_a_failed_model_is_left_alone_for_a_growing_while() -> None:
    driver = LedgerDriver(first_retry=1, longest_retry=300)
    waits = []
    for _ in range(12):
        driver.request("amy")
        (refusal,) = driver.failed("amy")
        wait = float(refusal.removeprefix("refuse amy to ann LOAD_FAILED ").removesuffix(": boom"))
        waits.append(wait)
        again = driver.at(driver.now + wait / 4).request("amy")
        assert again == [f"refuse amy to ann BACKING_OFF {wait * 0.75:g}: boom"]
        driver.at(driver.now + wait * 0.75)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_success_resets_the_back_off() -> None:
    driver = LedgerDriver()
    for now in (0, 1):
        driver.at(now).request("amy")
        driver.failed("amy")
    assert driver.at(2.5).request("amy") == ["refuse amy to ann BACKING_OFF 0.5: boom"]
    driver.at(3).idle("amy")
    driver.begin_unload("amy")
    driver.gone("amy")
    assert driver.request("amy") == ["load amy"]
    assert driver.failed("amy") == ["refuse amy to ann LOAD_FAILED 1: boom"]


def test_a_failure_of_one_model_does_not_hold_up_another() -> None:
    driver = LedgerDriver()
    driver.request("amy")
    driver.failed("amy")
    assert driver.request("joe") == ["load joe"]


def test_a_burst_of_callers_is_one_attempt() -> None:
    driver = LedgerDriver()
    driver.request("amy", "ann")
    for owner in ("bob", "cal", "dee"):
        driver.request("amy", owner)
    assert len(driver.failed("amy")) == 4
    assert driver.request("amy", "ann") == ["refuse amy to ann BACKING_OFF 1: boom"]
    assert (driver.ledger.failed_loads, driver.ledger.loads) == (1, 0)


def test_a_hung_load_keeps_its_room_booked_until_it_has_ended() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    driver.request("amy", footprint=8)
    driver.warming("amy")
    assert driver.failed("amy", gone=False) == ["refuse amy to ann LOAD_FAILED 1: boom"]
    assert driver.states() == {"amy": "unloading"}
    assert driver.ledger.capacity.booked["cpu"] == 8
    assert driver.request("joe", footprint=8) == ["wait for joe until 30"]
    assert driver.at(1).request("amy", footprint=8) == ["wait for amy until 31"]
    assert driver.overdue("amy") == []
    assert driver.gone("amy") == ["load joe"]


def test_a_hung_load_gives_its_slot_to_the_next_model() -> None:
    driver = LedgerDriver(resident_cap=2)
    driver.request("amy")
    driver.request("joe")
    assert driver.failed("amy", gone=False)[1:] == ["load joe"]
    assert driver.states() == {"amy": "unloading", "joe": "loading"}


def test_nobody_counts_on_the_room_of_a_hung_load() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy")
    driver.request("joe")
    driver.failed("joe", gone=False)
    assert driver.request("kim") == ["unload amy EVICTED", "wait for kim until 30"]


def test_a_pinned_model_that_fails_gives_its_room_back() -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    driver.pin("amy")
    driver.request("amy", footprint=8)
    driver.failed("amy")
    assert driver.request("joe", footprint=10) == ["load joe"]


# Unloads that take too long


def test_an_overdue_unload_keeps_its_room_but_nobody_counts_on_it() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", budgets={"cpu": 10})
    driver.idle("amy", footprint=5)
    driver.at(1).idle("joe", footprint=5)
    assert driver.request("kim", footprint=5) == ["unload amy EVICTED", "wait for kim until 31"]
    assert driver.overdue("amy") == ["unload joe EVICTED"]
    assert driver.overdue("amy") == []
    assert driver.ledger.capacity.booked["cpu"] == 10
    assert driver.gone("joe") == ["load kim"]
    assert driver.ledger.capacity.booked["cpu"] == 10
    assert driver.gone("amy") == []
    assert driver.ledger.capacity.booked["cpu"] == 5


def test_over_the_soft_cap_an_overdue_unload_holds_up_nobody() -> None:
    driver = LedgerDriver(resident_cap=1)
    driver.idle("amy")
    assert driver.request("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert driver.overdue("amy") == ["load joe"]
    assert driver.states() == {"amy": "unloading", "joe": "loading"}


def test_an_overdue_unload_counts_as_one_too_many() -> None:
    driver = LedgerDriver(resident_cap=1)
    driver.idle("amy")
    driver.request("joe")
    driver.overdue("amy")
    driver.loaded("joe")
    assert driver.release("joe") == ["unload joe SURPLUS"]


# The end


def test_close_refuses_everybody_who_waits_and_every_later_request() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.hold("amy")
    driver.request("joe", "ann")
    driver.request("joe", "bob")
    driver.request("kim", "cal")
    assert driver.close() == [
        "refuse kim to cal SHUTDOWN never",
        "refuse joe to ann SHUTDOWN never",
        "refuse joe to bob SHUTDOWN never",
    ]
    assert driver.ledger.queue.count == 0
    assert driver["joe"].waiters == {}
    assert driver.request("lou") == ["refuse lou to ann SHUTDOWN never"]
    assert driver.close() == []


def test_after_close_nobody_gets_a_model_that_is_ready_or_lands() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.request("joe")
    driver.close()
    assert not driver.hit("amy")
    assert driver.request("amy") == ["refuse amy to ann SHUTDOWN never"]
    assert driver.request("joe") == ["refuse joe to ann SHUTDOWN never"]
    assert driver.loaded("joe") == []
    assert not driver.hit("joe")
    assert not driver["joe"].in_use


def test_after_close_a_release_is_always_told() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.hit("amy")
    driver.close()
    driver.tick()
    assert driver.at(1).release("amy") == []
    assert driver.begin_unload("amy") == ["unload amy UNLOADED"]


def test_after_close_holders_may_be_waited_for() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    driver.close()
    assert driver.begin_unload("amy", drain=True) == []
    assert driver.end_drain("amy") == []
    assert driver.states() == {"amy": "draining"}
    assert driver.release("amy") == ["unload amy UNLOADED"]


@pytest.mark.parametrize("draining", [False, True])
def test_a_forced_unload_lets_a_model_go_whoever_holds_it(draining: bool) -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    driver.hold("amy", footprint=4)
    if draining:
        driver.begin_unload("amy", drain=True)
    driver.close()
    assert driver.force_unload("amy") == ["unload amy SHUTDOWN"]
    assert driver.at(1).release("amy") == []
    assert driver.next_due() == math.inf
    assert driver.gone("amy") == []
    assert driver.ledger.capacity.booked["cpu"] == 0
    with pytest.raises(ModelNotResidentError):
        driver.release("amy")


@pytest.mark.parametrize("draining", [False, True])
def test_not_even_a_forced_unload_begins_while_a_thread_is_inside(draining: bool) -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    driver.hold("amy", footprint=4)
    amy = driver.open_stream("amy")
    if draining:
        driver.begin_unload("amy", drain=True)
    driver.close()
    with pytest.raises(LedgerStateError, match="a thread is inside of it"):
        driver.force_unload("amy")
    assert driver.states() == {"amy": "draining" if draining else "ready"}
    assert driver.ledger.departures == {}
    assert driver.at(1).close_stream(amy) is None
    assert driver.force_unload("amy") == ["unload amy SHUTDOWN"]
    assert driver.gone("amy") == []
    assert driver.ledger.capacity.booked["cpu"] == 0


def test_failures_in_a_row_are_kept_until_a_load_succeeds() -> None:
    driver = LedgerDriver(first_retry=2)
    for now in (0, 2):
        driver.at(now).request("amy")
        driver.failed("amy")
    assert driver.ledger.backoff.get("joe") is None
    assert driver.ledger.backoff.get("amy") == Failure("boom", count=2, retry_at=6)
    driver.at(6).hold("amy")
    assert driver.ledger.backoff.get("amy") is None
