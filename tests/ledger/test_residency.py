"""The ledger, sentence by sentence: exact decisions at exact times."""

from __future__ import annotations

import math

import pytest

from greenroom.errors import LeaseReleasedError, ModelNotResidentError
from greenroom.ledger.state import Granted, Load, ModelRequest, Reason, State, owners_of
from greenroom.ledger.transitions import LedgerStateError
from tests.ledger.driver import LedgerDriver

# Loading and sharing


def test_a_model_nobody_has_is_loaded_and_its_caller_gets_it() -> None:
    driver = LedgerDriver()
    assert driver.request("amy") == ["load amy"]
    assert driver["amy"].state is State.LOADING
    assert driver.loaded("amy") == ["grant amy to ann"]
    amy = driver["amy"]
    assert (amy.state, amy.refcount) == (State.READY, 1)


def test_concurrent_requests_share_one_load_and_get_a_reference_each() -> None:
    driver = LedgerDriver()
    driver.request("amy", "ann")
    assert driver.request("amy", "bob") == ["join amy"]
    driver.warming("amy", 0.25)
    assert driver["amy"].state is State.WARMING
    assert driver.request("amy", "ann") == ["join amy"]
    assert driver.loaded("amy") == ["grant amy to ann", "grant amy to bob", "grant amy to ann"]
    assert driver["amy"].refcount == 3
    assert driver.ledger.loads == 1


def test_the_instance_that_was_loaded_is_the_one_that_is_handed_out() -> None:
    driver = LedgerDriver()
    ticket, _ = driver.ledger.request(ModelRequest("amy"), "ann", 1.0)
    instance = object()
    (granted,) = driver.ledger.loaded(driver["amy"], instance, 2.0)
    assert granted == Granted(ticket, driver["amy"])
    assert driver["amy"].instance is instance
    hit = driver.ledger.hit("amy", "bob", 3.0)
    assert hit is driver["amy"]


def test_a_hit_takes_a_reference_and_nothing_else_happens() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    assert driver.at(5).hit("amy", "bob")
    assert driver.at(6).hit("amy", "bob")
    assert driver["amy"].references == [("bob", 5.0), ("bob", 6.0)]
    assert driver.ledger.hits == 2


def test_a_ticket_says_who_asked_when_and_how_long_it_may_wait() -> None:
    driver = LedgerDriver(acquire_timeout=30)
    ticket, out = driver.at(7).ledger.request(ModelRequest("amy"), "ann", driver.now)
    assert (ticket.model_id, ticket.owner, ticket.since, ticket.deadline) == ("amy", "ann", 7, 37)
    assert out == [Load(driver["amy"])]
    assert not ticket.granted


@pytest.mark.parametrize("when", ["absent", "loading", "warming", "draining", "unloading"])
def test_only_a_ready_model_is_a_hit(when: str) -> None:
    driver = LedgerDriver()
    if when in ("loading", "warming"):
        driver.request("amy")
        if when == "warming":
            driver.warming("amy")
    elif when != "absent":
        driver.hold("amy")
        driver.begin_unload("amy", drain=True)
        if when == "unloading":
            driver.release("amy")
    assert driver.states().get("amy", "absent") == when
    assert not driver.hit("amy", "bob")
    assert driver.ledger.hits == 0


def test_a_load_says_what_it_measured() -> None:
    driver = LedgerDriver(min_residency=120)
    driver.at(3).request("amy", footprint=10)
    driver.warming("amy", 0.25)
    driver.at(5).loaded("amy", warmup_s=0.5, footprint=12)
    amy = driver["amy"]
    assert (amy.load_s, amy.warmup_s, amy.footprint) == (0.25, 0.5, 12)
    assert (amy.booked_at, amy.ready_at, amy.idle_since, amy.keep_until) == (3, 5, 5, 125)
    assert amy.request == ModelRequest("amy", footprint=10)


def test_a_load_that_measured_nothing_keeps_its_booked_footprint() -> None:
    driver = LedgerDriver()
    driver.request("amy", footprint=10)
    driver.loaded("amy")
    assert (driver["amy"].footprint, driver["amy"].warmup_s) == (10, 0.0)
    assert driver.ledger.capacity.booked["cpu"] == 10


def test_every_life_of_a_model_has_its_own_number_in_order_of_booking() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.idle("joe")
    assert [driver["amy"].number, driver["joe"].number] == [1, 2]
    driver.begin_unload("amy")
    driver.gone("amy")
    driver.idle("amy")
    assert driver["amy"].number == 3


# Giving back


def test_the_last_reference_makes_a_model_idle() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    driver.hit("amy", "ann")
    driver.hit("amy", "bob")
    assert driver.at(1).release("amy", "ann") is None
    assert driver.at(2).release("amy", "bob") is None
    assert driver["amy"].in_use
    assert driver["amy"].idle_since == 0
    assert driver.at(3).release("amy", "ann") == []
    assert not driver["amy"].in_use
    assert driver["amy"].idle_since == 3


def test_a_release_that_changes_nothing_else_says_so() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    assert driver.release("amy") == []
    driver.at(1).hit("amy")
    assert driver.at(2).release("amy") is None
    assert driver["amy"].idle_since == 2


def test_a_reference_given_back_is_the_youngest_of_its_owner() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.at(1).hit("amy")
    driver.at(2).hit("amy")
    driver.release("amy")
    assert driver["amy"].references == [("ann", 1.0)]


def test_an_owner_gives_back_its_references_one_by_one_and_then_holds_none() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    for now in (1, 2):
        driver.at(now).hit("amy", "ann")
    driver.at(3).hit("amy", "bob")
    amy = driver["amy"]
    assert amy.references == [("ann", 0.0), ("ann", 1.0), ("ann", 2.0), ("bob", 3.0)]
    assert amy.refcount == 4
    assert driver.release("amy", "ann") is None
    assert amy.references == [("ann", 0.0), ("ann", 1.0), ("bob", 3.0)]
    for owner in ("ann", "bob", "ann"):
        driver.release("amy", owner)
    assert (amy.refcount, amy.references, amy.repeats) == (0, [], {})
    with pytest.raises(LeaseReleasedError):
        driver.release("amy", "ann")


def test_callers_of_one_owner_that_waited_for_a_load_hold_a_reference_each() -> None:
    driver = LedgerDriver()
    for owner in ("ann", "bob", "ann"):
        driver.request("amy", owner)
    driver.at(4).loaded("amy")
    assert driver["amy"].references == [("ann", 4.0), ("ann", 4.0), ("bob", 4.0)]


def test_more_releases_than_loads_are_an_error_that_changes_nothing() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.hit("amy", "bob")
    with pytest.raises(LeaseReleasedError) as caught:
        driver.release("amy", "ann")
    assert str(caught.value) == (
        "owner 'ann' holds no reference to model 'amy'; release once for every load."
    )
    assert driver["amy"].references == [("bob", 0.0)]


def test_a_caller_without_a_name_that_releases_too_often_is_told_so() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    with pytest.raises(LeaseReleasedError) as caught:
        driver.ledger.release("amy", None, 0.0)
    assert str(caught.value) == (
        "this caller holds no reference to model 'amy'; release once for every load."
    )


def test_a_model_that_is_not_in_memory_cannot_be_given_back() -> None:
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        LedgerDriver().release("amy")


def test_a_model_that_only_loads_cannot_be_given_back() -> None:
    driver = LedgerDriver()
    driver.request("amy")
    with pytest.raises(LeaseReleasedError, match="'ann' holds no reference"):
        driver.release("amy")


def test_owners_without_a_name_show_as_a_dash() -> None:
    driver = LedgerDriver()
    driver.hold("amy", "ann")
    driver.ledger.hit("amy", None, 0.0)
    assert owners_of(driver["amy"]) == ("ann", "-")


# Streams


def test_a_speaking_model_is_in_use_after_its_caller_has_released() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    amy = driver.open_stream("amy")
    assert driver.at(1).release("amy") is None
    assert driver.request("joe") == ["wait for joe until 31"]
    assert driver.at(2).close_stream(amy) == ["unload amy EVICTED"]


def test_idle_time_runs_from_the_end_of_the_last_stream() -> None:
    driver = LedgerDriver(ttl=10)
    driver.hold("amy")
    amy = driver.open_stream("amy")
    driver.open_stream("amy")
    driver.at(1).release("amy")
    assert driver.at(2).close_stream(amy) is None
    assert driver.at(3).close_stream(amy) == []
    assert amy.idle_since == 3
    assert driver.next_due() == 13
    assert driver.at(12.5).tick() == []
    assert driver.at(13).tick() == ["unload amy EXPIRED"]


def test_a_stream_that_ends_while_somebody_holds_the_model_changes_nothing_else() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    amy = driver.open_stream("amy")
    assert driver.at(4).close_stream(amy) is None
    assert amy.idle_since == 0
    assert amy.streams == 0


@pytest.mark.parametrize("state", ["loading", "warming", "unloading"])
def test_only_a_ready_or_draining_model_speaks(state: str) -> None:
    driver = LedgerDriver()
    driver.request("amy")
    if state == "warming":
        driver.warming("amy")
    elif state == "unloading":
        driver.loaded("amy")
        driver.release("amy")
        driver.begin_unload("amy")
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        driver.open_stream("amy")
    assert driver["amy"].streams == 0


def test_a_draining_model_may_still_begin_to_speak() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    driver.begin_unload("amy", drain=True)
    amy = driver.open_stream("amy")
    assert driver.release("amy") is None
    assert driver.close_stream(amy) == ["unload amy UNLOADED"]


def test_a_stream_on_an_earlier_life_of_a_model_is_refused_and_its_end_too() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    first = driver.open_stream("amy")
    driver.close_stream(first)
    driver.force_unload("amy")
    driver.gone("amy")
    driver.idle("amy")
    with pytest.raises(ModelNotResidentError):
        driver.ledger.open_stream(first)
    first.holders.clear()
    first.streams = 1
    with pytest.raises(LedgerStateError, match="this life of it is not in memory"):
        driver.at(9).close_stream(first)
    assert first.idle_since == 0
    assert driver["amy"].streams == 0


def test_no_more_streams_end_than_have_begun() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    amy = driver.open_stream("amy")
    driver.close_stream(amy)
    with pytest.raises(LedgerStateError, match="no stream is open"):
        driver.close_stream(amy)
    assert amy.streams == 0


# Loads in parallel


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_loads_run_at_once_than_allowed(limit: int) -> None:
    driver = LedgerDriver(resident_cap=9, max_parallel_loads=limit)
    out = [driver.request(f"m{number}") for number in range(limit + 1)]
    assert out == [
        *([f"load m{number}"] for number in range(limit)),
        [f"wait for m{limit} until 30"],
    ]
    assert driver.loaded("m0") == ["grant m0 to ann", f"load m{limit}"]


def test_a_model_that_warms_up_still_takes_its_slot() -> None:
    driver = LedgerDriver(resident_cap=9)
    driver.request("amy")
    driver.warming("amy")
    assert driver.request("joe") == ["wait for joe until 30"]
    assert driver.failed("amy")[1:] == ["load joe"]


def test_nobody_is_evicted_before_a_load_slot_is_free() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy")
    driver.request("joe")
    assert driver.request("kim") == ["wait for kim until 30"]
    assert driver.states() == {"amy": "ready", "joe": "loading"}
    assert driver.loaded("joe") == ["grant joe to ann", "unload amy EVICTED"]


def test_several_loads_begin_in_one_step_when_several_slots_are_free() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, resident_cap=9, max_parallel_loads=2)
    driver.idle("amy", footprint=10)
    assert driver.request("joe", footprint=5)[0] == "unload amy EVICTED"
    driver.request("kim", footprint=5)
    assert driver.gone("amy") == ["load joe", "load kim"]


# What is due


def test_an_empty_ledger_has_nothing_due() -> None:
    driver = LedgerDriver()
    assert driver.next_due() == math.inf
    assert driver.tick() == []


def test_what_is_due_first_comes_first() -> None:
    driver = LedgerDriver(
        ttl=30, resident_cap=1, cap_policy="hard", min_residency=20, acquire_timeout=15
    )
    driver.idle("amy")
    assert driver.next_due() == 30
    driver.at(6).request("joe")
    assert driver.next_due() == 20
    driver.at(7).cancel("joe")
    assert driver.next_due() == 30


def test_the_end_of_a_min_residency_is_due_only_when_somebody_needs_the_room() -> None:
    driver = LedgerDriver(ttl=600, min_residency=20, resident_cap=1)
    driver.idle("amy")
    assert driver.next_due() == 600
    driver.at(1).hold("joe")
    assert driver.next_due() == 20


# What can be seen


def test_loads_failures_and_hits_are_counted() -> None:
    driver = LedgerDriver()
    for model_id in ("amy", "joe"):
        driver.request(model_id)
        driver.failed(model_id)
    for model_id in ("kim", "lou", "max"):
        driver.idle(model_id)
        driver.hit(model_id)
    assert (driver.ledger.failed_loads, driver.ledger.loads, driver.ledger.hits) == (2, 3, 3)


def test_repr_shows_who_is_in_memory() -> None:
    driver = LedgerDriver(resident_cap=3)
    assert repr(driver.ledger) == "<Residency 0/3 []>"
    driver.hold("amy", "ann")
    driver.request("joe", "bob")
    driver.hit("amy", "cal")
    assert repr(driver.ledger) == "<Residency 2/3 [amy ready x2, joe loading x0]>"


def test_residents_are_listed_in_order_of_booking() -> None:
    driver = LedgerDriver()
    for model_id in ("kim", "amy", "joe"):
        driver.idle(model_id)
    assert [resident.model_id for resident in driver.ledger.residents] == ["kim", "amy", "joe"]


def test_every_departure_is_counted_by_its_reason() -> None:
    driver = LedgerDriver(ttl=10, resident_cap=2)
    driver.idle("amy")
    driver.idle("joe")
    driver.at(1).request("kim")
    driver.gone("amy")
    driver.loaded("kim")
    driver.hit("joe")
    driver.hold("lou")
    driver.at(2).release("joe")
    driver.gone("joe")
    driver.release("kim")
    driver.at(12).tick()
    driver.gone("kim")
    driver.release("lou")
    driver.begin_unload("lou")
    driver.gone("lou")
    driver.hold("max")
    driver.close()
    driver.force_unload("max")
    assert driver.ledger.departures == {
        Reason.EVICTED: 1,
        Reason.SURPLUS: 1,
        Reason.EXPIRED: 1,
        Reason.UNLOADED: 1,
        Reason.SHUTDOWN: 1,
    }


def test_every_refusal_is_counted_by_its_reason() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", max_waiting=1, budgets={"cpu": 10})
    driver.request("big", footprint=11)
    driver.request("amy", "ann")
    driver.request("amy", "bob")
    driver.failed("amy")
    driver.request("amy")
    driver.at(1).hold("amy")
    driver.request("joe")
    driver.request("kim")
    driver.at(31).tick()
    driver.request("joe")
    driver.pin("amy")
    driver.unpin("amy")
    driver.request("joe")
    driver.release("amy")
    driver.gone("amy")
    driver.request("kim")
    driver.close()
    driver.request("lou")
    assert driver.ledger.refusals == {
        Reason.TOO_BIG: 1,
        Reason.LOAD_FAILED: 2,
        Reason.BACKING_OFF: 1,
        Reason.LINE_FULL: 1,
        Reason.TIMED_OUT: 1,
        Reason.NO_ROOM: 1,
        Reason.SHUTDOWN: 3,
    }
    assert (driver.ledger.loads, driver.ledger.failed_loads, driver.ledger.hits) == (1, 1, 0)
