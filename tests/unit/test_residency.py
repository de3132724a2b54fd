"""The ledger's sentences, one by one: exact decisions, exact times."""

from __future__ import annotations

import math
from typing import Any

import pytest

from greenroom.errors import LeaseReleasedError, ModelInUseError, ModelNotResidentError
from greenroom.residency import Residency
from greenroom.residents import (
    Decision,
    Demand,
    Granted,
    Joined,
    Load,
    Policy,
    Reason,
    Refused,
    Resident,
    State,
    Ticket,
    Unload,
    Wait,
    owners_of,
)


def told(decision: Decision) -> str:
    """Write a decision down in a line, every value of it that matters."""
    match decision:
        case Load(resident):
            return f"load {resident.model_id}"
        case Unload(resident, reason):
            return f"unload {resident.model_id} {reason.name}"
        case Granted(ticket, resident):
            assert ticket.granted
            return f"grant {resident.model_id} to {ticket.owner}"
        case Joined(ticket):
            return f"join {ticket.model_id}"
        case Wait(ticket, until):
            return f"wait for {ticket.model_id} until {until:g}"
        case Refused(ticket, reason, retry_after, problem):
            again = "never" if retry_after is None else f"{retry_after:g}"
            because = f": {problem}" if problem else ""
            return f"refuse {ticket.model_id} to {ticket.owner} {reason.name} {again}{because}"


class Desk:
    """A ledger, a clock, and a shell that reports only what a test tells it to."""

    def __init__(self, *, min_residency: float = 0.0, **policy: Any) -> None:
        self.ledger = Residency(Policy(min_residency=min_residency, **policy))
        self.now = 0.0
        self.tickets: dict[tuple[str, str], Ticket] = {}

    def __getitem__(self, model_id: str) -> Resident:
        resident = self.ledger.get(model_id)
        assert resident is not None, f"{model_id} is not in memory"
        return resident

    def at(self, now: float) -> Desk:
        self.now = now
        return self

    def ask(self, model_id: str, owner: str = "ann", **demand: Any) -> list[str]:
        ticket, out = self.ledger.request(Demand(model_id, **demand), owner, self.now)
        self.tickets[model_id, owner] = ticket
        return self._told(out)

    def hit(self, model_id: str, owner: str = "ann") -> bool:
        return self.ledger.hit(model_id, owner, self.now) is not None

    def give(self, model_id: str, owner: str = "ann") -> list[str] | None:
        out = self.ledger.release(model_id, owner, self.now)
        return None if out is None else self._told(out)

    def cancel(self, model_id: str, owner: str = "ann") -> list[str]:
        return self._told(self.ledger.cancel(self.tickets[model_id, owner], self.now))

    def speak(self, model_id: str) -> Resident:
        self.ledger.open_stream(self[model_id])
        return self[model_id]

    def hush(self, resident: Resident) -> list[str] | None:
        out = self.ledger.close_stream(resident, self.now)
        return None if out is None else self._told(out)

    def warming(self, model_id: str, load_s: float = 0.0) -> None:
        self.ledger.warming(self[model_id], load_s)

    def land(self, model_id: str, **facts: Any) -> list[str]:
        return self._told(self.ledger.loaded(self[model_id], object(), self.now, **facts))

    def fail(self, model_id: str, *, gone: bool = True) -> list[str]:
        return self._told(self.ledger.failed(self[model_id], "boom", self.now, gone=gone))

    def gone(self, model_id: str) -> list[str]:
        return self._told(self.ledger.gone(self[model_id], self.now))

    def overdue(self, model_id: str) -> list[str]:
        return self._told(self.ledger.overdue(self[model_id], self.now))

    def pin(self, model_id: str) -> list[str]:
        return self._told(self.ledger.pin(model_id, self.now))

    def unpin(self, model_id: str) -> list[str]:
        return self._told(self.ledger.unpin(model_id, self.now))

    def unload(self, model_id: str) -> list[str]:
        return self._told(self.ledger.begin_unload(model_id, self.now, drain=False))

    def drain(self, model_id: str) -> list[str]:
        return self._told(self.ledger.begin_unload(model_id, self.now, drain=True))

    def end_drain(self, model_id: str) -> list[str]:
        return self._told(self.ledger.end_drain(model_id, self.now))

    def close(self) -> list[str]:
        return self._told(self.ledger.close())

    def expel(self, model_id: str) -> list[str]:
        return self._told(self.ledger.expel(model_id))

    def tick(self) -> list[str]:
        return self._told(self.ledger.tick(self.now))

    def due(self) -> float:
        return self.ledger.next_due()

    def hold(self, model_id: str, owner: str = "ann", **demand: Any) -> None:
        """Have `owner` hold a model that there is room for."""
        assert self.ask(model_id, owner, **demand) == [f"load {model_id}"]
        assert self.land(model_id) == [f"grant {model_id} to {owner}"]

    def idle(self, model_id: str, **demand: Any) -> None:
        """Have a model in memory, last used now."""
        self.hold(model_id, **demand)
        assert not self.give(model_id)

    def shown(self) -> dict[str, str]:
        """Return the state of every model in memory."""
        return {resident.model_id: str(resident.state) for resident in self.ledger.residents}

    def _told(self, out: list[Decision]) -> list[str]:
        return [told(decision) for decision in out]


# Loading and sharing


def test_a_model_nobody_has_is_loaded_and_its_caller_gets_it() -> None:
    desk = Desk()
    assert desk.ask("amy") == ["load amy"]
    assert desk["amy"].state is State.LOADING
    assert desk.land("amy") == ["grant amy to ann"]
    assert desk["amy"].state is State.READY
    assert desk["amy"].refcount == 1


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
    ticket, _ = desk.ledger.request(Demand("amy"), "ann", 1.0)
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
    ticket, out = desk.at(7).ledger.request(Demand("amy"), "ann", desk.now)
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
    assert amy.demand == Demand("amy", footprint=10)


def test_a_load_that_measured_nothing_keeps_its_booked_footprint() -> None:
    desk = Desk()
    desk.ask("amy", footprint=10)
    desk.land("amy")
    assert (desk["amy"].footprint, desk["amy"].warmup_s) == (10, 0.0)
    assert desk.ledger.room.booked["cpu"] == 10


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
    desk.expel("amy")
    desk.gone("amy")
    desk.idle("amy")
    with pytest.raises(ModelNotResidentError):
        desk.ledger.open_stream(first)
    first.holders.clear()
    assert desk.at(9).hush(first) is None
    assert first.idle_since == 0
    assert desk["amy"].streams == 0


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


# The cap


def test_the_hard_cap_is_never_exceeded() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", max_parallel_loads=3)
    desk.hold("amy")
    assert desk.ask("joe") == ["load joe"]
    assert desk.ask("kim") == ["wait for kim until 30"]
    assert desk.shown() == {"amy": "ready", "joe": "loading"}


def test_a_leaving_model_counts_until_it_is_gone() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.idle("amy")
    assert desk.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert desk.at(1).tick() == []
    assert desk.gone("amy") == ["load joe"]


def test_nobody_is_evicted_twice_for_one_need() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    desk.at(1).idle("joe")
    assert desk.ask("kim") == ["unload amy EVICTED", "wait for kim until 31"]
    assert desk.ask("lou") == ["wait for lou until 31"]
    assert desk.tick() == []
    assert desk.shown()["joe"] == "ready"


def test_below_the_cap_nobody_has_to_leave() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard")
    desk.idle("amy")
    assert desk.ask("joe") == ["load joe"]


def test_the_soft_cap_evicts_before_it_gives_way() -> None:
    desk = Desk(resident_cap=1)
    desk.idle("amy")
    assert desk.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert desk.gone("amy") == ["load joe"]


def test_the_soft_cap_gives_way_when_nobody_may_leave() -> None:
    desk = Desk(resident_cap=1)
    desk.hold("amy")
    assert desk.ask("joe") == ["load joe"]
    assert desk.land("joe") == ["grant joe to ann"]
    assert desk.shown() == {"amy": "ready", "joe": "ready"}


def test_the_soft_cap_gives_way_when_pinned_models_fill_it() -> None:
    desk = Desk(resident_cap=1)
    desk.pin("amy")
    desk.idle("amy")
    desk.hold("joe")
    assert desk.give("joe") == ["unload joe SURPLUS"]


def test_the_surplus_leaves_oldest_use_first_once_it_is_idle() -> None:
    desk = Desk(resident_cap=1)
    for model_id in ("amy", "joe", "kim"):
        desk.hold(model_id)
    assert desk.at(1).give("joe") == ["unload joe SURPLUS"]
    assert desk.at(2).give("kim") == ["unload kim SURPLUS"]
    assert desk.at(3).give("amy") == []


def test_the_surplus_leaves_when_min_residency_ends_and_the_ledger_says_when() -> None:
    desk = Desk(resident_cap=1, min_residency=20, ttl=600)
    desk.idle("amy")
    desk.at(5).idle("joe")
    desk.at(6).hit("amy")
    desk.at(7).give("amy")
    assert desk.due() == 20
    assert desk.at(20).tick() == ["unload amy SURPLUS"]
    assert desk.due() == 605


def test_only_as_many_leave_as_are_too_many() -> None:
    desk = Desk(resident_cap=2)
    for model_id in ("amy", "joe", "kim", "lou"):
        desk.hold(model_id)
    assert desk.at(1).give("amy") == ["unload amy SURPLUS"]
    assert desk.at(2).give("joe") == ["unload joe SURPLUS"]
    assert desk.at(3).give("kim") == []


def test_over_the_soft_cap_a_newcomer_waits_for_those_who_leave() -> None:
    desk = Desk(resident_cap=1)
    desk.hold("amy")
    desk.hold("joe")
    assert desk.give("joe") == ["unload joe SURPLUS"]
    assert desk.ask("kim") == ["wait for kim until 30"]
    assert desk.gone("joe") == ["load kim"]


def test_one_leaving_model_is_enough_for_one_newcomer_at_the_cap() -> None:
    desk = Desk(resident_cap=2)
    desk.idle("amy")
    desk.idle("joe")
    desk.unload("amy")
    assert desk.ask("kim") == ["wait for kim until 30"]
    assert desk.shown()["joe"] == "ready"


def test_surplus_counts_those_who_leave_as_gone() -> None:
    desk = Desk(resident_cap=1, max_parallel_loads=2)
    desk.idle("amy")
    desk.ask("joe")
    assert desk.shown() == {"amy": "unloading"}
    desk.gone("amy")
    assert desk.land("joe") == ["grant joe to ann"]
    assert desk.give("joe") == []


# The memory budget


def test_the_memory_budget_is_never_exceeded() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=5)
    assert desk.ask("joe", footprint=6) == ["unload amy EVICTED", "wait for joe until 30"]
    assert desk.gone("amy") == ["load joe"]
    assert desk.ledger.room.booked["cpu"] == 6


def test_a_model_that_just_fits_the_budget_is_loaded() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=5)
    assert desk.ask("joe", footprint=5) == ["load joe"]


def test_the_soft_cap_does_not_soften_the_budget() -> None:
    desk = Desk(budgets={"cpu": 10})
    desk.hold("amy", footprint=6)
    assert desk.ask("joe", footprint=6) == ["wait for joe until 30"]
    assert desk.at(1).give("amy") == ["unload amy EVICTED"]


def test_as_many_leave_as_the_missing_bytes_need_and_no_more() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    for now, model_id in enumerate(("amy", "joe", "kim")):
        desk.at(now).idle(model_id, footprint=3)
    assert desk.at(3).ask("lou", footprint=7) == [
        "unload amy EVICTED",
        "unload joe EVICTED",
        "wait for lou until 33",
    ]
    assert desk.gone("joe") == []
    assert desk.gone("amy") == ["load lou"]


def test_nobody_is_evicted_in_vain() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=3)
    desk.hold("joe", footprint=6)
    assert desk.at(1).ask("kim", footprint=8) == ["wait for kim until 31"]
    assert desk.shown() == {"amy": "ready", "joe": "ready"}
    assert desk.at(2).give("joe") == ["unload amy EVICTED", "unload joe EVICTED"]


def test_under_a_hard_cap_nobody_is_evicted_in_vain() -> None:
    desk = Desk(budgets={"cpu": 20}, resident_cap=2, cap_policy="hard")
    desk.idle("amy", footprint=3, device="gpu")
    desk.hold("joe", footprint=15)
    assert desk.ask("kim", footprint=6) == ["wait for kim until 30"]
    assert desk.shown() == {"amy": "ready", "joe": "ready"}


def test_bytes_come_from_the_same_device_only() -> None:
    desk = Desk(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=8, device="gpu")
    desk.at(1).idle("joe", footprint=8, device="cpu")
    assert desk.ask("kim", footprint=8, device="cpu") == [
        "unload joe EVICTED",
        "wait for kim until 31",
    ]
    assert desk.shown()["amy"] == "ready"


def test_each_device_has_its_own_budget() -> None:
    desk = Desk(budgets={"cpu": 10, "gpu": 5}, resident_cap=9)
    desk.hold("amy", footprint=8, device="cpu")
    desk.hold("joe", footprint=5, device="gpu")
    assert desk.ask("kim", footprint=3, device="gpu") == ["wait for kim until 30"]
    assert desk.ask("lou", footprint=2, device="cpu") == ["load lou"]
    assert desk.ledger.room.booked == {"cpu": 10, "gpu": 5}


def test_a_device_without_a_budget_has_no_limit() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=10**15, device="tpu")
    assert desk.ask("joe", footprint=10**15, device="tpu") == ["load joe"]


def test_a_victim_for_bytes_counts_towards_the_cap_as_well() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=2, cap_policy="hard")
    desk.idle("amy", device="gpu")
    desk.at(1).idle("joe", footprint=8)
    assert desk.at(2).ask("kim", footprint=8) == ["unload joe EVICTED", "wait for kim until 32"]
    assert desk.gone("joe") == ["load kim"]


@pytest.mark.parametrize("budget", [8, 10])
def test_after_the_bytes_the_cap_takes_the_oldest_use_of_any_device(budget: int) -> None:
    desk = Desk(budgets={"cpu": budget}, resident_cap=3, min_residency=20)
    desk.hold("lou", device="gpu")
    desk.hold("amy", device="gpu")
    desk.hold("max", device="cpu")
    desk.hold("joe", device="cpu", footprint=8)
    for now, model_id in enumerate(("amy", "joe", "max", "lou")):
        desk.at(now).give(model_id)
    assert desk.at(4).ask("kim", footprint=8) == ["wait for kim until 34"]
    assert desk.at(20).tick() == ["unload joe EVICTED", "unload amy EVICTED"]
    assert desk.gone("joe") == []
    assert desk.gone("amy") == ["load kim"]


def test_one_missing_byte_comes_from_its_own_device() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=2, cap_policy="hard")
    desk.idle("amy", device="gpu")
    desk.at(1).idle("joe", footprint=5)
    assert desk.ask("kim", footprint=6) == ["unload joe EVICTED", "wait for kim until 31"]


def test_nobody_is_evicted_when_one_byte_would_still_be_missing() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=3)
    desk.hold("joe", footprint=5)
    assert desk.ask("kim", footprint=6) == ["wait for kim until 30"]
    assert desk.shown()["amy"] == "ready"


def test_a_budget_that_is_just_full_presses_nobody() -> None:
    desk = Desk(budgets={"cpu": 10}, min_residency=20, ttl=600)
    desk.idle("amy", footprint=10)
    assert desk.tick() == []
    assert desk.due() == 600


def test_bytes_that_are_promised_are_counted_on_but_not_given_away() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.idle("amy", footprint=2)
    desk.idle("joe", footprint=8)
    desk.unload("amy")
    assert desk.ask("kim", footprint=2) == ["wait for kim until 30"]
    assert desk.shown()["joe"] == "ready"
    assert desk.gone("amy") == ["load kim"]


def test_a_measured_footprint_replaces_the_estimate() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.ask("amy", footprint=8)
    desk.land("amy", footprint=3)
    assert desk.ledger.room.booked["cpu"] == 3
    assert desk.ask("joe", footprint=7) == ["load joe"]
    desk.land("joe", footprint=6)
    desk.give("amy")
    assert desk.unload("amy") == ["unload amy UNLOADED"]
    desk.gone("amy")
    assert desk.ledger.room.booked["cpu"] == 6


def test_a_model_that_grew_over_the_budget_pushes_others_out() -> None:
    desk = Desk(budgets={"gpu": 9, "cpu": 10}, resident_cap=9)
    desk.idle("gus", footprint=9, device="gpu")
    desk.idle("amy", footprint=4)
    desk.at(1).idle("joe", footprint=2)
    assert desk.at(2).ask("kim", footprint=4) == ["load kim"]
    assert desk.land("kim", footprint=6) == ["grant kim to ann", "unload amy SURPLUS"]
    assert desk.gone("amy") == []
    assert desk.shown() == {"gus": "ready", "joe": "ready", "kim": "ready"}


def test_a_model_that_grew_over_the_budget_alone_leaves_when_it_is_idle() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.ask("amy", footprint=5)
    desk.land("amy", footprint=11)
    assert desk.give("amy") == ["unload amy SURPLUS"]
    assert desk.tick() == []


def test_growth_over_the_budget_waits_for_min_residency_and_the_ledger_says_when() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9, min_residency=20)
    desk.ask("amy", footprint=5)
    desk.land("amy", footprint=11)
    assert desk.at(1).give("amy") == []
    assert desk.due() == 20
    assert desk.at(20).tick() == ["unload amy SURPLUS"]


@pytest.mark.parametrize("measured", [3, 7])
def test_what_a_pinned_model_really_takes_is_out_of_reach_for_others(measured: int) -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.ask("amy", footprint=5)
    desk.land("amy", footprint=measured)
    desk.hold("joe", footprint=3)
    over, under = 11 - measured, 10 - measured
    assert desk.ask("kim", footprint=over) == ["refuse kim to ann NO_ROOM never"]
    assert desk.ask("lou", footprint=under) == ["wait for lou until 30"]


@pytest.mark.parametrize("late", [False, True])
def test_all_pinned_models_of_a_device_add_up(late: bool) -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    for model_id in ("amy", "joe"):
        if not late:
            desk.pin(model_id)
        desk.hold(model_id, footprint=3)
        desk.pin(model_id)
    desk.hold("kim", footprint=2)
    assert desk.ask("lou", footprint=5) == ["refuse lou to ann NO_ROOM never"]
    assert desk.ask("max", footprint=4) == ["wait for max until 30"]


def test_a_pin_kept_through_a_drain_adds_to_the_others() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    for model_id in ("amy", "joe"):
        desk.pin(model_id)
        desk.hold(model_id, footprint=3)
    desk.hold("kim", footprint=2)
    desk.drain("joe")
    desk.end_drain("joe")
    assert desk.ask("lou", footprint=5) == ["refuse lou to ann NO_ROOM never"]
    assert desk.ask("max", footprint=4) == ["wait for max until 30"]


# Waiting in line


def test_waiting_for_room_is_first_come_first_served() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    for now, model_id in ((1, "joe"), (2, "kim"), (3, "lou")):
        assert desk.at(now).ask(model_id) == [f"wait for {model_id} until {now + 30}"]
    assert desk.at(4).give("amy") == ["unload amy EVICTED"]
    assert desk.gone("amy") == ["load joe"]
    desk.land("joe")
    desk.give("joe")
    assert desk.gone("joe") == ["load kim"]


def test_a_small_model_does_not_overtake_a_big_one_on_its_device() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=5)
    desk.ask("big", footprint=8)
    assert desk.ask("joe", footprint=1) == ["wait for joe until 30"]
    assert desk.ledger.waiting.count == 2


def test_a_model_on_another_device_does_not_wait_behind_a_full_one() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=10)
    assert desk.ask("joe", footprint=5) == ["wait for joe until 30"]
    assert desk.ask("kim", footprint=5, device="gpu") == ["load kim"]


def test_a_hit_never_waits_behind_a_miss() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe")
    assert desk.hit("amy", "bob")


def test_callers_of_one_model_wait_at_one_place_and_are_served_together() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("kim", "bob")
    desk.at(1).ask("joe", "cal")
    assert desk.ledger.waiting.tickets("joe") == (
        desk.tickets["joe", "ann"],
        desk.tickets["joe", "cal"],
    )
    assert desk.ledger.waiting.tickets("lou") == ()
    desk.give("amy")
    assert desk.gone("amy") == ["load joe"]
    assert desk.ledger.waiting.count == 1
    assert desk.land("joe") == ["grant joe to ann", "grant joe to cal"]


def test_the_load_slot_goes_to_the_device_whose_caller_came_first() -> None:
    desk = Desk(resident_cap=9)
    desk.ask("amy", device="cpu")
    desk.at(1).ask("joe", device="cpu")
    desk.at(2).ask("gus", device="gpu")
    desk.at(3).ask("kim", device="cpu")
    assert desk.at(4).land("amy") == ["grant amy to ann", "load joe"]
    assert desk.land("joe") == ["grant joe to ann", "load gus"]
    assert desk.land("gus") == ["grant gus to ann", "load kim"]


def test_a_caller_that_waited_too_long_is_told_when_to_try_again() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", acquire_timeout=30, first_retry=2)
    desk.hold("amy")
    desk.at(5).ask("joe")
    assert desk.due() == 35
    assert desk.at(34.5).tick() == []
    assert desk.at(35).tick() == ["refuse joe to ann TIMED_OUT 2"]
    assert desk.ledger.waiting.count == 0
    assert desk.due() == math.inf


def test_callers_of_one_place_time_out_one_by_one() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", acquire_timeout=30)
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.at(5).ask("joe", "bob")
    assert desk.at(30).tick() == ["refuse joe to ann TIMED_OUT 1"]
    assert desk.due() == 35
    assert desk.at(35).tick() == ["refuse joe to bob TIMED_OUT 1"]


def test_room_that_comes_at_the_deadline_is_in_time() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", acquire_timeout=30)
    desk.idle("amy")
    desk.ask("joe")
    assert desk.at(30).gone("amy") == ["load joe"]
    assert desk.tick() == []


def test_the_next_in_line_is_served_when_the_first_times_out() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9, acquire_timeout=30)
    desk.hold("amy", footprint=5)
    desk.ask("big", footprint=8)
    desk.at(1).ask("joe", footprint=5)
    assert desk.at(30).tick() == ["refuse big to ann TIMED_OUT 1", "load joe"]


def test_a_full_line_refuses_one_more() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", max_waiting=2, first_retry=3)
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("joe", "bob")
    assert desk.ask("joe", "cal") == ["refuse joe to cal LINE_FULL 3"]
    assert desk.ask("kim", "cal") == ["refuse kim to cal LINE_FULL 3"]
    desk.cancel("joe", "bob")
    assert desk.ask("kim", "cal") == ["wait for kim until 30"]


def test_a_full_line_says_how_long_min_residency_keeps_everybody() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", max_waiting=1, min_residency=20)
    desk.hold("amy")
    desk.ask("joe")
    assert desk.at(5).ask("kim") == ["refuse kim to ann LINE_FULL 15"]


def test_a_full_line_does_not_keep_a_load_from_being_shared() -> None:
    desk = Desk(resident_cap=9, max_waiting=1)
    desk.ask("amy")
    desk.ask("joe")
    assert desk.ask("amy", "bob") == ["join amy"]


def test_somebody_who_gives_up_makes_way_for_the_next() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=5)
    desk.ask("big", footprint=8)
    desk.ask("joe", footprint=5)
    assert desk.cancel("big") == ["load joe"]
    assert desk.ledger.waiting.count == 0


def test_a_place_stays_while_one_of_its_callers_does() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("joe", "bob")
    desk.ask("kim")
    assert desk.cancel("joe", "ann") == []
    desk.give("amy")
    assert desk.gone("amy") == ["load joe"]


def test_a_model_asked_for_again_after_everybody_left_goes_to_the_end() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe")
    desk.ask("kim")
    desk.cancel("joe")
    desk.ask("joe")
    desk.give("amy")
    assert desk.gone("amy") == ["load kim"]


# Certain refusals


def test_a_model_larger_than_the_budget_is_refused_at_once() -> None:
    desk = Desk(budgets={"cpu": 10})
    assert desk.ask("big", footprint=11) == ["refuse big to ann TOO_BIG never"]
    assert desk.ask("joe", footprint=10) == ["load joe"]


def test_when_everything_is_pinned_a_hard_cap_refuses_at_once() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.pin("amy")
    desk.idle("amy")
    assert desk.ask("joe") == ["refuse joe to ann NO_ROOM never"]
    assert desk.ledger.waiting.count == 0


def test_what_pinned_models_leave_of_the_budget_is_all_there_ever_is() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.hold("amy", footprint=4)
    desk.hold("joe", footprint=4)
    assert desk.ask("kim", footprint=6) == ["wait for kim until 30"]
    assert desk.ask("lou", footprint=7) == ["refuse lou to ann NO_ROOM never"]


def test_pins_on_one_device_take_nothing_from_another() -> None:
    desk = Desk(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.hold("amy", footprint=10, device="gpu")
    assert desk.ask("joe", footprint=10, device="cpu") == ["load joe"]


def test_a_certain_refusal_does_not_wait_for_the_load_that_runs() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.ask("amy", footprint=4)
    assert desk.ask("joe", footprint=7) == ["refuse joe to ann NO_ROOM never"]


def test_a_certain_refusal_does_not_wait_for_its_turn() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.pin("amy")
    desk.hold("amy", footprint=4)
    desk.hold("joe", footprint=4)
    assert desk.ask("kim", footprint=5) == ["wait for kim until 30"]
    assert desk.ask("lou", footprint=7) == ["refuse lou to ann NO_ROOM never"]


def test_a_pin_that_takes_the_last_room_refuses_those_who_wait() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe", "ann")
    desk.ask("joe", "bob")
    desk.ask("kim", "cal")
    assert desk.pin("amy") == [
        "refuse joe to ann NO_ROOM never",
        "refuse joe to bob NO_ROOM never",
        "refuse kim to cal NO_ROOM never",
    ]
    assert desk.due() == math.inf


def test_a_pin_refuses_those_who_wait_even_while_a_load_runs() -> None:
    desk = Desk(budgets={"cpu": 10}, resident_cap=9)
    desk.hold("amy", footprint=5)
    desk.ask("joe", footprint=5)
    desk.ask("kim", footprint=6)
    assert desk.pin("amy") == ["refuse kim to ann NO_ROOM never"]


@pytest.mark.parametrize(("asked_at", "told_at_once"), [(9.5, True), (10, False)])
def test_min_residency_beyond_the_deadline_refuses_at_once(
    asked_at: float, told_at_once: bool
) -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=30)
    desk.idle("amy")
    expected = f"refuse joe to ann NO_ROOM {40 - asked_at:g}" if told_at_once else None
    assert desk.at(asked_at).ask("joe") == [expected or "wait for joe until 40"]


def test_the_first_end_of_a_min_residency_counts_not_the_last() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", min_residency=40, acquire_timeout=30)
    desk.idle("amy")
    desk.at(8).idle("joe")
    assert desk.at(9).ask("kim") == ["refuse kim to ann NO_ROOM 31"]


def test_one_model_past_its_min_residency_may_be_let_go_at_any_moment() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", min_residency=40, acquire_timeout=30)
    desk.hold("amy")
    desk.at(39).idle("joe")
    assert desk.at(40).ask("kim") == ["wait for kim until 70"]


def test_a_min_residency_that_is_over_counts_even_before_anybody_looked() -> None:
    desk = Desk(
        resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=0, first_retry=2
    )
    desk.hold("amy")
    assert desk.at(41).ask("joe") == ["wait for joe until 41"]
    assert desk.tick() == ["refuse joe to ann TIMED_OUT 2"]


def test_while_a_model_loads_or_leaves_nothing_is_certain() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=30)
    desk.ask("amy")
    assert desk.ask("joe") == ["wait for joe until 30"]
    assert desk.at(1).land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 40"]
    desk.give("amy")
    desk.unload("amy")
    assert desk.ask("joe") == ["wait for joe until 31"]


def test_only_those_are_refused_for_whom_room_comes_too_late() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=28, acquire_timeout=30)
    desk.ask("amy")
    desk.ask("joe", "ann")
    desk.at(5).ask("joe", "bob")
    assert desk.land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 28"]
    assert desk.ledger.waiting.count == 1
    assert desk.due() == 33


def test_a_time_out_under_min_residency_says_when_it_ends() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", min_residency=28, acquire_timeout=30)
    desk.ask("amy")
    desk.ask("joe", "ann")
    desk.at(1).ask("kim", "cal")
    desk.at(5).ask("joe", "bob")
    assert desk.land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 28"]
    assert desk.due() == 31
    assert desk.at(31).tick() == ["refuse kim to cal TIMED_OUT 2"]
    assert desk.due() == 33


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
    assert (amy.aboard, amy.holders, amy.instance) == ({}, {}, None)
    assert desk.ledger.room.booked["cpu"] == 0
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
    assert desk.ledger.room.booked["cpu"] == 8
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


# Unloading


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
    assert desk.ledger.waiting.count == 1


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
    assert desk.ledger.waiting.count == 0
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


# Unloads that take too long


def test_an_overdue_unload_keeps_its_room_but_nobody_counts_on_it() -> None:
    desk = Desk(resident_cap=2, cap_policy="hard", budgets={"cpu": 10})
    desk.idle("amy", footprint=5)
    desk.at(1).idle("joe", footprint=5)
    assert desk.ask("kim", footprint=5) == ["unload amy EVICTED", "wait for kim until 31"]
    assert desk.overdue("amy") == ["unload joe EVICTED"]
    assert desk.overdue("amy") == []
    assert desk.ledger.room.booked["cpu"] == 10
    assert desk.gone("joe") == ["load kim"]
    assert desk.ledger.room.booked["cpu"] == 10
    assert desk.gone("amy") == []
    assert desk.ledger.room.booked["cpu"] == 5


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


# Giving up


def test_the_first_callers_cancellation_is_not_everybodys() -> None:
    desk = Desk()
    desk.ask("amy", "ann")
    desk.ask("amy", "bob")
    assert desk.cancel("amy", "ann") == []
    assert desk.land("amy") == ["grant amy to bob"]
    assert desk["amy"].holders == {"bob": [0.0]}


def test_a_load_that_everybody_left_finishes_and_stays_idle() -> None:
    desk = Desk(ttl=10)
    desk.ask("amy")
    desk.warming("amy")
    assert desk.cancel("amy") == []
    assert desk.at(2).land("amy") == []
    assert not desk["amy"].in_use
    assert desk.hit("amy")


def test_a_reference_granted_before_the_cancellation_is_given_back() -> None:
    desk = Desk(ttl=0)
    desk.hold("amy", "ann")
    desk.hit("amy", "bob")
    assert desk.cancel("amy", "ann") == []
    assert desk["amy"].holders == {"bob": [0.0]}
    assert desk.at(1).give("amy", "bob") == ["unload amy EXPIRED"]


def test_a_cancelled_grant_makes_room_like_a_release() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy", "ann")
    desk.ask("joe", "bob")
    assert desk.at(1).cancel("amy", "ann") == ["unload amy EVICTED"]


def test_a_caller_that_gives_up_in_line_is_never_served() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.hold("amy")
    desk.ask("joe")
    assert desk.cancel("joe") == []
    assert desk.due() == math.inf
    assert desk.give("amy") == []
    assert desk.shown() == {"amy": "ready"}


def test_a_caller_that_gives_up_on_a_leaving_model_does_not_have_it_loaded_afresh() -> None:
    desk = Desk()
    desk.idle("amy")
    desk.unload("amy")
    desk.ask("amy", "bob")
    assert desk.cancel("amy", "bob") == []
    assert desk.gone("amy") == []
    assert desk.shown() == {}


def test_cancelling_after_a_refusal_changes_nothing() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard")
    desk.ask("amy", "ann")
    desk.fail("amy")
    assert desk.cancel("amy", "ann") == []
    desk.at(1).ask("amy", "bob")
    assert desk.cancel("amy", "ann") == []
    assert desk.land("amy") == ["grant amy to bob"]
    assert desk.ledger.waiting.count == 0


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
    assert desk.ledger.waiting.count == 0
    assert desk["joe"].aboard == {}
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
def test_expel_lets_a_model_go_whoever_holds_it(draining: bool) -> None:
    desk = Desk(budgets={"cpu": 10})
    desk.hold("amy", footprint=4)
    desk.speak("amy")
    if draining:
        desk.drain("amy")
    desk.close()
    assert desk.expel("amy") == ["unload amy SHUTDOWN"]
    amy = desk["amy"]
    assert desk.at(1).give("amy") is None
    assert desk.hush(amy) == []
    assert desk.due() == math.inf
    assert desk.gone("amy") == []
    assert desk.ledger.room.booked["cpu"] == 0
    with pytest.raises(ModelNotResidentError):
        desk.give("amy")


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
    desk.expel("max")
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
