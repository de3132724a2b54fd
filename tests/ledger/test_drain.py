"""Unloading by hand: refused while in use, or after the last holder."""

from __future__ import annotations

import math

import pytest

from greenroom.errors import ModelInUseError, ModelNotResidentError
from tests.ledger.driver import Desk


def test_an_idle_model_is_unloaded_when_asked_even_within_its_min_residency() -> None:
    desk = Desk(min_residency=120)
    desk.idle("amy")
    assert desk.at(1).unload("amy") == ["unload amy UNLOADED"]
    assert desk.shown() == {"amy": "unloading"}
    assert desk.unload("amy") == []


def test_unload_refuses_a_model_in_use_and_changes_nothing() -> None:
    desk = Desk()
    desk.hold("amy", "ann")
    desk.speak("amy")
    with pytest.raises(ModelInUseError) as caught:
        desk.unload("amy")
    assert (caught.value.model_id, caught.value.owners, caught.value.streams) == (
        "amy",
        ("ann",),
        1,
    )
    assert desk.shown() == {"amy": "ready"}
    assert desk.hit("amy")


def test_unload_refuses_a_model_that_only_speaks() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.speak("amy")
    with pytest.raises(ModelInUseError, match="speaking"):
        desk.unload("amy")


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("warming", [False, True])
def test_a_loading_model_counts_as_in_use(warming: bool, drain: bool) -> None:
    desk = Desk()
    desk.ask("amy")
    if warming:
        desk.warming("amy")
    before = desk.shown()
    with pytest.raises(ModelInUseError, match="'amy'"):
        desk.drain("amy") if drain else desk.unload("amy")
    assert desk.shown() == before


def test_a_model_that_is_not_in_memory_cannot_be_unloaded() -> None:
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        Desk().unload("amy")


def test_an_asked_for_unload_makes_room_for_whoever_waits() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", min_residency=20)
    desk.hold("amy")
    desk.idle("joe")
    desk.ask("kim")
    assert desk.unload("joe") == ["unload joe UNLOADED"]
    assert desk.gone("joe") == ["load kim"]


def test_a_draining_model_leaves_after_its_last_holder() -> None:
    desk = Desk()
    desk.hold("amy", "ann")
    desk.hit("amy", "bob")
    assert desk.drain("amy") == []
    assert desk.shown() == {"amy": "draining"}
    assert desk.drain("amy") == []
    assert desk.at(1).give("amy", "ann") is None
    assert desk.at(2).give("amy", "bob") == ["unload amy UNLOADED"]


def test_a_model_once_watched_by_expiry_still_drains() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.hit("amy")
    desk.drain("amy")
    assert desk.at(1).give("amy") == ["unload amy UNLOADED"]


def test_draining_an_idle_model_unloads_it_at_once() -> None:
    desk = Desk()
    desk.idle("amy")
    assert desk.drain("amy") == ["unload amy UNLOADED"]


def test_a_drain_ignores_ttl_and_pressure() -> None:
    desk = Desk(ttl=5, resident_cap=1, cap_policy="hard")
    desk.idle("amy")
    desk.hit("amy")
    desk.drain("amy")
    desk.at(1).ask("joe")
    assert desk.at(20).tick() == []
    assert desk.give("amy") == ["unload amy UNLOADED"]
    assert desk.gone("amy") == ["load joe"]


def test_a_request_for_a_draining_model_waits_and_then_loads_it_afresh() -> None:
    desk = Desk()
    desk.hold("amy", "ann")
    old = desk["amy"]
    desk.drain("amy")
    assert desk.ask("amy", "bob") == ["wait for amy until 30"]
    assert desk.give("amy", "ann") == ["unload amy UNLOADED"]
    assert desk.ask("amy", "cal") == ["wait for amy until 30"]
    assert desk.gone("amy") == ["load amy"]
    assert desk["amy"] is not old
    assert old.instance is None
    assert desk.land("amy") == ["grant amy to bob", "grant amy to cal"]


def test_a_request_for_a_leaving_model_waits_at_most_its_time() -> None:
    desk = Desk(resident_cap=2, acquire_timeout=30)
    desk.hold("amy", "ann")
    desk.drain("amy")
    desk.at(5).ask("amy", "bob")
    assert desk.due() == 35
    assert desk.at(35).tick() == ["refuse amy to bob TIMED_OUT 1"]


def test_a_request_for_a_leaving_model_holds_up_nobody() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.hold("amy")
    desk.drain("amy")
    desk.ask("amy", "bob")
    assert desk.ask("joe") == ["load joe"]


def test_a_request_that_waited_for_its_own_model_keeps_its_arrival() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.hold("amy")
    desk.hold("joe")
    desk.drain("amy")
    assert desk.ask("amy", "bob") == ["wait for amy until 30"]
    assert desk.ask("kim", "cal") == ["wait for kim until 30"]
    desk.give("amy")
    assert desk.gone("amy") == ["load amy"]
    desk.land("amy")
    assert desk.ledger.queue.count == 1


def test_a_drain_taken_back_serves_whoever_waited_for_it() -> None:
    desk = Desk()
    desk.hold("amy", "ann")
    old = desk["amy"]
    desk.drain("amy")
    desk.ask("amy", "bob")
    desk.ask("amy", "cal")
    assert desk.at(9).end_drain("amy") == ["grant amy to bob", "grant amy to cal"]
    assert desk["amy"] is old
    assert old.holders == {"ann": [0.0], "bob": [9.0], "cal": [9.0]}
    assert desk.ledger.queue.count == 0
    assert desk.hit("amy", "dee")


def test_a_model_whose_drain_was_taken_back_expires_and_makes_room_as_before() -> None:
    desk = Desk(ttl=10, resident_cap=1, cap_policy="hard")
    desk.idle("amy")
    desk.hit("amy")
    desk.drain("amy")
    assert desk.at(20).tick() == []
    desk.end_drain("amy")
    assert desk.at(21).give("amy") == []
    assert desk.due() == 31
    assert desk.ask("joe")[0] == "unload amy EVICTED"


def test_there_is_no_drain_to_take_back_of_a_model_that_does_not_drain() -> None:
    desk = Desk()
    assert desk.end_drain("amy") == []
    desk.idle("amy")
    assert desk.end_drain("amy") == []
    assert desk.shown() == {"amy": "ready"}
    desk.unload("amy")
    assert desk.end_drain("amy") == []
    assert desk.shown() == {"amy": "unloading"}


def test_a_draining_model_may_make_room_at_any_moment() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=120, acquire_timeout=30)
    desk.hold("amy")
    desk.at(1).drain("amy")
    assert desk.at(2).ask("joe") == ["wait for joe until 32"]
    assert desk.at(3).give("amy") == ["unload amy UNLOADED"]
    assert desk.gone("amy") == ["load joe"]


def test_a_pinned_model_that_drains_may_make_room_at_any_moment() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    desk.pin("amy")
    desk.hold("amy", footprint=10)
    desk.drain("amy")
    assert desk.ask("joe", footprint=10) == ["wait for joe until 30"]
    assert desk.give("amy") == ["unload amy UNLOADED"]
    assert desk.gone("amy") == ["load joe"]


def test_nobody_counts_on_the_room_of_a_draining_model_before_it_leaves() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    desk.hold("joe")
    desk.drain("joe")
    assert desk.ask("kim") == ["unload amy EVICTED", "wait for kim until 30"]


def test_a_drain_taken_back_leaves_no_room_for_those_who_waited_for_it() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=120)
    desk.hold("amy")
    desk.at(1).drain("amy")
    desk.ask("joe")
    assert desk.at(2).end_drain("amy") == ["refuse joe to ann NO_ROOM 118"]
    assert desk.at(3).ask("kim") == ["refuse kim to ann NO_ROOM 117"]


def test_min_residency_binds_again_when_a_drain_is_taken_back() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=20)
    desk.hold("amy")
    desk.at(1).drain("amy")
    desk.pin("amy")
    desk.unpin("amy")
    desk.end_drain("amy")
    desk.at(2).give("amy")
    assert desk.ask("joe") == ["wait for joe until 32"]
    assert desk.due() == 20
    assert desk.at(20).tick() == ["unload amy EVICTED"]


@pytest.mark.parametrize("pinned_before", [False, True])
@pytest.mark.parametrize("pinned_after", [False, True])
def test_a_drain_taken_back_finds_the_pin_as_it_is_by_then(
    pinned_before: bool, pinned_after: bool
) -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    if pinned_before:
        desk.pin("amy")
    desk.idle("amy", footprint=6)
    desk.hit("amy")
    desk.drain("amy")
    desk.pin("amy") if pinned_after else desk.unpin("amy")
    desk.end_drain("amy")
    assert desk["amy"].pinned is pinned_after
    desk.give("amy")
    assert desk.due() == (math.inf if pinned_after else 600)
    assert desk.ask("joe", footprint=6) == (
        ["refuse joe to ann NO_ROOM never"]
        if pinned_after
        else ["unload amy EVICTED", "wait for joe until 30"]
    )
