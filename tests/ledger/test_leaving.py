"""Who may leave and when: use, pins, min residency, time to live."""

from __future__ import annotations

import math

import pytest

from tests.ledger.driver import Desk

# Who may leave: idle, unpinned, past min residency, least recently used


def test_leased_model_never_makes_room() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    assert desk.ask("joe") == ["wait for joe until 30"]
    assert desk.at(29).tick() == []
    assert desk.shown() == {"amy": "ready"}


def test_the_least_recently_used_model_makes_room() -> None:
    desk = Desk(resident_cap=3, cap_policy="hard")
    for model_id in ("amy", "joe", "kim"):
        desk.idle(model_id)
    for now, model_id in ((1, "kim"), (2, "amy"), (3, "joe")):
        desk.at(now).hit(model_id)
        desk.give(model_id)
    assert desk.at(4).ask("lou") == ["unload kim EVICTED", "wait for lou until 34"]
    assert desk.gone("kim") == ["load lou"]
    assert desk.ask("max") == ["wait for max until 34"]
    desk.land("lou")
    assert desk.shown() == {
        "amy": "unloading",
        "joe": "ready",
        "lou": "ready",
    }


def test_last_use_is_the_release_not_the_hit() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    desk.idle("joe")
    desk.at(1).hit("amy")
    desk.at(2).hit("joe")
    desk.at(3).give("joe")
    desk.at(4).give("amy")
    assert desk.ask("kim")[0] == "unload joe EVICTED"


def test_models_last_used_at_the_same_moment_leave_in_order_of_booking() -> None:
    desk = Desk(resident_cap=3, cap_policy="hard", max_parallel_loads=3)
    for model_id in ("joe", "amy", "kim"):
        desk.ask(model_id)
    for model_id in ("kim", "amy", "joe"):
        desk.land(model_id)
    for model_id in ("amy", "kim", "joe"):
        desk.give(model_id)
    desk.ask("lou")
    desk.unload("kim")
    assert desk.gone("joe") == ["load lou"]
    assert desk.ask("max") == ["wait for max until 30"]
    assert desk.gone("kim") == ["load max"]
    assert desk.shown() == {"amy": "ready", "lou": "loading", "max": "loading"}


def test_ties_between_devices_go_to_the_first_booked() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy", device="gpu")
    desk.idle("joe", device="cpu")
    assert desk.ask("kim", device="cpu")[0] == "unload amy EVICTED"


def test_the_oldest_use_of_all_devices_makes_room_under_the_cap() -> None:
    desk = Desk(resident_cap=3, cap_policy="hard")
    desk.idle("amy", device="cpu")
    desk.at(1).idle("joe", device="gpu")
    desk.at(2).hit("amy")
    desk.give("amy")
    desk.idle("kim", device="cpu")
    assert desk.at(3).ask("lou", device="cpu")[0] == "unload joe EVICTED"
    assert desk.gone("joe") == ["load lou"]
    desk.land("lou")
    assert desk.ask("max", device="gpu")[0] == "unload amy EVICTED"


def test_a_model_that_nobody_came_for_counts_as_used_when_it_was_ready() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", max_parallel_loads=2)
    desk.ask("joe")
    desk.ask("amy")
    desk.cancel("amy")
    desk.at(5).land("amy")
    desk.land("joe")
    desk.at(6).give("joe")
    assert desk.at(7).ask("kim")[0] == "unload amy EVICTED"


def test_a_model_just_loaded_is_held_before_anybody_can_evict_it() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.ask("amy")
    desk.ask("joe")
    assert desk.land("amy") == ["grant amy to ann"]
    assert desk.give("amy") == ["unload amy EVICTED"]


def test_a_model_within_its_min_residency_makes_no_room() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=20)
    desk.idle("amy")
    assert desk.at(5).ask("joe") == ["wait for joe until 35"]
    assert desk.due() == 20
    assert desk.at(19.5).tick() == []
    assert desk.at(20).tick() == ["unload amy EVICTED"]


def test_under_cap_pressure_the_one_past_its_min_residency_goes_not_the_least_recently_used() -> (
    None
):
    desk = Desk(resident_cap=2, cap_policy="hard", min_residency=20)
    desk.hold("amy")
    desk.at(5).idle("joe")
    desk.at(20).give("amy")
    assert desk.ask("kim")[0] == "unload amy EVICTED"
    assert desk.shown()["joe"] == "ready"


def test_a_model_in_use_when_its_min_residency_ends_makes_room_once_it_is_idle() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=20)
    desk.idle("amy")
    desk.at(15).hit("amy")
    desk.ask("joe")
    assert desk.at(20).tick() == []
    assert desk.due() == 45
    assert desk.at(21).give("amy") == ["unload amy EVICTED"]


def test_a_model_found_in_use_by_a_search_is_found_again_when_it_is_idle() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    desk.at(1).idle("joe")
    desk.at(2).hit("amy")
    assert desk.at(3).ask("kim")[0] == "unload joe EVICTED"
    desk.gone("joe")
    desk.land("kim")
    assert desk.at(4).give("amy") == []
    assert desk.at(5).ask("lou")[0] == "unload amy EVICTED"


def test_a_pinned_model_makes_no_room() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    desk.at(1).idle("joe")
    assert desk.pin("amy") == []
    assert desk.at(2).ask("kim")[0] == "unload joe EVICTED"
    assert desk.gone("joe") == ["load kim"]
    desk.land("kim")
    desk.pin("kim")
    assert desk.ask("lou") == ["refuse lou to ann NO_ROOM never"]


def test_an_unpinned_model_makes_room_by_its_last_use() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.pin("amy")
    desk.idle("amy")
    desk.at(1).idle("joe")
    desk.at(2).unpin("amy")
    assert desk.ask("kim")[0] == "unload amy EVICTED"


def test_a_model_unpinned_within_its_min_residency_is_still_kept() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=20)
    desk.pin("amy")
    desk.idle("amy")
    desk.at(1).unpin("amy")
    assert desk.ask("joe") == ["wait for joe until 31"]
    assert desk.at(20).tick() == ["unload amy EVICTED"]


def test_a_model_pinned_within_and_unpinned_after_its_min_residency_makes_room() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=20)
    desk.idle("amy")
    desk.at(1).pin("amy")
    desk.at(21).unpin("amy")
    assert desk.ask("joe") == ["unload amy EVICTED", "wait for joe until 51"]


def test_a_model_unpinned_while_in_use_makes_room_once_it_is_idle() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.pin("amy")
    desk.hold("amy")
    desk.unpin("amy")
    assert desk.ask("joe") == ["wait for joe until 30"]
    assert desk.at(1).give("amy") == ["unload amy EVICTED"]


def test_a_model_pinned_while_it_loads_is_pinned_when_it_is_ready() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", ttl=5)
    desk.ask("amy")
    desk.pin("amy")
    desk.land("amy")
    desk.give("amy")
    assert desk["amy"].pinned
    assert desk.due() == math.inf
    assert desk.at(99).tick() == []
    assert desk.ask("joe") == ["refuse joe to ann NO_ROOM never"]
    assert desk.unpin("amy") == ["unload amy EXPIRED"]


def test_a_model_unpinned_while_it_loads_may_leave_when_it_is_ready() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.pin("amy")
    desk.ask("amy")
    desk.unpin("amy")
    desk.land("amy")
    desk.give("amy")
    assert desk.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]


def test_pinning_twice_is_undone_by_unpinning_once() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    desk.idle("amy", footprint=6)
    desk.pin("amy")
    desk.pin("amy")
    desk.unpin("amy")
    assert not desk.ledger.is_pinned("amy")
    desk.unpin("amy")
    assert desk.ask("joe", footprint=10) == ["unload amy EVICTED", "wait for joe until 30"]


def test_a_pin_outlives_the_resident() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.pin("amy")
    assert desk.ledger.is_pinned("amy")
    assert not desk.ledger.is_pinned("joe")
    desk.idle("amy")
    assert desk.unload("amy") == ["unload amy UNLOADED"]
    desk.gone("amy")
    assert desk.ledger.is_pinned("amy")
    desk.idle("amy")
    assert desk["amy"].pinned


def test_a_pin_on_a_leaving_model_is_for_its_next_life() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    desk.idle("amy", footprint=8)
    desk.unload("amy")
    desk.pin("amy")
    assert desk.ask("joe", footprint=8) == ["wait for joe until 30"]
    assert desk.gone("amy") == ["load joe"]
    desk.land("joe")
    desk.give("joe")
    desk.ask("amy", footprint=8)
    desk.gone("joe")
    assert desk["amy"].pinned


def test_a_pin_taken_from_a_leaving_model_is_taken_from_its_next_life() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    desk.pin("amy")
    desk.idle("amy", footprint=8)
    desk.unload("amy")
    desk.unpin("amy")
    assert desk.ask("amy", footprint=8) == ["wait for amy until 30"]
    assert desk.gone("amy") == ["load amy"]
    assert not desk["amy"].pinned
    desk.land("amy")
    desk.give("amy")
    assert desk.ask("joe", footprint=8) == ["unload amy EVICTED", "wait for joe until 30"]


# Expiry


def test_a_model_idle_for_its_ttl_expires_and_not_before() -> None:
    desk = Desk(ttl=10)
    desk.at(1).idle("amy")
    assert desk.due() == 11
    assert desk.at(10.5).tick() == []
    assert desk.at(11).tick() == ["unload amy EXPIRED"]
    assert desk.due() == math.inf


def test_a_use_puts_expiry_off() -> None:
    desk = Desk(ttl=10)
    desk.idle("amy")
    desk.at(8).hit("amy")
    desk.at(9).give("amy")
    assert desk.at(10).tick() == []
    assert desk.due() == 19
    assert desk.at(19).tick() == ["unload amy EXPIRED"]


def test_a_model_in_use_does_not_expire_and_its_idle_time_starts_at_the_release() -> None:
    desk = Desk(ttl=10)
    desk.idle("amy")
    desk.at(1).hit("amy")
    assert desk.at(50).tick() == []
    assert desk.due() == math.inf
    assert desk.at(60).give("amy") == []
    assert desk.due() == 70
    assert desk.at(70).tick() == ["unload amy EXPIRED"]


def test_a_model_that_nobody_came_for_expires_its_ttl_after_it_was_ready() -> None:
    desk = Desk(ttl=10)
    desk.ask("amy")
    desk.cancel("amy")
    desk.at(4).land("amy")
    assert desk.due() == 14
    assert desk.at(14).tick() == ["unload amy EXPIRED"]


def test_min_residency_outlasts_a_shorter_ttl() -> None:
    desk = Desk(ttl=10, min_residency=20)
    desk.idle("amy")
    assert desk.due() == 20
    assert desk.at(19.5).tick() == []
    assert desk.at(20).tick() == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_on_the_last_release() -> None:
    desk = Desk(ttl=0)
    desk.hold("amy")
    desk.hit("amy", "bob")
    assert desk.give("amy", "bob") is None
    assert desk.at(1).give("amy") == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_when_min_residency_is_over() -> None:
    desk = Desk(ttl=0, min_residency=20)
    desk.hold("amy")
    assert desk.at(1).give("amy") == []
    assert desk.due() == 20
    assert desk.at(20).tick() == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_a_model_that_nobody_came_for_at_the_next_tick() -> None:
    desk = Desk(ttl=0)
    desk.ask("amy")
    desk.cancel("amy")
    desk.at(3).land("amy")
    assert desk.due() == 3
    assert desk.tick() == ["unload amy EXPIRED"]


def test_a_negative_ttl_never_expires_but_makes_room() -> None:
    desk = Desk(ttl=-1, resident_cap=1, cap_policy="hard")
    desk.idle("amy")
    assert desk["amy"].expires_at == math.inf
    assert desk.due() == math.inf
    assert desk.at(1e9).tick() == []
    assert desk.ask("joe")[0] == "unload amy EVICTED"


@pytest.mark.parametrize(("own", "due"), [(None, 10), (5.0, 5), (0.0, 0), (-1.0, math.inf)])
def test_a_model_may_have_its_own_ttl(own: float | None, due: float) -> None:
    desk = Desk(ttl=10)
    desk.ask("amy", ttl=own)
    desk.cancel("amy")
    desk.land("amy")
    assert desk.due() == due


def test_pinned_models_do_not_expire_and_unpinning_lets_the_idle_time_count() -> None:
    desk = Desk(ttl=10)
    desk.idle("amy")
    desk.idle("joe")
    desk.at(1).pin("amy")
    assert desk.at(10).tick() == ["unload joe EXPIRED"]
    assert desk.due() == math.inf
    assert desk.at(11).unpin("amy") == ["unload amy EXPIRED"]


def test_a_model_unpinned_in_time_expires_when_it_would_have() -> None:
    desk = Desk(ttl=10)
    desk.pin("amy")
    desk.idle("amy")
    assert desk.at(4).unpin("amy") == []
    assert desk.due() == 10
    assert desk.at(10).tick() == ["unload amy EXPIRED"]


def test_expiring_models_leave_in_the_order_in_which_they_were_due() -> None:
    desk = Desk(ttl=10)
    desk.idle("amy", ttl=30)
    desk.idle("joe")
    desk.at(2).idle("kim", ttl=7)
    assert desk.at(99).tick() == [
        "unload kim EXPIRED",
        "unload joe EXPIRED",
        "unload amy EXPIRED",
    ]


def test_expiry_makes_room_for_whoever_waits() -> None:
    desk = Desk(ttl=10, resident_cap=1, cap_policy="hard", min_residency=10)
    desk.idle("amy")
    desk.ask("joe")
    assert desk.at(10).tick() == ["unload amy EXPIRED"]
    assert desk.gone("amy") == ["load joe"]
