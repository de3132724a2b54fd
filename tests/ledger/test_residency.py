"""The ledger, sentence by sentence: exact decisions at exact times."""

from __future__ import annotations

import math

import pytest

from greenroom.errors import LeaseReleasedError, ModelNotResidentError
from greenroom.ledger.state import Granted, Load, ModelRequest, Reason, State, owners_of
from tests.ledger.driver import Desk

# Loading and sharing


def test_a_model_nobody_has_is_loaded_and_its_caller_gets_it() -> None:
    desk = Desk()
    assert desk.ask("amy") == ["load amy"]
    assert desk["amy"].state is State.LOADING
    assert desk.land("amy") == ["grant amy to ann"]
    amy = desk["amy"]
    assert (amy.state, amy.refcount) == (State.READY, 1)


def test_concurrent_requests_share_one_load_and_get_a_reference_each() -> None:
    desk = Desk()
    desk.ask("amy", "ann")
    assert desk.ask("amy", "bob") == ["join amy"]
    desk.warming("amy", 0.25)
    assert desk["amy"].state is State.WARMING
    assert desk.ask("amy", "ann") == ["join amy"]
    assert desk.land("amy") == ["grant amy to ann", "grant amy to bob", "grant amy to ann"]
    assert desk["amy"].refcount == 3
    assert desk.ledger.loads == 1


def test_the_instance_that_was_loaded_is_the_one_that_is_handed_out() -> None:
    desk = Desk()
    ticket, _ = desk.ledger.request(ModelRequest("amy"), "ann", 1.0)
    instance = object()
    (granted,) = desk.ledger.loaded(desk["amy"], instance, 2.0)
    assert granted == Granted(ticket, desk["amy"])
    assert desk["amy"].instance is instance
    hit = desk.ledger.hit("amy", "bob", 3.0)
    assert hit is desk["amy"]


def test_a_hit_takes_a_reference_and_nothing_else_happens() -> None:
    desk = Desk()
    desk.idle("amy")
    assert desk.at(5).hit("amy", "bob")
    assert desk.at(6).hit("amy", "bob")
    assert desk["amy"].holders == {"bob": [5.0, 6.0]}
    assert desk.ledger.hits == 2


def test_a_ticket_says_who_asked_when_and_how_long_it_may_wait() -> None:
    desk = Desk(acquire_timeout=30)
    ticket, out = desk.at(7).ledger.request(ModelRequest("amy"), "ann", desk.now)
    assert (ticket.model_id, ticket.owner, ticket.since, ticket.deadline) == ("amy", "ann", 7, 37)
    assert out == [Load(desk["amy"])]
    assert not ticket.granted


@pytest.mark.parametrize("when", ["absent", "loading", "warming", "draining", "unloading"])
def test_only_a_ready_model_is_a_hit(when: str) -> None:
    desk = Desk()
    if when in ("loading", "warming"):
        desk.ask("amy")
        if when == "warming":
            desk.warming("amy")
    elif when != "absent":
        desk.hold("amy")
        desk.drain("amy")
        if when == "unloading":
            desk.give("amy")
    assert desk.shown().get("amy", "absent") == when
    assert not desk.hit("amy", "bob")
    assert desk.ledger.hits == 0


def test_a_load_says_what_it_measured() -> None:
    desk = Desk(min_residency=120)
    desk.at(3).ask("amy", footprint=10)
    desk.warming("amy", 0.25)
    desk.at(5).land("amy", warmup_s=0.5, footprint=12)
    amy = desk["amy"]
    assert (amy.load_s, amy.warmup_s, amy.footprint) == (0.25, 0.5, 12)
    assert (amy.booked_at, amy.ready_at, amy.idle_since, amy.keep_until) == (3, 5, 5, 125)
    assert amy.request == ModelRequest("amy", footprint=10)


def test_a_load_that_measured_nothing_keeps_its_booked_footprint() -> None:
    desk = Desk()
    desk.ask("amy", footprint=10)
    desk.land("amy")
    assert (desk["amy"].footprint, desk["amy"].warmup_s) == (10, 0.0)
    assert desk.ledger.capacity.booked["cpu"] == 10


def test_every_life_of_a_model_has_its_own_number_in_order_of_booking() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.idle("joe")
    assert [desk["amy"].number, desk["joe"].number] == [1, 2]
    desk.unload("amy")
    desk.gone("amy")
    desk.idle("amy")
    assert desk["amy"].number == 3


# Giving back


def test_the_last_reference_makes_a_model_idle() -> None:
    desk = Desk()
    desk.hold("amy")
    desk.hit("amy", "ann")
    desk.hit("amy", "bob")
    assert desk.at(1).give("amy", "ann") is None
    assert desk.at(2).give("amy", "bob") is None
    assert desk["amy"].in_use
    assert desk["amy"].idle_since == 0
    assert desk.at(3).give("amy", "ann") == []
    assert not desk["amy"].in_use
    assert desk["amy"].idle_since == 3


def test_a_release_that_changes_nothing_else_says_so() -> None:
    desk = Desk()
    desk.hold("amy")
    assert desk.give("amy") == []
    desk.at(1).hit("amy")
    assert desk.at(2).give("amy") is None
    assert desk["amy"].idle_since == 2


def test_a_reference_given_back_is_the_youngest_of_its_owner() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.at(1).hit("amy")
    desk.at(2).hit("amy")
    desk.give("amy")
    assert desk["amy"].holders == {"ann": [1.0]}


def test_more_releases_than_loads_are_an_error_that_changes_nothing() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.hit("amy", "bob")
    with pytest.raises(LeaseReleasedError) as caught:
        desk.give("amy", "ann")
    assert str(caught.value) == (
        "owner 'ann' holds no reference to model 'amy'; release once for every load."
    )
    assert desk["amy"].holders == {"bob": [0.0]}


def test_a_caller_without_a_name_that_releases_too_often_is_told_so() -> None:
    desk = Desk()
    desk.idle("amy")
    with pytest.raises(LeaseReleasedError) as caught:
        desk.ledger.release("amy", None, 0.0)
    assert str(caught.value) == (
        "this caller holds no reference to model 'amy'; release once for every load."
    )


def test_a_model_that_is_not_in_memory_cannot_be_given_back() -> None:
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        Desk().give("amy")


def test_a_model_that_only_loads_cannot_be_given_back() -> None:
    desk = Desk()
    desk.ask("amy")
    with pytest.raises(LeaseReleasedError, match="'ann' holds no reference"):
        desk.give("amy")


def test_owners_without_a_name_show_as_a_dash() -> None:
    desk = Desk()
    desk.hold("amy", "ann")
    desk.ledger.hit("amy", None, 0.0)
    assert owners_of(desk["amy"]) == ("ann", "-")


# Streams


def test_a_speaking_model_is_in_use_after_its_caller_has_released() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    amy = desk.speak("amy")
    assert desk.at(1).give("amy") is None
    assert desk.ask("joe") == ["wait for joe until 31"]
    assert desk.at(2).hush(amy) == ["unload amy EVICTED"]


def test_idle_time_runs_from_the_end_of_the_last_stream() -> None:
    desk = Desk(ttl=10)
    desk.hold("amy")
    amy = desk.speak("amy")
    desk.speak("amy")
    desk.at(1).give("amy")
    assert desk.at(2).hush(amy) is None
    assert desk.at(3).hush(amy) == []
    assert amy.idle_since == 3
    assert desk.due() == 13
    assert desk.at(12.5).tick() == []
    assert desk.at(13).tick() == ["unload amy EXPIRED"]


def test_a_stream_that_ends_while_somebody_holds_the_model_changes_nothing_else() -> None:
    desk = Desk()
    desk.hold("amy")
    amy = desk.speak("amy")
    assert desk.at(4).hush(amy) is None
    assert amy.idle_since == 0
    assert amy.streams == 0


@pytest.mark.parametrize("state", ["loading", "warming", "unloading"])
def test_only_a_ready_or_draining_model_speaks(state: str) -> None:
    desk = Desk()
    desk.ask("amy")
    if state == "warming":
        desk.warming("amy")
    elif state == "unloading":
        desk.land("amy")
        desk.give("amy")
        desk.unload("amy")
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        desk.speak("amy")
    assert desk["amy"].streams == 0


def test_a_draining_model_may_still_begin_to_speak() -> None:
    desk = Desk()
    desk.hold("amy")
    desk.drain("amy")
    amy = desk.speak("amy")
    assert desk.give("amy") is None
    assert desk.hush(amy) == ["unload amy UNLOADED"]


def test_a_stream_on_an_earlier_life_of_a_model_is_refused_and_its_end_ignored() -> None:
    desk = Desk()
    desk.hold("amy")
    first = desk.speak("amy")
    desk.force_unload("amy")
    desk.gone("amy")
    desk.idle("amy")
    with pytest.raises(ModelNotResidentError):
        desk.ledger.open_stream(first)
    first.holders.clear()
    assert desk.at(9).hush(first) is None
    assert first.idle_since == 0
    assert desk["amy"].streams == 0


# Loads in parallel


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_loads_run_at_once_than_allowed(limit: int) -> None:
    desk = Desk(resident_cap=9, max_parallel_loads=limit)
    out = [desk.ask(f"m{number}") for number in range(limit + 1)]
    assert out == [
        *([f"load m{number}"] for number in range(limit)),
        [f"wait for m{limit} until 30"],
    ]
    assert desk.land("m0") == ["grant m0 to ann", f"load m{limit}"]


def test_a_model_that_warms_up_still_takes_its_slot() -> None:
    desk = Desk(resident_cap=9)
    desk.ask("amy")
    desk.warming("amy")
    assert desk.ask("joe") == ["wait for joe until 30"]
    assert desk.fail("amy")[1:] == ["load joe"]


def test_nobody_is_evicted_before_a_load_slot_is_free() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    desk.ask("joe")
    assert desk.ask("kim") == ["wait for kim until 30"]
    assert desk.shown() == {"amy": "ready", "joe": "loading"}
    assert desk.land("joe") == ["grant joe to ann", "unload amy EVICTED"]


def test_several_loads_begin_in_one_step_when_several_slots_are_free() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9, max_parallel_loads=2)
    desk.idle("amy", footprint=10)
    assert desk.ask("joe", footprint=5)[0] == "unload amy EVICTED"
    desk.ask("kim", footprint=5)
    assert desk.gone("amy") == ["load joe", "load kim"]


# What is due


def test_an_empty_ledger_has_nothing_due() -> None:
    desk = Desk()
    assert desk.due() == math.inf
    assert desk.tick() == []


def test_what_is_due_first_comes_first() -> None:
    desk = Desk(ttl=30, resident_cap=1, cap_policy="hard", min_residency=20, acquire_timeout=15)
    desk.idle("amy")
    assert desk.due() == 30
    desk.at(6).ask("joe")
    assert desk.due() == 20
    desk.at(7).cancel("joe")
    assert desk.due() == 30


def test_the_end_of_a_min_residency_is_due_only_when_somebody_needs_the_room() -> None:
    desk = Desk(ttl=600, min_residency=20, resident_cap=1)
    desk.idle("amy")
    assert desk.due() == 600
    desk.at(1).hold("joe")
    assert desk.due() == 20


# What can be seen


def test_loads_failures_and_hits_are_counted() -> None:
    desk = Desk()
    for model_id in ("amy", "joe"):
        desk.ask(model_id)
        desk.fail(model_id)
    for model_id in ("kim", "lou", "max"):
        desk.idle(model_id)
        desk.hit(model_id)
    assert (desk.ledger.failed_loads, desk.ledger.loads, desk.ledger.hits) == (2, 3, 3)


def test_repr_shows_who_is_in_memory() -> None:
    desk = Desk(resident_cap=3)
    assert repr(desk.ledger) == "<Residency 0/3 []>"
    desk.hold("amy", "ann")
    desk.ask("joe", "bob")
    desk.hit("amy", "cal")
    assert repr(desk.ledger) == "<Residency 2/3 [amy ready x2, joe loading x0]>"


def test_residents_are_listed_in_order_of_booking() -> None:
    desk = Desk()
    for model_id in ("kim", "amy", "joe"):
        desk.idle(model_id)
    assert [resident.model_id for resident in desk.ledger.residents] == ["kim", "amy", "joe"]


def test_every_departure_is_counted_by_its_reason() -> None:
    desk = Desk(ttl=10, resident_cap=2)
    desk.idle("amy")
    desk.idle("joe")
    desk.at(1).ask("kim")
    desk.gone("amy")
    desk.land("kim")
    desk.hit("joe")
    desk.hold("lou")
    desk.at(2).give("joe")
    desk.gone("joe")
    desk.give("kim")
    desk.at(12).tick()
    desk.gone("kim")
    desk.give("lou")
    desk.unload("lou")
    desk.gone("lou")
    desk.hold("max")
    desk.close()
    desk.force_unload("max")
    assert desk.ledger.departures == {
        Reason.EVICTED: 1,
        Reason.SURPLUS: 1,
        Reason.EXPIRED: 1,
        Reason.UNLOADED: 1,
        Reason.SHUTDOWN: 1,
    }


def test_every_refusal_is_counted_by_its_reason() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", max_waiting=1, budgets={"cpu": 10})
    desk.ask("big", footprint=11)
    desk.ask("amy", "ann")
    desk.ask("amy", "bob")
    desk.fail("amy")
    desk.ask("amy")
    desk.at(1).hold("amy")
    desk.ask("joe")
    desk.ask("kim")
    desk.at(31).tick()
    desk.ask("joe")
    desk.pin("amy")
    desk.unpin("amy")
    desk.ask("joe")
    desk.give("amy")
    desk.gone("amy")
    desk.ask("kim")
    desk.close()
    desk.ask("lou")
    assert desk.ledger.refusals == {
        Reason.TOO_BIG: 1,
        Reason.LOAD_FAILED: 2,
        Reason.BACKING_OFF: 1,
        Reason.LINE_FULL: 1,
        Reason.TIMED_OUT: 1,
        Reason.NO_ROOM: 1,
        Reason.SHUTDOWN: 3,
    }
    assert (desk.ledger.loads, desk.ledger.failed_loads, desk.ledger.hits) == (1, 1, 0)
