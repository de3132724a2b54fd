"""Who may leave and when: use, pins, min residency, time to live."""

from __future__ import annotations

import math

import pytest

from tests.ledger.driver import LedgerDriver

# Who may leave: idle, unpinned, past min residency, least recently used


def test_leased_model_never_makes_room() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    assert driver.request("joe") == ["wait for joe until 30"]
    assert driver.at(29).tick() == []
    assert driver.states() == {"amy": "ready"}


def test_the_least_recently_used_model_makes_room() -> None:
    driver = LedgerDriver(resident_cap=3, cap_policy="hard")
    for model_id in ("amy", "joe", "kim"):
        driver.idle(model_id)
    for now, model_id in ((1, "kim"), (2, "amy"), (3, "joe")):
        driver.at(now).hit(model_id)
        driver.release(model_id)
    assert driver.at(4).request("lou") == ["unload kim EVICTED", "wait for lou until 34"]
    assert driver.gone("kim") == ["load lou"]
    assert driver.request("max") == ["wait for max until 34"]
    driver.loaded("lou")
    assert driver.states() == {
        "amy": "unloading",
        "joe": "ready",
        "lou": "ready",
    }


def test_last_use_is_the_release_not_the_hit() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy")
    driver.idle("joe")
    driver.at(1).hit("amy")
    driver.at(2).hit("joe")
    driver.at(3).release("joe")
    driver.at(4).release("amy")
    assert driver.request("kim")[0] == "unload joe EVICTED"


def test_models_last_used_at_the_same_moment_leave_in_order_of_booking() -> None:
    driver = LedgerDriver(resident_cap=3, cap_policy="hard", max_parallel_loads=3)
    for model_id in ("joe", "amy", "kim"):
        driver.request(model_id)
    for model_id in ("kim", "amy", "joe"):
        driver.loaded(model_id)
    for model_id in ("amy", "kim", "joe"):
        driver.release(model_id)
    driver.request("lou")
    driver.begin_unload("kim")
    assert driver.gone("joe") == ["load lou"]
    assert driver.request("max") == ["wait for max until 30"]
    assert driver.gone("kim") == ["load max"]
    assert driver.states() == {"amy": "ready", "lou": "loading", "max": "loading"}


def test_ties_between_devices_go_to_the_first_booked() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy", device="gpu")
    driver.idle("joe", device="cpu")
    assert driver.request("kim", device="cpu")[0] == "unload amy EVICTED"


def test_the_oldest_use_of_all_devices_makes_room_under_the_cap() -> None:
    driver = LedgerDriver(resident_cap=3, cap_policy="hard")
    driver.idle("amy", device="cpu")
    driver.at(1).idle("joe", device="gpu")
    driver.at(2).hit("amy")
    driver.release("amy")
    driver.idle("kim", device="cpu")
    assert driver.at(3).request("lou", device="cpu")[0] == "unload joe EVICTED"
    assert driver.gone("joe") == ["load lou"]
    driver.loaded("lou")
    assert driver.request("max", device="gpu")[0] == "unload amy EVICTED"


def test_a_model_that_nobody_came_for_counts_as_used_when_it_was_ready() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", max_parallel_loads=2)
    driver.request("joe")
    driver.request("amy")
    driver.cancel("amy")
    driver.at(5).loaded("amy")
    driver.loaded("joe")
    driver.at(6).release("joe")
    assert driver.at(7).request("kim")[0] == "unload amy EVICTED"


def test_a_model_just_loaded_is_held_before_anybody_can_evict_it() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.request("amy")
    driver.request("joe")
    assert driver.loaded("amy") == ["grant amy to ann"]
    assert driver.release("amy") == ["unload amy EVICTED"]


def test_a_model_within_its_min_residency_makes_no_room() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=20)
    driver.idle("amy")
    assert driver.at(5).request("joe") == ["wait for joe until 35"]
    assert driver.next_due() == 20
    assert driver.at(19.5).tick() == []
    assert driver.at(20).tick() == ["unload amy EVICTED"]


def test_under_cap_pressure_the_one_past_its_min_residency_goes_not_the_least_recently_used() -> (
    None
):
    driver = LedgerDriver(resident_cap=2, cap_policy="hard", min_residency=20)
    driver.hold("amy")
    driver.at(5).idle("joe")
    driver.at(20).release("amy")
    assert driver.request("kim")[0] == "unload amy EVICTED"
    assert driver.states()["joe"] == "ready"


def test_a_model_in_use_when_its_min_residency_ends_makes_room_once_it_is_idle() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=20)
    driver.idle("amy")
    driver.at(15).hit("amy")
    driver.request("joe")
    assert driver.at(20).tick() == []
    assert driver.next_due() == 45
    assert driver.at(21).release("amy") == ["unload amy EVICTED"]


def test_a_model_found_in_use_by_a_search_is_found_again_when_it_is_idle() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy")
    driver.at(1).idle("joe")
    driver.at(2).hit("amy")
    assert driver.at(3).request("kim")[0] == "unload joe EVICTED"
    driver.gone("joe")
    driver.loaded("kim")
    assert driver.at(4).release("amy") == []
    assert driver.at(5).request("lou")[0] == "unload amy EVICTED"


def test_a_pinned_model_makes_no_room() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.idle("amy")
    driver.at(1).idle("joe")
    assert driver.pin("amy") == []
    assert driver.at(2).request("kim")[0] == "unload joe EVICTED"
    assert driver.gone("joe") == ["load kim"]
    driver.loaded("kim")
    driver.pin("kim")
    assert driver.request("lou") == ["refuse lou to ann NO_ROOM never"]


def test_an_unpinned_model_makes_room_by_its_last_use() -> None:
    driver = LedgerDriver(resident_cap=2, cap_policy="hard")
    driver.pin("amy")
    driver.idle("amy")
    driver.at(1).idle("joe")
    driver.at(2).unpin("amy")
    assert driver.request("kim")[0] == "unload amy EVICTED"


def test_a_model_unpinned_within_its_min_residency_is_still_kept() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=20)
    driver.pin("amy")
    driver.idle("amy")
    driver.at(1).unpin("amy")
    assert driver.request("joe") == ["wait for joe until 31"]
    assert driver.at(20).tick() == ["unload amy EVICTED"]


def test_a_model_pinned_within_and_unpinned_after_its_min_residency_makes_room() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", min_residency=20)
    driver.idle("amy")
    driver.at(1).pin("amy")
    driver.at(21).unpin("amy")
    assert driver.request("joe") == ["unload amy EVICTED", "wait for joe until 51"]


def test_a_model_unpinned_while_in_use_makes_room_once_it_is_idle() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.pin("amy")
    driver.hold("amy")
    driver.unpin("amy")
    assert driver.request("joe") == ["wait for joe until 30"]
    assert driver.at(1).release("amy") == ["unload amy EVICTED"]


def test_a_model_pinned_while_it_loads_is_pinned_when_it_is_ready() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", ttl=5)
    driver.request("amy")
    driver.pin("amy")
    driver.loaded("amy")
    driver.release("amy")
    assert driver["amy"].pinned
    assert driver.next_due() == math.inf
    assert driver.at(99).tick() == []
    assert driver.request("joe") == ["refuse joe to ann NO_ROOM never"]
    assert driver.unpin("amy") == ["unload amy EXPIRED"]


def test_a_model_unpinned_while_it_loads_may_leave_when_it_is_ready() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.pin("amy")
    driver.request("amy")
    driver.unpin("amy")
    driver.loaded("amy")
    driver.release("amy")
    assert driver.request("joe") == ["unload amy EVICTED", "wait for joe until 30"]


def test_pinning_twice_is_undone_by_unpinning_once() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    driver.idle("amy", footprint=6)
    driver.pin("amy")
    driver.pin("amy")
    driver.unpin("amy")
    assert not driver.ledger.is_pinned("amy")
    driver.unpin("amy")
    assert driver.request("joe", footprint=10) == ["unload amy EVICTED", "wait for joe until 30"]


def test_a_pin_outlives_the_resident() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard")
    driver.pin("amy")
    assert driver.ledger.is_pinned("amy")
    assert not driver.ledger.is_pinned("joe")
    driver.idle("amy")
    assert driver.begin_unload("amy") == ["unload amy UNLOADED"]
    driver.gone("amy")
    assert driver.ledger.is_pinned("amy")
    driver.idle("amy")
    assert driver["amy"].pinned


def test_a_pin_on_a_leaving_model_is_for_its_next_life() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    driver.idle("amy", footprint=8)
    driver.begin_unload("amy")
    driver.pin("amy")
    assert driver.request("joe", footprint=8) == ["wait for joe until 30"]
    assert driver.gone("amy") == ["load joe"]
    driver.loaded("joe")
    driver.release("joe")
    driver.request("amy", footprint=8)
    driver.gone("joe")
    assert driver["amy"].pinned


def test_a_pin_taken_from_a_leaving_model_is_taken_from_its_next_life() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    driver.pin("amy")
    driver.idle("amy", footprint=8)
    driver.begin_unload("amy")
    driver.unpin("amy")
    assert driver.request("amy", footprint=8) == ["wait for amy until 30"]
    assert driver.gone("amy") == ["load amy"]
    assert not driver["amy"].pinned
    driver.loaded("amy")
    driver.release("amy")
    assert driver.request("joe", footprint=8) == ["unload amy EVICTED", "wait for joe until 30"]


# Expiry


def test_a_model_idle_for_its_ttl_expires_and_not_before() -> None:
    driver = LedgerDriver(ttl=10)
    driver.at(1).idle("amy")
    assert driver.next_due() == 11
    assert driver.at(10.5).tick() == []
    assert driver.at(11).tick() == ["unload amy EXPIRED"]
    assert driver.next_due() == math.inf


def test_a_use_puts_expiry_off() -> None:
    driver = LedgerDriver(ttl=10)
    driver.idle("amy")
    driver.at(8).hit("amy")
    driver.at(9).release("amy")
    assert driver.at(10).tick() == []
    assert driver.next_due() == 19
    assert driver.at(19).tick() == ["unload amy EXPIRED"]


def test_a_model_in_use_does_not_expire_and_its_idle_time_starts_at_the_release() -> None:
    driver = LedgerDriver(ttl=10)
    driver.idle("amy")
    driver.at(1).hit("amy")
    assert driver.at(50).tick() == []
    assert driver.next_due() == math.inf
    assert driver.at(60).release("amy") == []
    assert driver.next_due() == 70
    assert driver.at(70).tick() == ["unload amy EXPIRED"]


def test_a_model_that_nobody_came_for_expires_its_ttl_after_it_was_ready() -> None:
    driver = LedgerDriver(ttl=10)
    driver.request("amy")
    driver.cancel("amy")
    driver.at(4).loaded("amy")
    assert driver.next_due() == 14
    assert driver.at(14).tick() == ["unload amy EXPIRED"]


def test_min_residency_outlasts_a_shorter_ttl() -> None:
    driver = LedgerDriver(ttl=10, min_residency=20)
    driver.idle("amy")
    assert driver.next_due() == 20
    assert driver.at(19.5).tick() == []
    assert driver.at(20).tick() == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_on_the_last_release() -> None:
    driver = LedgerDriver(ttl=0)
    driver.hold("amy")
    driver.hit("amy", "bob")
    assert driver.release("amy", "bob") is None
    assert driver.at(1).release("amy") == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_when_min_residency_is_over() -> None:
    driver = LedgerDriver(ttl=0, min_residency=20)
    driver.hold("amy")
    assert driver.at(1).release("amy") == []
    assert driver.next_due() == 20
    assert driver.at(20).tick() == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_a_model_that_nobody_came_for_at_the_next_tick() -> None:
    driver = LedgerDriver(ttl=0)
    driver.request("amy")
    driver.cancel("amy")
    driver.at(3).loaded("amy")
    assert driver.next_due() == 3
    assert driver.tick() == ["unload amy EXPIRED"]


def test_a_negative_ttl_never_expires_but_makes_room() -> None:
    driver = LedgerDriver(ttl=-1, resident_cap=1, cap_policy="hard")
    driver.idle("amy")
    assert driver["amy"].expires_at == math.inf
    assert driver.next_due() == math.inf
    assert driver.at(1e9).tick() == []
    assert driver.request("joe")[0] == "unload amy EVICTED"


@pytest.mark.parametrize(("own", "due"), [(None, 10), (5.0, 5), (0.0, 0), (-1.0, math.inf)])
def test_a_model_may_have_its_own_ttl(own: float | None, due: float) -> None:
    driver = LedgerDriver(ttl=10)
    driver.request("amy", ttl=own)
    driver.cancel("amy")
    driver.loaded("amy")
    assert driver.next_due() == due


def test_pinned_models_do_not_expire_and_unpinning_lets_the_idle_time_count() -> None:
    driver = LedgerDriver(ttl=10)
    driver.idle("amy")
    driver.idle("joe")
    driver.at(1).pin("amy")
    assert driver.at(10).tick() == ["unload joe EXPIRED"]
    assert driver.next_due() == math.inf
    assert driver.at(11).unpin("amy") == ["unload amy EXPIRED"]


def test_a_model_unpinned_in_time_expires_when_it_would_have() -> None:
    driver = LedgerDriver(ttl=10)
    driver.pin("amy")
    driver.idle("amy")
    assert driver.at(4).unpin("amy") == []
    assert driver.next_due() == 10
    assert driver.at(10).tick() == ["unload amy EXPIRED"]


def test_expiring_models_leave_in_the_order_in_which_they_were_due() -> None:
    driver = LedgerDriver(ttl=10)
    driver.idle("amy", ttl=30)
    driver.idle("joe")
    driver.at(2).idle("kim", ttl=7)
    assert driver.at(99).tick() == [
        "unload kim EXPIRED",
        "unload joe EXPIRED",
        "unload amy EXPIRED",
    ]


def test_expiry_makes_room_for_whoever_waits() -> None:
    driver = LedgerDriver(ttl=10, resident_cap=1, cap_policy="hard", min_residency=10)
    driver.idle("amy")
    driver.request("joe")
    assert driver.at(10).tick() == ["unload amy EXPIRED"]
    assert driver.gone("amy") == ["load joe"]
