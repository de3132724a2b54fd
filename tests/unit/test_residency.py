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


class Stage:
    """A ledger, a clock, and a shell that reports only what a test tells it to."""

    def __init__(self, *, min_residency: float = 0.0, **policy: Any) -> None:
        self.ledger = Residency(Policy(min_residency=min_residency, **policy))
        self.now = 0.0
        self.tickets: dict[tuple[str, str], Ticket] = {}

    def __getitem__(self, model_id: str) -> Resident:
        resident = self.ledger.get(model_id)
        assert resident is not None, f"{model_id} is not in memory"
        return resident

    def at(self, now: float) -> Stage:
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
    stage = Stage()
    assert stage.ask("amy") == ["load amy"]
    assert stage["amy"].state is State.LOADING
    assert stage.land("amy") == ["grant amy to ann"]
    assert stage["amy"].state is State.READY
    assert stage["amy"].refcount == 1


def test_concurrent_requests_share_one_load_and_get_a_reference_each() -> None:
    stage = Stage()
    stage.ask("amy", "ann")
    assert stage.ask("amy", "bob") == ["join amy"]
    stage.warming("amy", 0.25)
    assert stage["amy"].state is State.WARMING
    assert stage.ask("amy", "ann") == ["join amy"]
    assert stage.land("amy") == ["grant amy to ann", "grant amy to bob", "grant amy to ann"]
    assert stage["amy"].refcount == 3
    assert stage.ledger.loads == 1


def test_the_instance_that_was_loaded_is_the_one_that_is_handed_out() -> None:
    stage = Stage()
    ticket, _ = stage.ledger.request(Demand("amy"), "ann", 1.0)
    instance = object()
    (granted,) = stage.ledger.loaded(stage["amy"], instance, 2.0)
    assert granted == Granted(ticket, stage["amy"])
    assert stage["amy"].instance is instance
    hit = stage.ledger.hit("amy", "bob", 3.0)
    assert hit is stage["amy"]


def test_a_hit_takes_a_reference_and_nothing_else_happens() -> None:
    stage = Stage()
    stage.idle("amy")
    assert stage.at(5).hit("amy", "bob")
    assert stage.at(6).hit("amy", "bob")
    assert stage["amy"].holders == {"bob": [5.0, 6.0]}
    assert stage.ledger.hits == 2


def test_a_ticket_says_who_asked_when_and_how_long_it_may_wait() -> None:
    stage = Stage(acquire_timeout=30)
    ticket, out = stage.at(7).ledger.request(Demand("amy"), "ann", stage.now)
    assert (ticket.model_id, ticket.owner, ticket.since, ticket.deadline) == ("amy", "ann", 7, 37)
    assert out == [Load(stage["amy"])]
    assert not ticket.granted


@pytest.mark.parametrize("when", ["absent", "loading", "warming", "draining", "unloading"])
def test_only_a_ready_model_is_a_hit(when: str) -> None:
    stage = Stage()
    if when in ("loading", "warming"):
        stage.ask("amy")
        if when == "warming":
            stage.warming("amy")
    elif when != "absent":
        stage.hold("amy")
        stage.drain("amy")
        if when == "unloading":
            stage.give("amy")
    assert stage.shown().get("amy", "absent") == when
    assert not stage.hit("amy", "bob")
    assert stage.ledger.hits == 0


def test_a_load_says_what_it_measured() -> None:
    stage = Stage(min_residency=120)
    stage.at(3).ask("amy", footprint=10)
    stage.warming("amy", 0.25)
    stage.at(5).land("amy", warmup_s=0.5, footprint=12)
    amy = stage["amy"]
    assert (amy.load_s, amy.warmup_s, amy.footprint) == (0.25, 0.5, 12)
    assert (amy.booked_at, amy.ready_at, amy.idle_since, amy.keep_until) == (3, 5, 5, 125)
    assert amy.demand == Demand("amy", footprint=10)


def test_a_load_that_measured_nothing_keeps_its_booked_footprint() -> None:
    stage = Stage()
    stage.ask("amy", footprint=10)
    stage.land("amy")
    assert (stage["amy"].footprint, stage["amy"].warmup_s) == (10, 0.0)
    assert stage.ledger.room.booked["cpu"] == 10


def test_every_life_of_a_model_has_its_own_number_in_order_of_booking() -> None:
    stage = Stage()
    stage.idle("amy")
    stage.idle("joe")
    assert [stage["amy"].number, stage["joe"].number] == [1, 2]
    stage.unload("amy")
    stage.gone("amy")
    stage.idle("amy")
    assert stage["amy"].number == 3


# Giving back


def test_the_last_reference_makes_a_model_idle() -> None:
    stage = Stage()
    stage.hold("amy")
    stage.hit("amy", "ann")
    stage.hit("amy", "bob")
    assert stage.at(1).give("amy", "ann") is None
    assert stage.at(2).give("amy", "bob") is None
    assert stage["amy"].in_use
    assert stage["amy"].idle_since == 0
    assert stage.at(3).give("amy", "ann") == []
    assert not stage["amy"].in_use
    assert stage["amy"].idle_since == 3


def test_a_reference_given_back_is_the_youngest_of_its_owner() -> None:
    stage = Stage()
    stage.idle("amy")
    stage.at(1).hit("amy")
    stage.at(2).hit("amy")
    stage.give("amy")
    assert stage["amy"].holders == {"ann": [1.0]}


def test_more_releases_than_loads_are_an_error_that_changes_nothing() -> None:
    stage = Stage()
    stage.idle("amy")
    stage.hit("amy", "bob")
    with pytest.raises(LeaseReleasedError) as caught:
        stage.give("amy", "ann")
    assert str(caught.value) == (
        "owner 'ann' holds no reference to model 'amy'; release once for every load."
    )
    assert stage["amy"].holders == {"bob": [0.0]}


def test_a_caller_without_a_name_that_releases_too_often_is_told_so() -> None:
    stage = Stage()
    stage.idle("amy")
    with pytest.raises(LeaseReleasedError) as caught:
        stage.ledger.release("amy", None, 0.0)
    assert str(caught.value) == (
        "this caller holds no reference to model 'amy'; release once for every load."
    )


def test_a_model_that_is_not_in_memory_cannot_be_given_back() -> None:
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        Stage().give("amy")


def test_a_model_that_only_loads_cannot_be_given_back() -> None:
    stage = Stage()
    stage.ask("amy")
    with pytest.raises(LeaseReleasedError, match="'ann' holds no reference"):
        stage.give("amy")


def test_owners_without_a_name_show_as_a_dash() -> None:
    stage = Stage()
    stage.hold("amy", "ann")
    stage.ledger.hit("amy", None, 0.0)
    assert owners_of(stage["amy"]) == ("ann", "-")


# Streams


def test_a_speaking_model_is_in_use_after_its_caller_has_released() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    amy = stage.speak("amy")
    assert stage.at(1).give("amy") is None
    assert stage.ask("joe") == ["wait for joe until 31"]
    assert stage.at(2).hush(amy) == ["unload amy EVICTED"]


def test_idle_time_runs_from_the_end_of_the_last_stream() -> None:
    stage = Stage(ttl=10)
    stage.hold("amy")
    amy = stage.speak("amy")
    stage.speak("amy")
    stage.at(1).give("amy")
    assert stage.at(2).hush(amy) is None
    assert stage.at(3).hush(amy) == []
    assert amy.idle_since == 3
    assert stage.due() == 13
    assert stage.at(12.5).tick() == []
    assert stage.at(13).tick() == ["unload amy EXPIRED"]


def test_a_stream_that_ends_while_somebody_holds_the_model_changes_nothing_else() -> None:
    stage = Stage()
    stage.hold("amy")
    amy = stage.speak("amy")
    assert stage.at(4).hush(amy) is None
    assert amy.idle_since == 0
    assert amy.streams == 0


@pytest.mark.parametrize("state", ["loading", "warming", "unloading"])
def test_only_a_ready_or_draining_model_speaks(state: str) -> None:
    stage = Stage()
    stage.ask("amy")
    if state == "warming":
        stage.warming("amy")
    elif state == "unloading":
        stage.land("amy")
        stage.give("amy")
        stage.unload("amy")
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        stage.speak("amy")
    assert stage["amy"].streams == 0


def test_a_draining_model_may_still_begin_to_speak() -> None:
    stage = Stage()
    stage.hold("amy")
    stage.drain("amy")
    amy = stage.speak("amy")
    assert stage.give("amy") is None
    assert stage.hush(amy) == ["unload amy UNLOADED"]


def test_a_stream_on_an_earlier_life_of_a_model_is_refused_and_its_end_ignored() -> None:
    stage = Stage()
    stage.hold("amy")
    first = stage.speak("amy")
    stage.expel("amy")
    stage.gone("amy")
    stage.idle("amy")
    with pytest.raises(ModelNotResidentError):
        stage.ledger.open_stream(first)
    first.holders.clear()
    assert stage.at(9).hush(first) is None
    assert first.idle_since == 0
    assert stage["amy"].streams == 0


# Who may leave: idle, unpinned, past min residency, least recently used


def test_leased_model_never_makes_room() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    assert stage.ask("joe") == ["wait for joe until 30"]
    assert stage.at(29).tick() == []
    assert stage.shown() == {"amy": "ready"}


def test_the_least_recently_used_model_makes_room() -> None:
    stage = Stage(resident_cap=3, cap_policy="hard")
    for model_id in ("amy", "joe", "kim"):
        stage.idle(model_id)
    for now, model_id in ((1, "kim"), (2, "amy"), (3, "joe")):
        stage.at(now).hit(model_id)
        stage.give(model_id)
    assert stage.at(4).ask("lou") == ["unload kim EVICTED", "wait for lou until 34"]
    assert stage.gone("kim") == ["load lou"]
    assert stage.ask("max") == ["wait for max until 34"]
    stage.land("lou")
    assert stage.shown() == {
        "amy": "unloading",
        "joe": "ready",
        "lou": "ready",
    }


def test_last_use_is_the_release_not_the_hit() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy")
    stage.idle("joe")
    stage.at(1).hit("amy")
    stage.at(2).hit("joe")
    stage.at(3).give("joe")
    stage.at(4).give("amy")
    assert stage.ask("kim")[0] == "unload joe EVICTED"


def test_models_last_used_at_the_same_moment_leave_in_order_of_booking() -> None:
    stage = Stage(resident_cap=3, cap_policy="hard", max_parallel_loads=3)
    for model_id in ("joe", "amy", "kim"):
        stage.ask(model_id)
    for model_id in ("kim", "amy", "joe"):
        stage.land(model_id)
    for model_id in ("amy", "kim", "joe"):
        stage.give(model_id)
    stage.ask("lou")
    stage.unload("kim")
    assert stage.gone("joe") == ["load lou"]
    assert stage.ask("max") == ["wait for max until 30"]
    assert stage.gone("kim") == ["load max"]
    assert stage.shown() == {"amy": "ready", "lou": "loading", "max": "loading"}


def test_ties_between_devices_go_to_the_first_booked() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy", device="gpu")
    stage.idle("joe", device="cpu")
    assert stage.ask("kim", device="cpu")[0] == "unload amy EVICTED"


def test_the_oldest_use_of_all_devices_makes_room_under_the_cap() -> None:
    stage = Stage(resident_cap=3, cap_policy="hard")
    stage.idle("amy", device="cpu")
    stage.at(1).idle("joe", device="gpu")
    stage.at(2).hit("amy")
    stage.give("amy")
    stage.idle("kim", device="cpu")
    assert stage.at(3).ask("lou", device="cpu")[0] == "unload joe EVICTED"
    assert stage.gone("joe") == ["load lou"]
    stage.land("lou")
    assert stage.ask("max", device="gpu")[0] == "unload amy EVICTED"


def test_a_model_that_nobody_came_for_counts_as_used_when_it_was_ready() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard", max_parallel_loads=2)
    stage.ask("joe")
    stage.ask("amy")
    stage.cancel("amy")
    stage.at(5).land("amy")
    stage.land("joe")
    stage.at(6).give("joe")
    assert stage.at(7).ask("kim")[0] == "unload amy EVICTED"


def test_a_model_just_loaded_is_held_before_anybody_can_evict_it() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.ask("amy")
    stage.ask("joe")
    assert stage.land("amy") == ["grant amy to ann"]
    assert stage.give("amy") == ["unload amy EVICTED"]


def test_a_model_within_its_min_residency_makes_no_room() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=20)
    stage.idle("amy")
    assert stage.at(5).ask("joe") == ["wait for joe until 35"]
    assert stage.due() == 20
    assert stage.at(19.5).tick() == []
    assert stage.at(20).tick() == ["unload amy EVICTED"]


def test_under_cap_pressure_the_one_past_its_min_residency_goes_not_the_least_recently_used() -> (
    None
):
    stage = Stage(resident_cap=2, cap_policy="hard", min_residency=20)
    stage.hold("amy")
    stage.at(5).idle("joe")
    stage.at(20).give("amy")
    assert stage.ask("kim")[0] == "unload amy EVICTED"
    assert stage.shown()["joe"] == "ready"


def test_a_model_in_use_when_its_min_residency_ends_makes_room_once_it_is_idle() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=20)
    stage.idle("amy")
    stage.at(15).hit("amy")
    stage.ask("joe")
    assert stage.at(20).tick() == []
    assert stage.due() == 45
    assert stage.at(21).give("amy") == ["unload amy EVICTED"]


def test_a_model_found_in_use_by_a_search_is_found_again_when_it_is_idle() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy")
    stage.at(1).idle("joe")
    stage.at(2).hit("amy")
    assert stage.at(3).ask("kim")[0] == "unload joe EVICTED"
    stage.gone("joe")
    stage.land("kim")
    assert stage.at(4).give("amy") == []
    assert stage.at(5).ask("lou")[0] == "unload amy EVICTED"


def test_a_pinned_model_makes_no_room() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy")
    stage.at(1).idle("joe")
    assert stage.pin("amy") == []
    assert stage.at(2).ask("kim")[0] == "unload joe EVICTED"
    assert stage.gone("joe") == ["load kim"]
    stage.land("kim")
    stage.pin("kim")
    assert stage.ask("lou") == ["refuse lou to ann NO_ROOM never"]


def test_an_unpinned_model_makes_room_by_its_last_use() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.pin("amy")
    stage.idle("amy")
    stage.at(1).idle("joe")
    stage.at(2).unpin("amy")
    assert stage.ask("kim")[0] == "unload amy EVICTED"


def test_a_model_unpinned_within_its_min_residency_is_still_kept() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=20)
    stage.pin("amy")
    stage.idle("amy")
    stage.at(1).unpin("amy")
    assert stage.ask("joe") == ["wait for joe until 31"]
    assert stage.at(20).tick() == ["unload amy EVICTED"]


def test_a_model_unpinned_while_in_use_makes_room_once_it_is_idle() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.pin("amy")
    stage.hold("amy")
    stage.unpin("amy")
    assert stage.ask("joe") == ["wait for joe until 30"]
    assert stage.at(1).give("amy") == ["unload amy EVICTED"]


def test_a_model_pinned_while_it_loads_is_pinned_when_it_is_ready() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", ttl=5)
    stage.ask("amy")
    stage.pin("amy")
    stage.land("amy")
    stage.give("amy")
    assert stage["amy"].pinned
    assert stage.due() == math.inf
    assert stage.at(99).tick() == []
    assert stage.ask("joe") == ["refuse joe to ann NO_ROOM never"]
    assert stage.unpin("amy") == ["unload amy EXPIRED"]


def test_a_model_unpinned_while_it_loads_may_leave_when_it_is_ready() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.pin("amy")
    stage.ask("amy")
    stage.unpin("amy")
    stage.land("amy")
    stage.give("amy")
    assert stage.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]


def test_pinning_twice_is_undone_by_unpinning_once() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    stage.idle("amy", footprint=6)
    stage.pin("amy")
    stage.pin("amy")
    stage.unpin("amy")
    assert not stage.ledger.is_pinned("amy")
    stage.unpin("amy")
    assert stage.ask("joe", footprint=10) == ["unload amy EVICTED", "wait for joe until 30"]


def test_a_pin_outlives_the_resident() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.pin("amy")
    assert stage.ledger.is_pinned("amy")
    assert not stage.ledger.is_pinned("joe")
    stage.idle("amy")
    assert stage.unload("amy") == ["unload amy UNLOADED"]
    stage.gone("amy")
    assert stage.ledger.is_pinned("amy")
    stage.idle("amy")
    assert stage["amy"].pinned


def test_a_pin_on_a_leaving_model_is_for_its_next_life() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    stage.idle("amy", footprint=8)
    stage.unload("amy")
    stage.pin("amy")
    assert stage.ask("joe", footprint=8) == ["wait for joe until 30"]
    assert stage.gone("amy") == ["load joe"]
    stage.land("joe")
    stage.give("joe")
    stage.ask("amy", footprint=8)
    stage.gone("joe")
    assert stage["amy"].pinned


def test_a_pin_taken_from_a_leaving_model_is_taken_from_its_next_life() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    stage.pin("amy")
    stage.idle("amy", footprint=8)
    stage.unload("amy")
    stage.unpin("amy")
    assert stage.ask("amy", footprint=8) == ["wait for amy until 30"]
    assert stage.gone("amy") == ["load amy"]
    assert not stage["amy"].pinned
    stage.land("amy")
    stage.give("amy")
    assert stage.ask("joe", footprint=8) == ["unload amy EVICTED", "wait for joe until 30"]


# Expiry


def test_a_model_idle_for_its_ttl_expires_and_not_before() -> None:
    stage = Stage(ttl=10)
    stage.at(1).idle("amy")
    assert stage.due() == 11
    assert stage.at(10.5).tick() == []
    assert stage.at(11).tick() == ["unload amy EXPIRED"]
    assert stage.due() == math.inf


def test_a_use_puts_expiry_off() -> None:
    stage = Stage(ttl=10)
    stage.idle("amy")
    stage.at(8).hit("amy")
    stage.at(9).give("amy")
    assert stage.at(10).tick() == []
    assert stage.due() == 19
    assert stage.at(19).tick() == ["unload amy EXPIRED"]


def test_a_model_in_use_does_not_expire_and_its_idle_time_starts_at_the_release() -> None:
    stage = Stage(ttl=10)
    stage.idle("amy")
    stage.at(1).hit("amy")
    assert stage.at(50).tick() == []
    assert stage.due() == math.inf
    assert stage.at(60).give("amy") == []
    assert stage.due() == 70
    assert stage.at(70).tick() == ["unload amy EXPIRED"]


def test_a_model_that_nobody_came_for_expires_its_ttl_after_it_was_ready() -> None:
    stage = Stage(ttl=10)
    stage.ask("amy")
    stage.cancel("amy")
    stage.at(4).land("amy")
    assert stage.due() == 14
    assert stage.at(14).tick() == ["unload amy EXPIRED"]


def test_min_residency_outlasts_a_shorter_ttl() -> None:
    stage = Stage(ttl=10, min_residency=20)
    stage.idle("amy")
    assert stage.due() == 20
    assert stage.at(19.5).tick() == []
    assert stage.at(20).tick() == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_on_the_last_release() -> None:
    stage = Stage(ttl=0)
    stage.hold("amy")
    stage.hit("amy", "bob")
    assert stage.give("amy", "bob") is None
    assert stage.at(1).give("amy") == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_when_min_residency_is_over() -> None:
    stage = Stage(ttl=0, min_residency=20)
    stage.hold("amy")
    assert stage.at(1).give("amy") == []
    assert stage.due() == 20
    assert stage.at(20).tick() == ["unload amy EXPIRED"]


def test_a_ttl_of_zero_unloads_a_model_that_nobody_came_for_at_the_next_tick() -> None:
    stage = Stage(ttl=0)
    stage.ask("amy")
    stage.cancel("amy")
    stage.at(3).land("amy")
    assert stage.due() == 3
    assert stage.tick() == ["unload amy EXPIRED"]


def test_a_negative_ttl_never_expires_but_makes_room() -> None:
    stage = Stage(ttl=-1, resident_cap=1, cap_policy="hard")
    stage.idle("amy")
    assert stage["amy"].expires_at == math.inf
    assert stage.due() == math.inf
    assert stage.at(1e9).tick() == []
    assert stage.ask("joe")[0] == "unload amy EVICTED"


@pytest.mark.parametrize(("own", "due"), [(None, 10), (5.0, 5), (0.0, 0), (-1.0, math.inf)])
def test_a_model_may_have_its_own_ttl(own: float | None, due: float) -> None:
    stage = Stage(ttl=10)
    stage.ask("amy", ttl=own)
    stage.cancel("amy")
    stage.land("amy")
    assert stage.due() == due


def test_pinned_models_do_not_expire_and_unpinning_lets_the_idle_time_count() -> None:
    stage = Stage(ttl=10)
    stage.idle("amy")
    stage.idle("joe")
    stage.at(1).pin("amy")
    assert stage.at(10).tick() == ["unload joe EXPIRED"]
    assert stage.due() == math.inf
    assert stage.at(11).unpin("amy") == ["unload amy EXPIRED"]


def test_a_model_unpinned_in_time_expires_when_it_would_have() -> None:
    stage = Stage(ttl=10)
    stage.pin("amy")
    stage.idle("amy")
    assert stage.at(4).unpin("amy") == []
    assert stage.due() == 10
    assert stage.at(10).tick() == ["unload amy EXPIRED"]


def test_expiring_models_leave_in_the_order_in_which_they_were_due() -> None:
    stage = Stage(ttl=10)
    stage.idle("amy", ttl=30)
    stage.idle("joe")
    stage.at(2).idle("kim", ttl=7)
    assert stage.at(99).tick() == [
        "unload kim EXPIRED",
        "unload joe EXPIRED",
        "unload amy EXPIRED",
    ]


def test_expiry_makes_room_for_whoever_waits() -> None:
    stage = Stage(ttl=10, resident_cap=1, cap_policy="hard", min_residency=10)
    stage.idle("amy")
    stage.ask("joe")
    assert stage.at(10).tick() == ["unload amy EXPIRED"]
    assert stage.gone("amy") == ["load joe"]


# The cap


def test_the_hard_cap_is_never_exceeded() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard", max_parallel_loads=3)
    stage.hold("amy")
    assert stage.ask("joe") == ["load joe"]
    assert stage.ask("kim") == ["wait for kim until 30"]
    assert stage.shown() == {"amy": "ready", "joe": "loading"}


def test_a_leaving_model_counts_until_it_is_gone() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.idle("amy")
    assert stage.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert stage.at(1).tick() == []
    assert stage.gone("amy") == ["load joe"]


def test_nobody_is_evicted_twice_for_one_need() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy")
    stage.at(1).idle("joe")
    assert stage.ask("kim") == ["unload amy EVICTED", "wait for kim until 31"]
    assert stage.ask("lou") == ["wait for lou until 31"]
    assert stage.tick() == []
    assert stage.shown()["joe"] == "ready"


def test_below_the_cap_nobody_has_to_leave() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy")
    assert stage.ask("joe") == ["load joe"]


def test_the_soft_cap_evicts_before_it_gives_way() -> None:
    stage = Stage(resident_cap=1)
    stage.idle("amy")
    assert stage.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert stage.gone("amy") == ["load joe"]


def test_the_soft_cap_gives_way_when_nobody_may_leave() -> None:
    stage = Stage(resident_cap=1)
    stage.hold("amy")
    assert stage.ask("joe") == ["load joe"]
    assert stage.land("joe") == ["grant joe to ann"]
    assert stage.shown() == {"amy": "ready", "joe": "ready"}


def test_the_soft_cap_gives_way_when_pinned_models_fill_it() -> None:
    stage = Stage(resident_cap=1)
    stage.pin("amy")
    stage.idle("amy")
    stage.hold("joe")
    assert stage.give("joe") == ["unload joe SURPLUS"]


def test_the_surplus_leaves_oldest_use_first_once_it_is_idle() -> None:
    stage = Stage(resident_cap=1)
    for model_id in ("amy", "joe", "kim"):
        stage.hold(model_id)
    assert stage.at(1).give("joe") == ["unload joe SURPLUS"]
    assert stage.at(2).give("kim") == ["unload kim SURPLUS"]
    assert stage.at(3).give("amy") == []


def test_the_surplus_leaves_when_min_residency_ends_and_the_ledger_says_when() -> None:
    stage = Stage(resident_cap=1, min_residency=20, ttl=600)
    stage.idle("amy")
    stage.at(5).idle("joe")
    stage.at(6).hit("amy")
    stage.at(7).give("amy")
    assert stage.due() == 20
    assert stage.at(20).tick() == ["unload amy SURPLUS"]
    assert stage.due() == 605


def test_only_as_many_leave_as_are_too_many() -> None:
    stage = Stage(resident_cap=2)
    for model_id in ("amy", "joe", "kim", "lou"):
        stage.hold(model_id)
    assert stage.at(1).give("amy") == ["unload amy SURPLUS"]
    assert stage.at(2).give("joe") == ["unload joe SURPLUS"]
    assert stage.at(3).give("kim") == []


def test_over_the_soft_cap_a_newcomer_waits_for_those_who_leave() -> None:
    stage = Stage(resident_cap=1)
    stage.hold("amy")
    stage.hold("joe")
    assert stage.give("joe") == ["unload joe SURPLUS"]
    assert stage.ask("kim") == ["wait for kim until 30"]
    assert stage.gone("joe") == ["load kim"]


def test_one_leaving_model_is_enough_for_one_newcomer_at_the_cap() -> None:
    stage = Stage(resident_cap=2)
    stage.idle("amy")
    stage.idle("joe")
    stage.unload("amy")
    assert stage.ask("kim") == ["wait for kim until 30"]
    assert stage.shown()["joe"] == "ready"


def test_surplus_counts_those_who_leave_as_gone() -> None:
    stage = Stage(resident_cap=1, max_parallel_loads=2)
    stage.idle("amy")
    stage.ask("joe")
    assert stage.shown() == {"amy": "unloading"}
    stage.gone("amy")
    assert stage.land("joe") == ["grant joe to ann"]
    assert stage.give("joe") == []


# The memory budget


def test_the_memory_budget_is_never_exceeded() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.idle("amy", footprint=5)
    assert stage.ask("joe", footprint=6) == ["unload amy EVICTED", "wait for joe until 30"]
    assert stage.gone("amy") == ["load joe"]
    assert stage.ledger.room.booked["cpu"] == 6


def test_a_model_that_just_fits_the_budget_is_loaded() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.idle("amy", footprint=5)
    assert stage.ask("joe", footprint=5) == ["load joe"]


def test_the_soft_cap_does_not_soften_the_budget() -> None:
    stage = Stage(budgets={"cpu": 10})
    stage.hold("amy", footprint=6)
    assert stage.ask("joe", footprint=6) == ["wait for joe until 30"]
    assert stage.at(1).give("amy") == ["unload amy EVICTED"]


def test_as_many_leave_as_the_missing_bytes_need_and_no_more() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    for now, model_id in enumerate(("amy", "joe", "kim")):
        stage.at(now).idle(model_id, footprint=3)
    assert stage.at(3).ask("lou", footprint=7) == [
        "unload amy EVICTED",
        "unload joe EVICTED",
        "wait for lou until 33",
    ]
    assert stage.gone("joe") == []
    assert stage.gone("amy") == ["load lou"]


def test_nobody_is_evicted_in_vain() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.idle("amy", footprint=3)
    stage.hold("joe", footprint=6)
    assert stage.at(1).ask("kim", footprint=8) == ["wait for kim until 31"]
    assert stage.shown() == {"amy": "ready", "joe": "ready"}
    assert stage.at(2).give("joe") == ["unload amy EVICTED", "unload joe EVICTED"]


def test_under_a_hard_cap_nobody_is_evicted_in_vain() -> None:
    stage = Stage(budgets={"cpu": 20}, resident_cap=2, cap_policy="hard")
    stage.idle("amy", footprint=3, device="gpu")
    stage.hold("joe", footprint=15)
    assert stage.ask("kim", footprint=6) == ["wait for kim until 30"]
    assert stage.shown() == {"amy": "ready", "joe": "ready"}


def test_bytes_come_from_the_same_device_only() -> None:
    stage = Stage(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)
    stage.idle("amy", footprint=8, device="gpu")
    stage.at(1).idle("joe", footprint=8, device="cpu")
    assert stage.ask("kim", footprint=8, device="cpu") == [
        "unload joe EVICTED",
        "wait for kim until 31",
    ]
    assert stage.shown()["amy"] == "ready"


def test_each_device_has_its_own_budget() -> None:
    stage = Stage(budgets={"cpu": 10, "gpu": 5}, resident_cap=9)
    stage.hold("amy", footprint=8, device="cpu")
    stage.hold("joe", footprint=5, device="gpu")
    assert stage.ask("kim", footprint=3, device="gpu") == ["wait for kim until 30"]
    assert stage.ask("lou", footprint=2, device="cpu") == ["load lou"]
    assert stage.ledger.room.booked == {"cpu": 10, "gpu": 5}


def test_a_device_without_a_budget_has_no_limit() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.hold("amy", footprint=10**15, device="tpu")
    assert stage.ask("joe", footprint=10**15, device="tpu") == ["load joe"]


def test_a_victim_for_bytes_counts_towards_the_cap_as_well() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=2, cap_policy="hard")
    stage.idle("amy", device="gpu")
    stage.at(1).idle("joe", footprint=8)
    assert stage.at(2).ask("kim", footprint=8) == ["unload joe EVICTED", "wait for kim until 32"]
    assert stage.gone("joe") == ["load kim"]


def test_after_the_bytes_the_cap_takes_the_oldest_use_of_any_device() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=2, min_residency=20, acquire_timeout=30)
    stage.hold("lou", device="gpu")
    stage.hold("amy", device="gpu")
    stage.hold("joe", footprint=8)
    for now, model_id in enumerate(("amy", "lou", "joe")):
        stage.at(now).give(model_id)
    assert stage.at(3).ask("kim", footprint=8) == ["wait for kim until 33"]
    assert stage.at(20).tick() == ["unload joe EVICTED", "unload amy EVICTED"]
    assert stage.gone("joe") == []
    assert stage.gone("amy") == ["load kim"]


def test_bytes_that_are_promised_are_counted_on_but_not_given_away() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.idle("amy", footprint=5)
    stage.idle("joe", footprint=5)
    stage.unload("amy")
    assert stage.ask("kim", footprint=5) == ["wait for kim until 30"]
    assert stage.shown()["joe"] == "ready"
    assert stage.gone("amy") == ["load kim"]


def test_a_measured_footprint_replaces_the_estimate() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.ask("amy", footprint=8)
    stage.land("amy", footprint=3)
    assert stage.ledger.room.booked["cpu"] == 3
    assert stage.ask("joe", footprint=7) == ["load joe"]
    stage.land("joe", footprint=6)
    stage.give("amy")
    assert stage.unload("amy") == ["unload amy UNLOADED"]
    stage.gone("amy")
    assert stage.ledger.room.booked["cpu"] == 6


def test_a_model_that_grew_over_the_budget_pushes_others_out() -> None:
    stage = Stage(budgets={"gpu": 9, "cpu": 10}, resident_cap=9)
    stage.idle("gus", footprint=9, device="gpu")
    stage.idle("amy", footprint=4)
    stage.at(1).idle("joe", footprint=2)
    assert stage.at(2).ask("kim", footprint=4) == ["load kim"]
    assert stage.land("kim", footprint=6) == ["grant kim to ann", "unload amy SURPLUS"]
    assert stage.gone("amy") == []
    assert stage.shown() == {"gus": "ready", "joe": "ready", "kim": "ready"}


def test_a_model_that_grew_over_the_budget_alone_leaves_when_it_is_idle() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.ask("amy", footprint=5)
    stage.land("amy", footprint=11)
    assert stage.give("amy") == ["unload amy SURPLUS"]
    assert stage.tick() == []


def test_growth_over_the_budget_waits_for_min_residency_and_the_ledger_says_when() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9, min_residency=20)
    stage.ask("amy", footprint=5)
    stage.land("amy", footprint=11)
    assert stage.at(1).give("amy") == []
    assert stage.due() == 20
    assert stage.at(20).tick() == ["unload amy SURPLUS"]


def test_a_pinned_model_that_grew_leaves_less_room_for_good() -> None:
    stage = Stage(budgets={"cpu": 10})
    stage.pin("amy")
    stage.ask("amy", footprint=5)
    stage.land("amy", footprint=7)
    assert stage.ask("joe", footprint=4) == ["refuse joe to ann NO_ROOM never"]
    assert stage.ask("kim", footprint=3) == ["load kim"]


# Waiting in line


def test_waiting_for_room_is_first_come_first_served() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    for now, model_id in ((1, "joe"), (2, "kim"), (3, "lou")):
        assert stage.at(now).ask(model_id) == [f"wait for {model_id} until {now + 30}"]
    assert stage.at(4).give("amy") == ["unload amy EVICTED"]
    assert stage.gone("amy") == ["load joe"]
    stage.land("joe")
    stage.give("joe")
    assert stage.gone("joe") == ["load kim"]


def test_a_small_model_does_not_overtake_a_big_one_on_its_device() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.hold("amy", footprint=5)
    stage.ask("big", footprint=8)
    assert stage.ask("joe", footprint=1) == ["wait for joe until 30"]
    assert stage.ledger.waiting.count == 2


def test_a_model_on_another_device_does_not_wait_behind_a_full_one() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.hold("amy", footprint=10)
    assert stage.ask("joe", footprint=5) == ["wait for joe until 30"]
    assert stage.ask("kim", footprint=5, device="gpu") == ["load kim"]


def test_a_hit_never_waits_behind_a_miss() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    stage.ask("joe")
    assert stage.hit("amy", "bob")


def test_callers_of_one_model_wait_at_one_place_and_are_served_together() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    stage.ask("joe", "ann")
    stage.ask("kim", "bob")
    stage.at(1).ask("joe", "cal")
    assert stage.ledger.waiting.tickets("joe") == (
        stage.tickets["joe", "ann"],
        stage.tickets["joe", "cal"],
    )
    assert stage.ledger.waiting.tickets("lou") == ()
    stage.give("amy")
    assert stage.gone("amy") == ["load joe"]
    assert stage.ledger.waiting.count == 1
    assert stage.land("joe") == ["grant joe to ann", "grant joe to cal"]


def test_the_load_slot_goes_to_the_device_whose_caller_came_first() -> None:
    stage = Stage(resident_cap=9)
    stage.ask("amy", device="cpu")
    stage.at(1).ask("joe", device="cpu")
    stage.at(2).ask("gus", device="gpu")
    stage.at(3).ask("kim", device="cpu")
    assert stage.at(4).land("amy") == ["grant amy to ann", "load joe"]
    assert stage.land("joe") == ["grant joe to ann", "load gus"]
    assert stage.land("gus") == ["grant gus to ann", "load kim"]


def test_a_caller_that_waited_too_long_is_told_when_to_try_again() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", acquire_timeout=30, first_retry=2)
    stage.hold("amy")
    stage.at(5).ask("joe")
    assert stage.due() == 35
    assert stage.at(34.5).tick() == []
    assert stage.at(35).tick() == ["refuse joe to ann TIMED_OUT 2"]
    assert stage.ledger.waiting.count == 0
    assert stage.due() == math.inf


def test_callers_of_one_place_time_out_one_by_one() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", acquire_timeout=30)
    stage.hold("amy")
    stage.ask("joe", "ann")
    stage.at(5).ask("joe", "bob")
    assert stage.at(30).tick() == ["refuse joe to ann TIMED_OUT 1"]
    assert stage.due() == 35
    assert stage.at(35).tick() == ["refuse joe to bob TIMED_OUT 1"]


def test_room_that_comes_at_the_deadline_is_in_time() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", acquire_timeout=30)
    stage.idle("amy")
    stage.ask("joe")
    assert stage.at(30).gone("amy") == ["load joe"]
    assert stage.tick() == []


def test_the_next_in_line_is_served_when_the_first_times_out() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9, acquire_timeout=30)
    stage.hold("amy", footprint=5)
    stage.ask("big", footprint=8)
    stage.at(1).ask("joe", footprint=5)
    assert stage.at(30).tick() == ["refuse big to ann TIMED_OUT 1", "load joe"]


def test_a_full_line_refuses_one_more() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", max_waiting=2, first_retry=3)
    stage.hold("amy")
    stage.ask("joe", "ann")
    stage.ask("joe", "bob")
    assert stage.ask("joe", "cal") == ["refuse joe to cal LINE_FULL 3"]
    assert stage.ask("kim", "cal") == ["refuse kim to cal LINE_FULL 3"]
    stage.cancel("joe", "bob")
    assert stage.ask("kim", "cal") == ["wait for kim until 30"]


def test_a_full_line_says_how_long_min_residency_keeps_everybody() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", max_waiting=1, min_residency=20)
    stage.hold("amy")
    stage.ask("joe")
    assert stage.at(5).ask("kim") == ["refuse kim to ann LINE_FULL 15"]


def test_a_full_line_does_not_keep_a_load_from_being_shared() -> None:
    stage = Stage(resident_cap=9, max_waiting=1)
    stage.ask("amy")
    stage.ask("joe")
    assert stage.ask("amy", "bob") == ["join amy"]


def test_somebody_who_gives_up_makes_way_for_the_next() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.hold("amy", footprint=5)
    stage.ask("big", footprint=8)
    stage.ask("joe", footprint=5)
    assert stage.cancel("big") == ["load joe"]
    assert stage.ledger.waiting.count == 0


def test_a_place_stays_while_one_of_its_callers_does() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    stage.ask("joe", "ann")
    stage.ask("joe", "bob")
    stage.ask("kim")
    assert stage.cancel("joe", "ann") == []
    stage.give("amy")
    assert stage.gone("amy") == ["load joe"]


def test_a_model_asked_for_again_after_everybody_left_goes_to_the_end() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    stage.ask("joe")
    stage.ask("kim")
    stage.cancel("joe")
    stage.ask("joe")
    stage.give("amy")
    assert stage.gone("amy") == ["load kim"]


# Certain refusals


def test_a_model_larger_than_the_budget_is_refused_at_once() -> None:
    stage = Stage(budgets={"cpu": 10})
    assert stage.ask("big", footprint=11) == ["refuse big to ann TOO_BIG never"]
    assert stage.ask("joe", footprint=10) == ["load joe"]


def test_when_everything_is_pinned_a_hard_cap_refuses_at_once() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.pin("amy")
    stage.idle("amy")
    assert stage.ask("joe") == ["refuse joe to ann NO_ROOM never"]
    assert stage.ledger.waiting.count == 0


def test_what_pinned_models_leave_of_the_budget_is_all_there_ever_is() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.pin("amy")
    stage.hold("amy", footprint=4)
    stage.hold("joe", footprint=4)
    assert stage.ask("kim", footprint=6) == ["wait for kim until 30"]
    assert stage.ask("lou", footprint=7) == ["refuse lou to ann NO_ROOM never"]


def test_pins_on_one_device_take_nothing_from_another() -> None:
    stage = Stage(budgets={"cpu": 10, "gpu": 10}, resident_cap=9)
    stage.pin("amy")
    stage.hold("amy", footprint=10, device="gpu")
    assert stage.ask("joe", footprint=10, device="cpu") == ["load joe"]


def test_a_certain_refusal_does_not_wait_for_the_load_that_runs() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.pin("amy")
    stage.ask("amy", footprint=4)
    assert stage.ask("joe", footprint=7) == ["refuse joe to ann NO_ROOM never"]


def test_a_certain_refusal_does_not_wait_for_its_turn() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.pin("amy")
    stage.hold("amy", footprint=4)
    stage.hold("joe", footprint=4)
    assert stage.ask("kim", footprint=5) == ["wait for kim until 30"]
    assert stage.ask("lou", footprint=7) == ["refuse lou to ann NO_ROOM never"]


def test_a_pin_that_takes_the_last_room_refuses_those_who_wait() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    stage.ask("joe", "ann")
    stage.ask("joe", "bob")
    stage.ask("kim", "cal")
    assert stage.pin("amy") == [
        "refuse joe to ann NO_ROOM never",
        "refuse joe to bob NO_ROOM never",
        "refuse kim to cal NO_ROOM never",
    ]
    assert stage.due() == math.inf


def test_a_pin_refuses_those_who_wait_even_while_a_load_runs() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9)
    stage.hold("amy", footprint=5)
    stage.ask("joe", footprint=5)
    stage.ask("kim", footprint=6)
    assert stage.pin("amy") == ["refuse kim to ann NO_ROOM never"]


@pytest.mark.parametrize(("asked_at", "told_at_once"), [(9.5, True), (10, False)])
def test_min_residency_beyond_the_deadline_refuses_at_once(
    asked_at: float, told_at_once: bool
) -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=30)
    stage.idle("amy")
    expected = f"refuse joe to ann NO_ROOM {40 - asked_at:g}" if told_at_once else None
    assert stage.at(asked_at).ask("joe") == [expected or "wait for joe until 40"]


def test_the_first_end_of_a_min_residency_counts_not_the_last() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard", min_residency=40, acquire_timeout=30)
    stage.idle("amy")
    stage.at(8).idle("joe")
    assert stage.at(9).ask("kim") == ["refuse kim to ann NO_ROOM 31"]


def test_one_model_past_its_min_residency_may_be_let_go_at_any_moment() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard", min_residency=40, acquire_timeout=30)
    stage.hold("amy")
    stage.at(39).idle("joe")
    assert stage.at(40).ask("kim") == ["wait for kim until 70"]


def test_a_min_residency_that_is_over_counts_even_before_anybody_looked() -> None:
    stage = Stage(
        resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=0, first_retry=2
    )
    stage.hold("amy")
    assert stage.at(41).ask("joe") == ["wait for joe until 41"]
    assert stage.tick() == ["refuse joe to ann TIMED_OUT 2"]


def test_while_a_model_loads_or_leaves_nothing_is_certain() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=40, acquire_timeout=30)
    stage.ask("amy")
    assert stage.ask("joe") == ["wait for joe until 30"]
    assert stage.at(1).land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 40"]
    stage.give("amy")
    stage.unload("amy")
    assert stage.ask("joe") == ["wait for joe until 31"]


def test_only_those_are_refused_for_whom_room_comes_too_late() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=28, acquire_timeout=30)
    stage.ask("amy")
    stage.ask("joe", "ann")
    stage.at(5).ask("joe", "bob")
    assert stage.land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 28"]
    assert stage.ledger.waiting.count == 1
    assert stage.due() == 33


def test_a_time_out_under_min_residency_says_when_it_ends() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=28, acquire_timeout=30)
    stage.ask("amy")
    stage.ask("joe", "ann")
    stage.at(1).ask("kim", "cal")
    stage.at(5).ask("joe", "bob")
    assert stage.land("amy") == ["grant amy to ann", "refuse joe to ann NO_ROOM 28"]
    assert stage.due() == 31
    assert stage.at(31).tick() == ["refuse kim to cal TIMED_OUT 2"]
    assert stage.due() == 33


# Loads in parallel


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_loads_run_at_once_than_allowed(limit: int) -> None:
    stage = Stage(resident_cap=9, max_parallel_loads=limit)
    out = [stage.ask(f"m{number}") for number in range(limit + 1)]
    assert out == [
        *([f"load m{number}"] for number in range(limit)),
        [f"wait for m{limit} until 30"],
    ]
    assert stage.land("m0") == ["grant m0 to ann", f"load m{limit}"]


def test_a_model_that_warms_up_still_takes_its_slot() -> None:
    stage = Stage(resident_cap=9)
    stage.ask("amy")
    stage.warming("amy")
    assert stage.ask("joe") == ["wait for joe until 30"]
    assert stage.fail("amy")[1:] == ["load joe"]


def test_nobody_is_evicted_before_a_load_slot_is_free() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy")
    stage.ask("joe")
    assert stage.ask("kim") == ["wait for kim until 30"]
    assert stage.shown() == {"amy": "ready", "joe": "loading"}
    assert stage.land("joe") == ["grant joe to ann", "unload amy EVICTED"]


def test_several_loads_begin_in_one_step_when_several_slots_are_free() -> None:
    stage = Stage(budgets={"cpu": 10}, resident_cap=9, max_parallel_loads=2)
    stage.idle("amy", footprint=10)
    assert stage.ask("joe", footprint=5)[0] == "unload amy EVICTED"
    stage.ask("kim", footprint=5)
    assert stage.gone("amy") == ["load joe", "load kim"]


# Failing


def test_a_load_that_fails_leaves_nothing_behind() -> None:
    stage = Stage(budgets={"cpu": 10})
    stage.ask("amy", "ann", footprint=9)
    stage.ask("amy", "bob", footprint=9)
    amy = stage["amy"]
    assert stage.fail("amy") == [
        "refuse amy to ann LOAD_FAILED 1: boom",
        "refuse amy to bob LOAD_FAILED 1: boom",
    ]
    assert stage.ledger.get("amy") is None
    assert (amy.aboard, amy.holders, amy.instance) == ({}, {}, None)
    assert stage.ledger.room.booked["cpu"] == 0
    assert stage.ask("joe", footprint=9) == ["load joe"]


def test_a_failed_model_is_left_alone_for_a_growing_while() -> None:
    stage = Stage(first_retry=1, longest_retry=300)
    waits = []
    for _ in range(12):
        stage.ask("amy")
        (refusal,) = stage.fail("amy")
        wait = float(refusal.removeprefix("refuse amy to ann LOAD_FAILED ").removesuffix(": boom"))
        waits.append(wait)
        again = stage.at(stage.now + wait / 4).ask("amy")
        assert again == [f"refuse amy to ann BACKING_OFF {wait * 0.75:g}: boom"]
        stage.at(stage.now + wait * 0.75)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_success_resets_the_back_off() -> None:
    stage = Stage()
    for now in (0, 1):
        stage.at(now).ask("amy")
        stage.fail("amy")
    assert stage.at(2.5).ask("amy") == ["refuse amy to ann BACKING_OFF 0.5: boom"]
    stage.at(3).idle("amy")
    stage.unload("amy")
    stage.gone("amy")
    assert stage.ask("amy") == ["load amy"]
    assert stage.fail("amy") == ["refuse amy to ann LOAD_FAILED 1: boom"]


def test_a_failure_of_one_model_does_not_hold_up_another() -> None:
    stage = Stage()
    stage.ask("amy")
    stage.fail("amy")
    assert stage.ask("joe") == ["load joe"]


def test_a_burst_of_callers_is_one_attempt() -> None:
    stage = Stage()
    stage.ask("amy", "ann")
    for owner in ("bob", "cal", "dee"):
        stage.ask("amy", owner)
    assert len(stage.fail("amy")) == 4
    assert stage.ask("amy", "ann") == ["refuse amy to ann BACKING_OFF 1: boom"]
    assert (stage.ledger.failed_loads, stage.ledger.loads) == (1, 0)


def test_a_hung_load_keeps_its_room_booked_until_it_has_ended() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    stage.ask("amy", footprint=8)
    stage.warming("amy")
    assert stage.fail("amy", gone=False) == ["refuse amy to ann LOAD_FAILED 1: boom"]
    assert stage.shown() == {"amy": "unloading"}
    assert stage.ledger.room.booked["cpu"] == 8
    assert stage.ask("joe", footprint=8) == ["wait for joe until 30"]
    assert stage.at(1).ask("amy", footprint=8) == ["wait for amy until 31"]
    assert stage.overdue("amy") == []
    assert stage.gone("amy") == ["load joe"]


def test_a_hung_load_gives_its_slot_to_the_next_model() -> None:
    stage = Stage(resident_cap=2)
    stage.ask("amy")
    stage.ask("joe")
    assert stage.fail("amy", gone=False)[1:] == ["load joe"]
    assert stage.shown() == {"amy": "unloading", "joe": "loading"}


def test_nobody_counts_on_the_room_of_a_hung_load() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy")
    stage.ask("joe")
    stage.fail("joe", gone=False)
    assert stage.ask("kim") == ["unload amy EVICTED", "wait for kim until 30"]


def test_a_pinned_model_that_fails_gives_its_room_back() -> None:
    stage = Stage(budgets={"cpu": 10})
    stage.pin("amy")
    stage.ask("amy", footprint=8)
    stage.fail("amy")
    assert stage.ask("joe", footprint=10) == ["load joe"]


# Unloading


def test_an_idle_model_is_unloaded_when_asked_even_within_its_min_residency() -> None:
    stage = Stage(min_residency=120)
    stage.idle("amy")
    assert stage.at(1).unload("amy") == ["unload amy UNLOADED"]
    assert stage.shown() == {"amy": "unloading"}
    assert stage.unload("amy") == []


def test_unload_refuses_a_model_in_use_and_changes_nothing() -> None:
    stage = Stage()
    stage.hold("amy", "ann")
    stage.speak("amy")
    with pytest.raises(ModelInUseError) as caught:
        stage.unload("amy")
    assert (caught.value.model_id, caught.value.owners, caught.value.streams) == (
        "amy",
        ("ann",),
        1,
    )
    assert stage.shown() == {"amy": "ready"}
    assert stage.hit("amy")


def test_unload_refuses_a_model_that_only_speaks() -> None:
    stage = Stage()
    stage.idle("amy")
    stage.speak("amy")
    with pytest.raises(ModelInUseError, match="speaking"):
        stage.unload("amy")


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("warming", [False, True])
def test_a_loading_model_counts_as_in_use(warming: bool, drain: bool) -> None:
    stage = Stage()
    stage.ask("amy")
    if warming:
        stage.warming("amy")
    before = stage.shown()
    with pytest.raises(ModelInUseError, match="'amy'"):
        stage.drain("amy") if drain else stage.unload("amy")
    assert stage.shown() == before


def test_a_model_that_is_not_in_memory_cannot_be_unloaded() -> None:
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        Stage().unload("amy")


def test_an_asked_for_unload_makes_room_for_whoever_waits() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard", min_residency=20)
    stage.hold("amy")
    stage.idle("joe")
    stage.ask("kim")
    assert stage.unload("joe") == ["unload joe UNLOADED"]
    assert stage.gone("joe") == ["load kim"]


def test_a_draining_model_leaves_after_its_last_holder() -> None:
    stage = Stage()
    stage.hold("amy", "ann")
    stage.hit("amy", "bob")
    assert stage.drain("amy") == []
    assert stage.shown() == {"amy": "draining"}
    assert stage.drain("amy") == []
    assert stage.at(1).give("amy", "ann") is None
    assert stage.at(2).give("amy", "bob") == ["unload amy UNLOADED"]


def test_a_model_once_watched_by_expiry_still_drains() -> None:
    stage = Stage()
    stage.idle("amy")
    stage.hit("amy")
    stage.drain("amy")
    assert stage.at(1).give("amy") == ["unload amy UNLOADED"]


def test_draining_an_idle_model_unloads_it_at_once() -> None:
    stage = Stage()
    stage.idle("amy")
    assert stage.drain("amy") == ["unload amy UNLOADED"]


def test_a_drain_ignores_ttl_and_pressure() -> None:
    stage = Stage(ttl=5, resident_cap=1, cap_policy="hard")
    stage.idle("amy")
    stage.hit("amy")
    stage.drain("amy")
    stage.at(1).ask("joe")
    assert stage.at(20).tick() == []
    assert stage.give("amy") == ["unload amy UNLOADED"]
    assert stage.gone("amy") == ["load joe"]


def test_a_request_for_a_draining_model_waits_and_then_loads_it_afresh() -> None:
    stage = Stage()
    stage.hold("amy", "ann")
    old = stage["amy"]
    stage.drain("amy")
    assert stage.ask("amy", "bob") == ["wait for amy until 30"]
    assert stage.give("amy", "ann") == ["unload amy UNLOADED"]
    assert stage.ask("amy", "cal") == ["wait for amy until 30"]
    assert stage.gone("amy") == ["load amy"]
    assert stage["amy"] is not old
    assert old.instance is None
    assert stage.land("amy") == ["grant amy to bob", "grant amy to cal"]


def test_a_request_for_a_leaving_model_waits_at_most_its_time() -> None:
    stage = Stage(resident_cap=2, acquire_timeout=30)
    stage.hold("amy", "ann")
    stage.drain("amy")
    stage.at(5).ask("amy", "bob")
    assert stage.due() == 35
    assert stage.at(35).tick() == ["refuse amy to bob TIMED_OUT 1"]


def test_a_request_for_a_leaving_model_holds_up_nobody() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.hold("amy")
    stage.drain("amy")
    stage.ask("amy", "bob")
    assert stage.ask("joe") == ["load joe"]


def test_a_request_that_waited_for_its_own_model_keeps_its_arrival() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.hold("amy")
    stage.hold("joe")
    stage.drain("amy")
    assert stage.ask("amy", "bob") == ["wait for amy until 30"]
    assert stage.ask("kim", "cal") == ["wait for kim until 30"]
    stage.give("amy")
    assert stage.gone("amy") == ["load amy"]
    stage.land("amy")
    assert stage.ledger.waiting.count == 1


def test_a_drain_taken_back_serves_whoever_waited_for_it() -> None:
    stage = Stage()
    stage.hold("amy", "ann")
    old = stage["amy"]
    stage.drain("amy")
    stage.ask("amy", "bob")
    stage.ask("amy", "cal")
    assert stage.at(9).end_drain("amy") == ["grant amy to bob", "grant amy to cal"]
    assert stage["amy"] is old
    assert old.holders == {"ann": [0.0], "bob": [9.0], "cal": [9.0]}
    assert stage.ledger.waiting.count == 0
    assert stage.hit("amy", "dee")


def test_a_model_whose_drain_was_taken_back_expires_and_makes_room_as_before() -> None:
    stage = Stage(ttl=10, resident_cap=1, cap_policy="hard")
    stage.idle("amy")
    stage.hit("amy")
    stage.drain("amy")
    assert stage.at(20).tick() == []
    stage.end_drain("amy")
    assert stage.at(21).give("amy") == []
    assert stage.due() == 31
    assert stage.ask("joe")[0] == "unload amy EVICTED"


def test_there_is_no_drain_to_take_back_of_a_model_that_does_not_drain() -> None:
    stage = Stage()
    assert stage.end_drain("amy") == []
    stage.idle("amy")
    assert stage.end_drain("amy") == []
    assert stage.shown() == {"amy": "ready"}
    stage.unload("amy")
    assert stage.end_drain("amy") == []
    assert stage.shown() == {"amy": "unloading"}


def test_a_draining_model_may_make_room_at_any_moment() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=120, acquire_timeout=30)
    stage.hold("amy")
    stage.at(1).drain("amy")
    assert stage.at(2).ask("joe") == ["wait for joe until 32"]
    assert stage.at(3).give("amy") == ["unload amy UNLOADED"]
    assert stage.gone("amy") == ["load joe"]


def test_a_pinned_model_that_drains_may_make_room_at_any_moment() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    stage.pin("amy")
    stage.hold("amy", footprint=10)
    stage.drain("amy")
    assert stage.ask("joe", footprint=10) == ["wait for joe until 30"]
    assert stage.give("amy") == ["unload amy UNLOADED"]
    assert stage.gone("amy") == ["load joe"]


def test_nobody_counts_on_the_room_of_a_draining_model_before_it_leaves() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.idle("amy")
    stage.hold("joe")
    stage.drain("joe")
    assert stage.ask("kim") == ["unload amy EVICTED", "wait for kim until 30"]


def test_min_residency_binds_again_when_a_drain_is_taken_back() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", min_residency=20)
    stage.hold("amy")
    stage.at(1).drain("amy")
    stage.pin("amy")
    stage.unpin("amy")
    stage.end_drain("amy")
    stage.at(2).give("amy")
    assert stage.ask("joe") == ["wait for joe until 32"]
    assert stage.due() == 20
    assert stage.at(20).tick() == ["unload amy EVICTED"]


@pytest.mark.parametrize("pinned_before", [False, True])
@pytest.mark.parametrize("pinned_after", [False, True])
def test_a_drain_taken_back_finds_the_pin_as_it_is_by_then(
    pinned_before: bool, pinned_after: bool
) -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", budgets={"cpu": 10})
    if pinned_before:
        stage.pin("amy")
    stage.hold("amy", footprint=6)
    stage.drain("amy")
    stage.pin("amy") if pinned_after else stage.unpin("amy")
    stage.end_drain("amy")
    assert stage["amy"].pinned is pinned_after
    stage.give("amy")
    assert stage.ask("joe", footprint=6) == (
        ["refuse joe to ann NO_ROOM never"]
        if pinned_after
        else ["unload amy EVICTED", "wait for joe until 30"]
    )


# Unloads that take too long


def test_an_overdue_unload_keeps_its_room_but_nobody_counts_on_it() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard", budgets={"cpu": 10})
    stage.idle("amy", footprint=5)
    stage.at(1).idle("joe", footprint=5)
    assert stage.ask("kim", footprint=5) == ["unload amy EVICTED", "wait for kim until 31"]
    assert stage.overdue("amy") == ["unload joe EVICTED"]
    assert stage.overdue("amy") == []
    assert stage.ledger.room.booked["cpu"] == 10
    assert stage.gone("joe") == ["load kim"]
    assert stage.ledger.room.booked["cpu"] == 10
    assert stage.gone("amy") == []
    assert stage.ledger.room.booked["cpu"] == 5


def test_over_the_soft_cap_an_overdue_unload_holds_up_nobody() -> None:
    stage = Stage(resident_cap=1)
    stage.idle("amy")
    assert stage.ask("joe") == ["unload amy EVICTED", "wait for joe until 30"]
    assert stage.overdue("amy") == ["load joe"]
    assert stage.shown() == {"amy": "unloading", "joe": "loading"}


def test_an_overdue_unload_counts_as_one_too_many() -> None:
    stage = Stage(resident_cap=1)
    stage.idle("amy")
    stage.ask("joe")
    stage.overdue("amy")
    stage.land("joe")
    assert stage.give("joe") == ["unload joe SURPLUS"]


# Giving up


def test_the_first_callers_cancellation_is_not_everybodys() -> None:
    stage = Stage()
    stage.ask("amy", "ann")
    stage.ask("amy", "bob")
    assert stage.cancel("amy", "ann") == []
    assert stage.land("amy") == ["grant amy to bob"]
    assert stage["amy"].holders == {"bob": [0.0]}


def test_a_load_that_everybody_left_finishes_and_stays_idle() -> None:
    stage = Stage(ttl=10)
    stage.ask("amy")
    stage.warming("amy")
    assert stage.cancel("amy") == []
    assert stage.at(2).land("amy") == []
    assert not stage["amy"].in_use
    assert stage.hit("amy")


def test_a_reference_granted_before_the_cancellation_is_given_back() -> None:
    stage = Stage(ttl=0)
    stage.hold("amy", "ann")
    stage.hit("amy", "bob")
    assert stage.cancel("amy", "ann") == []
    assert stage["amy"].holders == {"bob": [0.0]}
    assert stage.at(1).give("amy", "bob") == ["unload amy EXPIRED"]


def test_a_cancelled_grant_makes_room_like_a_release() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy", "ann")
    stage.ask("joe", "bob")
    assert stage.at(1).cancel("amy", "ann") == ["unload amy EVICTED"]


def test_a_caller_that_gives_up_in_line_is_never_served() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.hold("amy")
    stage.ask("joe")
    assert stage.cancel("joe") == []
    assert stage.due() == math.inf
    assert stage.give("amy") == []
    assert stage.shown() == {"amy": "ready"}


def test_a_caller_that_gives_up_on_a_leaving_model_does_not_have_it_loaded_afresh() -> None:
    stage = Stage()
    stage.idle("amy")
    stage.unload("amy")
    stage.ask("amy", "bob")
    assert stage.cancel("amy", "bob") == []
    assert stage.gone("amy") == []
    assert stage.shown() == {}


def test_cancelling_after_a_refusal_changes_nothing() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard")
    stage.ask("amy", "ann")
    stage.fail("amy")
    assert stage.cancel("amy", "ann") == []
    stage.at(1).ask("amy", "bob")
    assert stage.cancel("amy", "ann") == []
    assert stage.land("amy") == ["grant amy to bob"]
    assert stage.ledger.waiting.count == 0


# The end


def test_close_refuses_everybody_who_waits_and_every_later_request() -> None:
    stage = Stage(resident_cap=2, cap_policy="hard")
    stage.hold("amy")
    stage.ask("joe", "ann")
    stage.ask("joe", "bob")
    stage.ask("kim", "cal")
    assert stage.close() == [
        "refuse kim to cal SHUTDOWN never",
        "refuse joe to ann SHUTDOWN never",
        "refuse joe to bob SHUTDOWN never",
    ]
    assert stage.ledger.waiting.count == 0
    assert stage["joe"].aboard == {}
    assert stage.ask("lou") == ["refuse lou to ann SHUTDOWN never"]
    assert stage.close() == []


def test_after_close_nobody_gets_a_model_that_is_ready_or_lands() -> None:
    stage = Stage()
    stage.idle("amy")
    stage.ask("joe")
    stage.close()
    assert not stage.hit("amy")
    assert stage.ask("amy") == ["refuse amy to ann SHUTDOWN never"]
    assert stage.ask("joe") == ["refuse joe to ann SHUTDOWN never"]
    assert stage.land("joe") == []
    assert not stage.hit("joe")
    assert not stage["joe"].in_use


def test_after_close_a_release_is_always_told() -> None:
    stage = Stage()
    stage.idle("amy")
    stage.hit("amy")
    stage.close()
    assert stage.at(1).give("amy") == []
    stage.tick()
    assert stage.unload("amy") == ["unload amy UNLOADED"]


def test_after_close_holders_may_be_waited_for() -> None:
    stage = Stage()
    stage.hold("amy")
    stage.close()
    assert stage.drain("amy") == []
    assert stage.end_drain("amy") == []
    assert stage.shown() == {"amy": "draining"}
    assert stage.give("amy") == ["unload amy UNLOADED"]


@pytest.mark.parametrize("draining", [False, True])
def test_expel_lets_a_model_go_whoever_holds_it(draining: bool) -> None:
    stage = Stage(budgets={"cpu": 10})
    stage.hold("amy", footprint=4)
    stage.speak("amy")
    if draining:
        stage.drain("amy")
    stage.close()
    assert stage.expel("amy") == ["unload amy SHUTDOWN"]
    amy = stage["amy"]
    assert stage.at(1).give("amy") is None
    assert stage.hush(amy) == []
    assert stage.gone("amy") == []
    assert stage.ledger.room.booked["cpu"] == 0
    with pytest.raises(ModelNotResidentError):
        stage.give("amy")


# What is due


def test_an_empty_ledger_has_nothing_due() -> None:
    stage = Stage()
    assert stage.due() == math.inf
    assert stage.tick() == []


def test_what_is_due_first_comes_first() -> None:
    stage = Stage(ttl=30, resident_cap=1, cap_policy="hard", min_residency=20, acquire_timeout=15)
    stage.idle("amy")
    assert stage.due() == 30
    stage.at(6).ask("joe")
    assert stage.due() == 20
    stage.at(7).cancel("joe")
    assert stage.due() == 30


def test_the_end_of_a_min_residency_is_due_only_when_somebody_needs_the_room() -> None:
    stage = Stage(ttl=600, min_residency=20, resident_cap=1)
    stage.idle("amy")
    assert stage.due() == 600
    stage.at(1).hold("joe")
    assert stage.due() == 20


# What can be seen


def test_repr_shows_who_is_in_memory() -> None:
    stage = Stage(resident_cap=3)
    assert repr(stage.ledger) == "<Residency 0/3 []>"
    stage.hold("amy", "ann")
    stage.ask("joe", "bob")
    stage.hit("amy", "cal")
    assert repr(stage.ledger) == "<Residency 2/3 [amy ready x2, joe loading x0]>"


def test_residents_are_listed_in_order_of_booking() -> None:
    stage = Stage()
    for model_id in ("kim", "amy", "joe"):
        stage.idle(model_id)
    assert [resident.model_id for resident in stage.ledger.residents] == ["kim", "amy", "joe"]


def test_every_departure_is_counted_by_its_reason() -> None:
    stage = Stage(ttl=10, resident_cap=2)
    stage.idle("amy")
    stage.idle("joe")
    stage.at(1).ask("kim")
    stage.gone("amy")
    stage.land("kim")
    stage.hit("joe")
    stage.hold("lou")
    stage.at(2).give("joe")
    stage.gone("joe")
    stage.give("kim")
    stage.at(12).tick()
    stage.gone("kim")
    stage.give("lou")
    stage.unload("lou")
    stage.gone("lou")
    stage.hold("max")
    stage.close()
    stage.expel("max")
    assert stage.ledger.departures == {
        Reason.EVICTED: 1,
        Reason.SURPLUS: 1,
        Reason.EXPIRED: 1,
        Reason.UNLOADED: 1,
        Reason.SHUTDOWN: 1,
    }


def test_every_refusal_is_counted_by_its_reason() -> None:
    stage = Stage(resident_cap=1, cap_policy="hard", max_waiting=1, budgets={"cpu": 10})
    stage.ask("big", footprint=11)
    stage.ask("amy", "ann")
    stage.ask("amy", "bob")
    stage.fail("amy")
    stage.ask("amy")
    stage.at(1).hold("amy")
    stage.ask("joe")
    stage.ask("kim")
    stage.at(31).tick()
    stage.ask("joe")
    stage.pin("amy")
    stage.unpin("amy")
    stage.ask("joe")
    stage.give("amy")
    stage.gone("amy")
    stage.ask("kim")
    stage.close()
    stage.ask("lou")
    assert stage.ledger.refusals == {
        Reason.TOO_BIG: 1,
        Reason.LOAD_FAILED: 2,
        Reason.BACKING_OFF: 1,
        Reason.LINE_FULL: 1,
        Reason.TIMED_OUT: 1,
        Reason.NO_ROOM: 1,
        Reason.SHUTDOWN: 3,
    }
    assert (stage.ledger.loads, stage.ledger.failed_loads, stage.ledger.hits) == (1, 1, 0)
