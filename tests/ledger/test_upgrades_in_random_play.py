"""Upgrades, reservations, shared memory and overdrafts amid everything else: the accounts add up.

Seeded random steps; after each the running totals are compared with a count by hand.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable

import pytest

from greenroom.errors import ModelInUseError, ModelNotResidentError
from greenroom.ledger.capacity import NOISE
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Granted,
    Load,
    ModelRequest,
    Policy,
    Refused,
    Resident,
    SharedPart,
    State,
    Ticket,
    Unload,
)

STEPS = 120


class Play:
    """A ledger, and all that is under way with it."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.budget = dice.choice([10, 20, 30])
        self.ledger = Residency(
            Policy(
                resident_cap=dice.choice([1, 2, 3]),
                cap_policy=dice.choice(["soft", "hard"]),
                budgets={"cpu": self.budget},
                ttl=dice.choice([5.0, 50.0, -1.0]),
                min_residency=dice.choice([0.0, 10.0]),
                max_parallel_loads=dice.choice([1, 2]),
            )
        )
        self.now = 0.0
        self.open: set[Ticket] = set()
        self.loads: list[Resident] = []
        self.unloads: list[Resident] = []
        self.upgrades: list[Resident] = []
        self.streams: list[Resident] = []
        self.held: list[str] = []

    def do(self, decisions: Iterable[Decision] | None) -> None:
        for decision in decisions or ():
            match decision:
                case Load(resident):
                    self.loads.append(resident)
                case Unload(resident):
                    assert not resident.occupied
                    self.unloads.append(resident)
                case Granted(ticket, resident):
                    self.open.discard(ticket)
                    self.held.append(resident.model_id)
                case Refused(ticket):
                    self.open.discard(ticket)

    def take(self, of: list[Resident]) -> Resident:
        return of.pop(self.dice.randrange(len(of)))

    def part(self) -> SharedPart | None:
        """Draw what a model has in common with others."""
        parts = [SharedPart("one", 4), SharedPart("one", 5), SharedPart("two", 7)]
        return self.dice.choice([None, None, *parts])

    def step(self) -> None:
        self.now += self.dice.choice([0.0, 0.0, 0.5, 3.0, 12.0])
        model_id = self.dice.choice("abcd")
        steps = (self.ask, self.ask, self.ask, self.serve, self.serve, self.work_beside, self.steer)
        self.dice.choice(steps)(model_id)

    def ask(self, model_id: str) -> None:
        if self.held and self.dice.random() < 0.4:
            released = self.held.pop(self.dice.randrange(len(self.held)))
            self.do(self.ledger.release(released, "ann", self.now))
        elif self.ledger.hit(model_id, "ann", self.now):
            self.held.append(model_id)
        else:
            min_footprint = self.dice.choice([0, None])
            size, part = self.dice.randrange(1, 12), self.part()
            request = ModelRequest(model_id, "cpu", size, None, min_footprint, part)
            ticket, decisions = self.ledger.request(request, "ann", self.now)
            self.open.add(ticket)
            self.do(decisions)

    def serve(self, model_id: str) -> None:
        """Let an engine come to an end with something."""
        size = self.dice.choice([None, self.dice.randrange(1, 14)])
        what = self.dice.randrange(4)
        if what == 0 and self.loads:
            resident, part = self.take(self.loads), self.part()
            self.do(self.ledger.loaded(resident, object(), self.now, footprint=size, shared=part))
        elif what == 1 and self.loads:
            self.do(self.ledger.failed(self.take(self.loads), "boom", self.now))
        elif what == 2 and self.unloads:
            self.do(self.ledger.overdue(self.unloads[0], self.now))
        elif self.unloads:
            self.do(self.ledger.gone(self.take(self.unloads), self.now))

    def work_beside(self, model_id: str) -> None:
        resident = self.ledger.get(model_id)
        size = self.dice.choice([None, self.dice.randrange(1, 14)])
        what = self.dice.randrange(5)
        if what == 0 and resident is not None and self.ledger.begin_upgrade(resident):
            self.upgrades.append(resident)
        elif what == 1 and self.upgrades:
            self.do(self.ledger.end_upgrade(self.take(self.upgrades), self.now, size, self.part()))
        elif what == 2:
            self.ledger.reserve(self.dice.randrange(1, 20))
        elif what == 3:
            self.do(self.ledger.unreserve(self.now))
        else:
            taken = self.dice.choice([0, NOISE + self.dice.randrange(40)])
            self.do(self.ledger.observed({"cpu": taken}, self.now))

    def steer(self, model_id: str) -> None:
        what = self.dice.randrange(5)
        resident = self.ledger.get(model_id)
        if what == 0:
            self.do(self.dice.choice([self.ledger.pin, self.ledger.unpin])(model_id, self.now))
        elif what == 1:
            drain = self.dice.random() < 0.6
            with contextlib.suppress(ModelNotResidentError, ModelInUseError):
                self.do(self.ledger.begin_unload(model_id, self.now, drain=drain))
        elif what == 2:
            self.do(self.ledger.end_drain(model_id, self.now))
        elif what == 3 and resident and resident.state in (State.READY, State.DRAINING):
            self.ledger.open_stream(resident)
            self.streams.append(resident)
        elif self.streams:
            self.do(self.ledger.close_stream(self.take(self.streams), self.now))
        self.do(self.ledger.tick(self.now))

    def check(self) -> None:
        capacity, all_here = self.ledger.capacity, list(self.ledger.residents)
        staying = [r for r in all_here if not r.leaving]
        assert capacity.booked["cpu"] == sum(r.footprint for r in all_here)
        assert capacity._pinned_bytes["cpu"] == sum(r.footprint for r in staying if r.pinned)
        assert capacity._promised_bytes["cpu"] == sum(r.footprint for r in all_here if r.promised)
        assert capacity._movable == sum(not r.pinned for r in staying)
        assert capacity._leaving == len(all_here) - len(staying)
        assert capacity.loading == sum(r.loading for r in all_here)
        self.check_shared(all_here)
        for resident in staying:
            if resident.may_leave and not resident.pinned:
                assert resident.indexed  # else it would stay for ever

    def check_shared(self, all_here: list[Resident]) -> None:
        """Each part is booked with one of those that have it, which stays if any does."""
        by_name: dict[str, list[Resident]] = {}
        for resident in all_here:
            if resident.shared is None:
                assert not resident.carried
            else:
                by_name.setdefault(resident.shared.name, []).append(resident)
        assert {s.part.name for s in self.ledger.capacity.shared} == set(by_name)
        for sharers in self.ledger.capacity.shared:
            members = by_name[sharers.part.name]
            assert set(sharers.members) == set(members)
            assert sharers.staying == sum(not r.promised for r in members)
            assert sharers.carrier in members
            assert sharers.carrier.promised == all(r.promised for r in members)
            assert all(not r.carried for r in members if r is not sharers.carrier)
            assert sharers.carrier.carried <= sharers.part.size
            assert sharers.carrier.carried <= sharers.carrier.footprint

    def wind_down(self) -> None:
        """Let everything end; whoever waits is served or refused."""
        self.do(self.ledger.observed({}, self.now))
        self.do(self.ledger.unreserve(self.now))
        while self.upgrades:
            self.do(self.ledger.end_upgrade(self.upgrades.pop(), self.now))
        while self.streams:
            self.do(self.ledger.close_stream(self.streams.pop(), self.now))
        for _ in range(60):
            while self.loads:
                self.do(self.ledger.loaded(self.loads.pop(), object(), self.now))
            while self.unloads:
                self.do(self.ledger.gone(self.unloads.pop(), self.now))
            while self.held:
                self.do(self.ledger.release(self.held.pop(), "ann", self.now))
            self.now += 3
            self.do(self.ledger.tick(self.now))
            self.check()


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_upgrades_and_reservations_keep_the_accounts_and_lose_nobody(first: int) -> None:
    for seed in range(first, first + 50):
        play = Play(seed)
        for _ in range(STEPS):
            play.step()
            play.check()
        play.wind_down()
        assert not play.open, f"seed {seed}"
