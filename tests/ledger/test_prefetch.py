"""Prefetch: a model that a caller is expected for is loaded when nobody minds, and forgotten."""

from __future__ import annotations

import math

from greenroom.ledger.intents import Intent, Intents
from greenroom.ledger.state import ModelRequest, Reason, Unload
from tests.ledger.driver import LedgerDriver


def prefetched(**policy: float) -> LedgerDriver:
    """A ledger of two places, with a model in one that a caller is expected for until 10 s."""
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", **policy)
    assert driver.prefetch("amy") == ["load amy"]
    assert driver.loaded("amy") == []
    return driver


def test_a_model_that_is_expected_is_loaded_and_its_caller_gets_it_at_once() -> None:
    driver = prefetched()
    assert driver.states() == {"amy": "ready"}
    assert driver.at(5).request("amy") == ["grant amy to ann"]
    assert driver.hit("amy", "bob")
    assert driver["amy"].refcount == 2


def test_a_load_says_that_its_caller_is_only_expected() -> None:
    driver = LedgerDriver()
    (load,) = driver.ledger.prefetch(ModelRequest("amy"), 10.0, 0.0)
    assert getattr(load, "reason", None) is Reason.EXPECTED


def test_a_model_that_nobody_came_for_in_time_is_forgotten() -> None:
    driver = prefetched(ttl=-1.0)
    assert driver.next_due() == 10
    assert driver.at(10).tick() == ["unload amy FORGOTTEN"]
    assert driver.ledger.departures == {Reason.FORGOTTEN: 1}


def test_a_model_whose_time_is_over_when_it_is_loaded_leaves_at_once() -> None:
    driver = LedgerDriver()
    driver.prefetch("amy", 3.0)
    assert driver.at(4).loaded("amy") == ["unload amy FORGOTTEN"]


def test_after_its_first_use_a_prefetched_model_is_like_any_other() -> None:
    driver = prefetched(ttl=4.0, min_residency=3.0)
    driver.at(1).request("amy")
    driver.at(2).release("amy")
    assert driver["amy"].keep_until == 4
    assert driver.next_due() == 6
    assert driver.at(6).tick() == ["unload amy EXPIRED"]


def test_its_first_caller_holds_it_since_it_came() -> None:
    driver = prefetched()
    driver.at(5).request("amy")
    assert driver["amy"].holders == {"ann": 5}


def test_a_prefetched_model_yields_to_every_caller_even_within_its_time() -> None:
    driver = prefetched(min_residency=120.0)
    driver.hold("joe")
    assert driver.at(1).request("kim") == ["unload amy EVICTED", "wait for kim until 31"]


def test_a_prefetch_evicts_nobody_in_use_or_within_min_residency() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", min_residency=20.0)
    driver.hold("joe")
    driver.idle("kim")
    assert driver.prefetch("amy", 60.0) == []
    assert driver.at(19).tick() == []
    assert driver.next_due() == 20
    assert driver.at(20).tick() == ["unload kim EVICTED"]
    assert driver.gone("kim") == ["load amy"]


def test_a_model_that_leaves_for_one_that_is_expected_says_so() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.idle("kim")
    kim = driver["kim"]
    (unload,) = driver.ledger.prefetch(ModelRequest("amy"), 10.0, 0.0)
    assert unload == Unload(kim, Reason.EVICTED, "amy", ())
    driver.at(3).gone("kim")
    assert driver["amy"].booked_at == 3


def test_a_prefetch_never_goes_over_a_soft_cap() -> None:
    driver = LedgerDriver(resident_cap=1)
    driver.hold("joe")
    assert driver.prefetch("amy") == []
    assert driver.states() == {"joe": "ready"}
    assert driver.release("joe") == ["unload joe EVICTED"]


def test_a_prefetch_takes_no_place_of_another_that_was_prefetched() -> None:
    driver = prefetched()
    driver.hold("joe")
    assert driver.prefetch("kim") == []
    assert driver.states() == {"amy": "ready", "joe": "ready"}


def test_a_prefetch_waits_while_a_caller_waits_or_a_load_is_under_way() -> None:
    driver = LedgerDriver(resident_cap=9, max_parallel_loads=2)
    driver.request("joe")
    assert driver.prefetch("amy") == []
    assert driver.loaded("joe") == ["grant joe to ann", "load amy"]
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("joe")
    driver.request("kim")
    assert driver.prefetch("amy") == []
    assert driver.release("joe") == ["unload joe EVICTED"]
    assert driver.gone("joe") == ["load kim"]


def test_an_intent_that_found_no_room_in_time_is_forgotten() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("joe")
    driver.prefetch("amy")
    assert driver.next_due() == 10
    assert driver.at(10).tick() == ["forget amy"]
    assert driver.release("joe") == []


def test_a_caller_that_comes_during_the_load_shares_it() -> None:
    driver = LedgerDriver(min_residency=20.0)
    driver.prefetch("amy")
    assert driver.request("amy") == ["join amy"]
    assert driver.loaded("amy") == ["grant amy to ann"]
    assert driver["amy"].keep_until == 20
    assert driver.hit("amy", "bob")


def test_a_caller_that_comes_before_the_load_takes_the_intent_with_it() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("joe")
    driver.prefetch("amy")
    driver.request("amy")
    driver.release("joe")
    assert driver.gone("joe") == ["load amy"]
    assert len(driver.ledger.intents) == 0


def test_a_model_that_failed_is_not_prefetched() -> None:
    driver = LedgerDriver()
    driver.request("amy")
    driver.failed("amy")
    assert driver.prefetch("amy") == ["forget amy"]


def test_one_that_failed_keeps_no_other_from_being_prefetched() -> None:
    driver = LedgerDriver()
    driver.request("amy")
    driver.failed("amy")
    driver.request("joe")
    assert driver.prefetch("amy") == driver.prefetch("kim") == []
    assert driver.loaded("joe") == ["grant joe to ann", "forget amy", "load kim"]


def test_a_prefetch_of_a_model_in_memory_counts_as_a_use() -> None:
    driver = LedgerDriver(ttl=10.0)
    driver.idle("amy")
    assert driver.at(6).prefetch("amy") == []
    assert driver.at(10).tick() == []
    assert driver.at(16).tick() == ["unload amy EXPIRED"]


def test_a_prefetch_that_is_repeated_prolongs_the_time() -> None:
    driver = prefetched()
    driver.at(5).prefetch("amy", 10.0)
    driver.at(6).prefetch("amy", 1.0)
    assert driver.at(14).tick() == []
    assert driver.at(15).tick() == ["unload amy FORGOTTEN"]


def test_a_prefetch_of_a_model_that_leaves_loads_it_afresh() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    driver.begin_unload("amy")
    assert driver.prefetch("amy") == []
    assert driver.gone("amy") == ["load amy"]


def test_a_prefetched_model_can_be_pinned_and_stays_then() -> None:
    driver = prefetched()
    driver.pin("amy")
    assert driver.at(20).tick() == []
    assert driver.unpin("amy") == ["unload amy FORGOTTEN"]


def test_a_drain_that_is_taken_back_makes_a_prefetched_model_like_any_other() -> None:
    driver = prefetched(min_residency=20.0)
    driver.begin_upgrade("amy")
    driver.begin_unload("amy", drain=True)
    driver.at(5).end_drain("amy")
    driver.end_upgrade("amy")
    assert driver["amy"].keep_until == 25
    assert driver.hit("amy")


def test_intents_are_bounded_and_end_with_the_ledger() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", max_waiting=1)
    driver.hold("joe")
    driver.prefetch("amy")
    assert driver.prefetch("kim") == ["forget kim"]
    assert driver.prefetch("amy", 20.0) == []
    assert driver.next_due() == 20
    driver.close()
    assert driver.prefetch("kim") == []
    assert driver.next_due() == math.inf


def test_an_intent_that_was_renewed_ends_once() -> None:
    intents = Intents(2)
    for until in (1.0, 5.0):
        assert intents.add(Intent(ModelRequest("amy"), until))
    assert list(intents.pop_ended(4.0)) == []
    assert list(intents.pop_ended(5.0)) == ["amy"]
    assert (len(intents), intents.next_end()) == (0, math.inf)
