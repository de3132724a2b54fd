"""Engines that crash: the model leaves at once, whoever holds it, and what it was is not owed."""

from __future__ import annotations

import pytest

from greenroom.errors import LeaseReleasedError, ModelNotResidentError
from greenroom.ledger.backoff import CRASH_MEMORY_S, Backoff
from greenroom.ledger.state import Reason
from tests.ledger.driver import LedgerDriver


def test_a_model_whose_engine_crashed_leaves_though_it_is_held_pinned_and_young() -> None:
    driver = LedgerDriver(min_residency=120)
    driver.hold("amy", "ann")
    driver.pin("amy")
    assert driver.crashed("amy") == ["unload amy CRASHED"]
    assert not driver.hit("amy", "bob")
    assert driver.gone("amy") == []
    assert driver.states() == {}
    assert driver.ledger.departures == {Reason.CRASHED: 1}


def test_a_crash_waits_for_the_streams_and_not_for_the_holders() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    driver.open_stream("amy")
    driver.open_stream("amy")
    assert driver.crashed("amy") == []
    assert driver.states() == {"amy": "draining"}
    assert not driver.hit("amy", "bob")
    assert driver.close_stream(driver["amy"]) is None
    assert driver.close_stream(driver["amy"]) == ["unload amy CRASHED"]


def test_a_crash_waits_for_an_upgrade() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    assert driver.begin_upgrade("amy")
    assert driver.crashed("amy") == []
    assert driver.end_upgrade("amy") == ["unload amy CRASHED"]


def test_a_model_that_drains_leaves_for_its_crash_and_the_drain_cannot_be_taken_back() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    driver.open_stream("amy")
    driver.begin_unload("amy", drain=True)
    assert driver.crashed("amy") == []
    assert driver.end_drain("amy") == []
    assert driver.states() == {"amy": "draining"}
    assert driver.close_stream(driver["amy"]) == ["unload amy CRASHED"]


@pytest.mark.parametrize("state", ["loading", "warming", "unloading"])
def test_a_model_on_its_way_in_or_out_is_left_to_the_report_that_ends_that(state: str) -> None:
    driver = LedgerDriver()
    driver.request("amy")
    if state == "warming":
        driver.warming("amy")
    if state == "unloading":
        driver.loaded("amy")
        driver.release("amy")
        driver.begin_unload("amy")
    assert driver.crashed("amy") == []
    assert driver.states() == {"amy": state}


def test_a_caller_that_comes_after_a_crash_gets_a_life_of_its_own() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    driver.crashed("amy")
    assert driver.request("amy", "bob") == ["wait for amy until 30"]
    assert driver.gone("amy") == ["load amy"]
    assert driver.loaded("amy") == ["grant amy to bob"]


def test_references_that_a_crash_took_are_given_back_one_by_one_and_no_more() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    driver.hit("amy", "ann")
    driver.hit("amy", "bob")
    driver.crashed("amy")
    for owner in ("ann", "bob", "ann"):
        assert driver.release("amy", owner) is None
    with pytest.raises(LeaseReleasedError):
        driver.release("amy", "ann")
    driver.gone("amy")
    with pytest.raises(ModelNotResidentError):
        driver.release("amy", "bob")


def test_a_lost_reference_is_given_back_before_one_to_the_next_life() -> None:
    driver = LedgerDriver(ttl=0)
    driver.hold("amy", "ann")
    driver.crashed("amy")
    driver.gone("amy")
    driver.hold("amy", "ann")
    assert driver.release("amy", "ann") is None
    assert driver["amy"].refcount == 1
    assert driver.release("amy", "ann") == ["unload amy EXPIRED"]


def test_a_model_that_nobody_holds_loses_nothing() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.crashed("amy")
    driver.gone("amy")
    with pytest.raises(ModelNotResidentError):
        driver.release("amy", "ann")


def test_room_is_free_for_others_once_a_crashed_model_is_gone() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy", "ann")
    assert driver.request("joe", "bob") == ["wait for joe until 30"]
    assert driver.crashed("amy") == ["unload amy CRASHED"]
    assert driver.gone("amy") == ["load joe"]


def test_after_one_crash_a_model_is_loaded_at_once_and_after_more_it_is_left_alone() -> None:
    driver = LedgerDriver()
    for wait in (None, 1, 2, 4):
        driver.hold("amy", "ann")
        driver.crashed("amy")
        driver.gone("amy")
        if wait is not None:
            refusal = f"refuse amy to ann BACKING_OFF {wait}: boom"
            assert driver.request("amy", "ann") == [refusal]
            driver.at(driver.now + wait)


def test_a_crash_is_forgotten_after_a_minute_or_with_the_model_s_failures() -> None:
    for forget, second in ((False, CRASH_MEMORY_S), (True, 1.0)):
        backoff = Backoff(first=1.0, longest=9.0)
        backoff.crashed("amy", "boom", 0.0)
        if forget:
            backoff.forget("amy")
        backoff.crashed("amy", "boom", second)
        assert backoff.get("amy") is None


def test_crashes_that_are_far_apart_are_forgotten() -> None:
    driver = LedgerDriver()
    for _ in range(4):
        driver.hold("amy", "ann")
        driver.crashed("amy")
        driver.gone("amy")
        driver.at(driver.now + CRASH_MEMORY_S)


@pytest.mark.parametrize(("apart", "again"), [(-0.5, False), (0.0, True)])
def test_crashes_are_in_a_row_when_they_are_less_than_a_minute_apart(
    apart: float, again: bool
) -> None:
    driver = LedgerDriver()
    for now in (0.0, CRASH_MEMORY_S + apart):
        driver.at(now).hold("amy", "ann")
        driver.crashed("amy")
        driver.gone("amy")
    assert driver.request("amy", "bob") == (
        ["load amy"] if again else ["refuse amy to bob BACKING_OFF 1: boom"]
    )


def test_a_load_after_a_minute_without_a_crash_begins_anew() -> None:
    backoff = LedgerDriver().ledger.backoff
    backoff.crashed("amy", "boom", 0.0)
    backoff.crashed("amy", "boom", 1.0)
    backoff.loaded("amy", 1.0 + CRASH_MEMORY_S - 0.5)
    assert backoff.get("amy") is not None
    backoff.loaded("amy", 1.0 + CRASH_MEMORY_S)
    assert backoff.get("amy") is None
    backoff.crashed("amy", "boom", 1.5 + CRASH_MEMORY_S)
    assert backoff.get("amy") is None, "the first of a new row"


def test_a_crash_long_ago_does_not_make_a_good_load_remember_an_old_failure() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    driver.crashed("amy")
    driver.gone("amy")
    driver.at(CRASH_MEMORY_S).hold("amy", "ann")
    assert driver.ledger.backoff.get("amy") is None
