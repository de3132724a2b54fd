"""Unloading by hand: refused while in use, or after the last holder."""

from __future__ import annotations

import math

import pytest

from greenroom.errors import ModelInUseError, ModelNotResidentError
from tests.ledger.driver import LedgerDriver


def test_an_idle_model_is_unloaded_when_asked_even_within_its_min_residency() -> None:
    driver = LedgerDriver(min_residency=120)
    driver.idle("amy")
    assert driver.at(1).begin_unload("amy") == ["unload amy UNLOADED"]
    assert driver.states() == {"amy": "unloading"}
    assert driver.begin_unload("amy") == []


def test_unload_refuses_a_model_in_use_and_changes_nothing() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    driver.open_stream("amy")
    with pytest.raises(ModelInUseError) as caught:
        driver.begin_unload("amy")
    assert (caught.value.model_id, caught.value.owners, caught.value.streams) == (
        "amy",
        ("ann",),
        1,
    )
    assert driver.states() == {"amy": "ready"}
    assert driver.hit("amy")


def test_unload_refuses_a_model_that_only_speaks() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.open_stream("amy")
    with pytest.raises(ModelInUseError, match="speaking"):
        driver.begin_unload("amy")


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("warming", [False, True])
def test_a_loading_model_counts_as_in_use(warming: bool, drain: bool) -> None:
    driver = LedgerDriver()
    driver.request("amy")
    if warming:
        driver.warming("amy")
    before = driver.states()
    with pytest.raises(ModelInUseError, match="'amy'"):
        driver.begin_unload("amy", drain=True) if drain else driver.begin_unload("amy")
    assert driver.states() == before


def test_a_model_that_is_not_in_memory_cannot_be_unloaded() -> None:
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        LedgerDriver().begin_unload("amy")


def test_an_asked_for_unload_makes_room_for_whoever_waits() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", min_residency=20)
    driver.hold("amy")
    driver.idle("joe")
    driver.request("kim")
    assert driver.begin_unload("joe") == ["unload joe UNLOADED"]
    assert driver.gone("joe") == ["load kim"]


def test_a_draining_model_leaves_after_its_last_holder() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    driver.hit("amy", "bob")
    assert driver.begin_unload("amy", drain=True) == []
    assert driver.states() == {"amy": "draining"}
    assert driver.begin_unload("amy", drain=True) == []
    assert driver.at(1).release("amy", "ann") is None
    assert driver.at(2).release("amy", "bob") == ["unload amy UNLOADED"]


def test_a_model_once_watched_by_expiry_still_drains() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.hit("amy")
    driver.begin_unload("amy", drain=True)
    assert driver.at(1).release("amy") == ["unload amy UNLOADED"]


def test_draining_an_idle_model_unloads_it_at_once() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    assert driver.begin_unload("amy", drain=True) == ["unload amy UNLOADED"]


def test_a_drain_ignores_ttl_and_pressure() -> None:
    driver = LedgerDriver(ttl=5, resident_cap=1, cap_policy="hard")
    driver.idle("amy")
    driver.hit("amy")
    driver.begin_unload("amy", drain=True)
    driver.at(1).request("joe")
    assert driver.at(20).tick() == []
    assert driver.release("amy") == ["unload amy UNLOADED"]
    assert driver.gone("amy") == ["load joe"]


def test_a_request_for_a_draining_model_waits_and_then_loads_it_afresh() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    old = driver["amy"]
    driver.begin_unload("amy", drain=True)
    assert driver.request("amy", "bob") == ["wait for amy until 30"]
    assert driver.release("amy", "ann") == ["unload amy UNLOADED"]
    assert driver.request("amy", "cal") == ["wait for amy until 30"]
    assert driver.gone("amy") == ["load amy"]
    assert driver["amy"] is not old
    assert old.instance is None
    assert driver.loaded("amy") == ["grant amy to bob", "grant amy to cal"]


def test_a_request_for_a_leaving_model_waits_at_most_its_time() -> None:
    driver = LedgerDriver(resident_cap=2, acquire_timeout=30)
    driver.hold("amy", "ann")
    driver.begin_unload("amy", drain=True)
    driver.at(5).request("amy", "bob")
    assert driver.next_due() == 35
    assert driver.at(35).tick() == ["refuse amy to bob TIMED_OUT 1"]


def test_a_request_for_a_leaving_model_holds_up_nobody() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.hold("amy")
    driver.begin_unload("amy", drain=True)
    driver.request("amy", "bob")
    assert driver.request("joe") == ["load joe"]


def test_a_request_that_waited_for_its_own_model_keeps_its_arrival() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.hold("amy")
    driver.hold("joe")
    driver.begin_unload("amy", drain=True)
    assert driver.request("amy", "bob") == ["wait for amy until 30"]
    assert driver.request("kim", "cal") == ["wait for kim until 30"]
    driver.release("amy")
    assert driver.gone("amy") == ["load amy"]
    driver.loaded("amy")
    assert driver.ledger.queue.count == 1


def test_a_drain_taken_back_serves_whoever_waited_for_it() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    old = driver["amy"]
    driver.begin_unload("amy", drain=True)
    driver.request("amy", "bob")
    driver.request("amy", "cal")
    assert driver.at(9).end_drain("amy") == ["grant amy to bob", "grant amy to cal"]
    assert driver["amy"] is old
    assert old.references == [("ann", 0.0), ("bob", 9.0), ("cal", 9.0)]
    assert driver.ledger.queue.count == 0
    assert driver.hit("amy", "dee")


def test_a_model_whose_drain_was_taken_back_expires_and_makes_room_as_before() -> None:
    driver = LedgerDriver(ttl=10, resident_cap=1, cap_policy="hard")
    driver.idle("amy")
    driver.hit("amy")
    driver.begin_unload("amy", drain=True)
    assert driver.at(20).tick() == []
    driver.end_drain("amy")
    assert driver.at(21).release("amy") == []
    assert driver.next_due() == 31
    assert driver.request("joe")[0] == "unload amy EVICTED"


def test_there_is_no_drain_to_take_back_of_a_model_that_does_not_drain() -> None:
    driver = LedgerDriver()
    assert driver.end_drain("amy") == []
    driver.idle("amy")
    assert driver.end_drain("amy") == []
    assert driver.states() == {"amy": "ready"}
    driver.begin_unload("amy")
    assert driver.end_drain("amy") == []
    assert driver.states() == {"amy": "unloading"}


def test_a_draining_model_may_make_room_at_any_moment() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=120, acquire_timeout=30)
    driver.hold("amy")
    driver.at(1).begin_unload("amy", drain=True)
    assert driver.at(2).request("joe") == ["wait for joe until 32"]
    assert driver.at(3).release("amy") == ["unload amy UNLOADED"]
    assert driver.gone("amy") == ["load joe"]


def test_a_pinned_model_that_drains_may_make_room_at_any_moment() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    driver.pin("amy")
    driver.hold("amy", footprint=10)
    driver.begin_unload("amy", drain=True)
    assert driver.request("joe", footprint=10) == ["wait for joe until 30"]
    assert driver.release("amy") == ["unload amy UNLOADED"]
    assert driver.gone("amy") == ["load joe"]


def test_nobody_counts_on_the_room_of_a_draining_model_before_it_leaves() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy")
    driver.hold("joe")
    driver.begin_unload("joe", drain=True)
    assert driver.request("kim") == ["unload amy EVICTED", "wait for kim until 30"]


def test_a_drain_taken_back_leaves_no_room_for_those_who_waited_for_it() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=120)
    driver.hold("amy")
    driver.at(1).begin_unload("amy", drain=True)
    driver.request("joe")
    assert driver.at(2).end_drain("amy") == ["refuse joe to ann NO_ROOM 118"]
    assert driver.at(3).request("kim") == ["refuse kim to ann NO_ROOM 117"]


def test_min_residency_binds_again_when_a_drain_is_taken_back() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=20)
    driver.hold("amy")
    driver.at(1).begin_unload("amy", drain=True)
    driver.pin("amy")
    driver.unpin("amy")
    driver.end_drain("amy")
    driver.at(2).release("amy")
    assert driver.request("joe") == ["wait for joe until 32"]
    assert driver.next_due() == 20
    assert driver.at(20).tick() == ["unload amy EVICTED"]


@pytest.mark.parametrize("pinned_before", [False, True])
@pytest.mark.parametrize("pinned_after", [False, True])
def test_a_drain_taken_back_finds_the_pin_as_it_is_by_then(
    pinned_before: bool, pinned_after: bool
) -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    if pinned_before:
        driver.pin("amy")
    driver.idle("amy", footprint=6)
    driver.hit("amy")
    driver.begin_unload("amy", drain=True)
    driver.pin("amy") if pinned_after else driver.unpin("amy")
    driver.end_drain("amy")
    assert driver["amy"].pinned is pinned_after
    driver.release("amy")
    assert driver.next_due() == (math.inf if pinned_after else 600)
    assert driver.request("joe", footprint=6) == (
        ["refuse joe to ann NO_ROOM never"]
        if pinned_after
        else ["unload amy EVICTED", "wait for joe until 30"]
    )
