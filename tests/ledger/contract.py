"""The contract of the ledger, checked by brute force after every step of a random play."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from greenroom.ledger.capacity import RESERVED_ON
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Drain,
    Forgotten,
    Granted,
    Joined,
    Load,
    ModelRequest,
    Policy,
    Reason,
    Refused,
    Resident,
    State,
    Stay,
    Ticket,
    Unload,
    Wait,
)
from tests.ledger.reference_ledger import ReferenceLedger, refusal


class ContractMachine(RuleBasedStateMachine):
    """A ledger, what callers and engines have of it, and the rules that must hold between them."""

    sound = False
    """Whether the last step kept the contract."""

    def begin(self, policy: Policy, requests: dict[str, ModelRequest], *, punctual: bool) -> None:
        """Begin with an empty ledger; a punctual play is compared with the reference ledger."""
        self.policy = policy
        self.requests = requests
        self.ledger = Residency(policy)
        self.reference = ReferenceLedger(policy)
        self.punctual = punctual
        self.now = 0.0
        self.steps = 0
        self.closed = False
        self.callers: dict[Ticket, int] = {}
        self.open_tickets: list[Ticket] = []
        self.leases: list[tuple[Resident, Hashable]] = []
        self.streams: list[tuple[Resident, float]] = []
        self.promised: set[Resident] = set()
        self.ready_at: dict[Resident, float] = {}
        self.used_at: dict[Resident, float] = {}
        self.refusals: Counter[Reason] = Counter()
        self.departures: Counter[Reason] = Counter()
        self.forced: set[Resident] = set()
        self.upgrades: list[Resident] = []
        self.parked: dict[Resident, set[Hashable]] = defaultdict(set)
        self.reserved = 0

    # Comparing with the reference ledger

    def expect(
        self, out: Sequence[Decision] | None, step: str = "", *args: Any, **facts: Any
    ) -> None:
        """Check what the ledger decided, and that the reference ledger decides the same."""
        self.steps += 1
        self.sound = False
        decided = list(out or ())
        if self.punctual and self.ledger.next_due() <= self.now:
            decided += self.ledger.tick(self.now)
            assert self.ledger.next_due() > self.now
        self.judge(decided)
        if self.punctual:
            foretold = getattr(self.reference, step)(*args, **facts) if step else []
            foretold += self.reference.tick(self.now)
            assert sorted(self.sentences(decided)) == sorted(foretold)

    def sentences(self, decisions: Iterable[Decision]) -> list[str]:
        told = []
        for decision in decisions:
            match decision:
                case Load(resident):
                    told.append(f"load {resident.model_id}")
                case Unload(resident, reason):
                    told.append(f"unload {resident.model_id} {reason.name}")
                case Drain(resident, makes_room_for):
                    told.append(f"drain {resident.model_id} for {makes_room_for}")
                case Forgotten(model_id):
                    told.append(f"forget {model_id}")
                case Stay(resident):
                    told.append(f"stay {resident.model_id}")
                case Granted(ticket):
                    told.append(f"grant {self.callers[ticket]}")
                case Joined(ticket):
                    told.append(f"join {self.callers[ticket]}")
                case Wait(ticket, until):
                    told.append(f"wait {self.callers[ticket]} {until:g}")
                case Refused(ticket, reason, wait, problem):
                    told.append(refusal(self.callers[ticket], reason, wait, problem))
        return told

    # The rules

    def judge(self, decisions: Iterable[Decision]) -> None:
        """Check every decision against the contract, and remember it."""
        for decision in decisions:
            match decision:
                case Load(resident):
                    assert not self.closed
                    if resident.expected_until is not None:
                        assert not self.ledger.queue.count
                        assert len(self.ledger.residents) <= self.policy.resident_cap
                    if resident.device in self.policy.budgets:
                        booked = self.ledger.capacity.booked[resident.device]
                        booked += self.reserved if resident.device == RESERVED_ON else 0
                        assert booked <= self.policy.budgets[resident.device]
                    if self.ledger.capacity.is_overdrawn(resident.device):
                        assert [
                            r for r in self.ledger.residents if r.device == resident.device
                        ] == [resident]
                case Unload(resident, reason, _, parked):
                    self.judge_departure(resident, reason, parked)
                case Drain(resident):
                    self.judge_turn(resident)
                case Stay(resident):
                    assert resident.state is not State.UNLOADING
                case Granted(ticket, resident):
                    self.open_tickets.remove(ticket)
                    self.leases.append((resident, ticket.owner))
                    assert resident.instance is not None
                case Refused(ticket, reason, wait):
                    self.open_tickets.remove(ticket)
                    self.refusals[reason] += 1
                    assert wait is None or wait > 0
                    late = reason in (Reason.TIMED_OUT, Reason.OVERDRAWN)
                    assert not late or self.now >= ticket.deadline
                    if reason is Reason.TOO_BIG:
                        assert (
                            self.certain(ticket)
                            > self.policy.budgets[self.requests[ticket.model_id].device]
                        )
                case Wait(ticket, until):
                    assert until == ticket.deadline == ticket.since + self.policy.acquire_timeout

    def judge_turn(self, resident: Resident) -> None:
        """Check that a model which is to leave for another has had its turn."""
        assert self.policy.turn_after >= 0
        assert not self.ledger.is_pinned(resident.model_id)
        assert self.now >= self.ready_at[resident] + max(self.policy.min_residency, 1.0)
        assert any(self.now >= t.since + self.policy.turn_after for t in self.open_tickets)

    def judge_departure(
        self, resident: Resident, reason: Reason, parked: tuple[Hashable, ...]
    ) -> None:
        self.departures[reason] += 1
        self.promised.add(resident)
        assert resident.state is State.UNLOADING
        if reason is Reason.SHUTDOWN:
            assert resident in self.forced
            assert not resident.occupied
            return
        if reason is Reason.TURN:
            lost = [lease for lease in self.leases if lease[0] is resident]
            assert {owner for _, owner in lost} == set(parked)
            assert set(parked) <= self.parked[resident]
            self.leases = [lease for lease in self.leases if lease[0] is not resident]
        assert not any(held is resident for held, _ in self.leases)
        assert not any(speaking is resident for speaking, _ in self.streams)
        assert resident not in self.upgrades
        if reason is Reason.UNLOADED:
            return
        assert not self.ledger.is_pinned(resident.model_id)
        kept = self.policy.min_residency if resident.expected_until is None else 0.0
        assert self.now >= self.ready_at[resident] + kept
        if reason is Reason.FORGOTTEN:
            assert resident.expected_until is not None
            assert self.now >= resident.expected_until
            return
        if reason is Reason.TURN:
            return
        if reason is Reason.EXPIRED:
            assert resident.ttl >= 0
            assert self.now >= self.used_at[resident] + resident.ttl
            return
        for spared in self.free_to_go():
            if spared.device == resident.device:
                assert self.age(resident) < self.age(spared)

    @invariant()
    def contract(self) -> None:
        self.hard_cap_is_never_exceeded()
        self.loads_in_parallel_are_bounded()
        self.references_are_exactly_the_leases()
        self.every_caller_is_somewhere_until_it_is_answered()
        self.accounts_equal_what_is_in_memory()
        self.decisions_are_counted()
        if self.punctual:
            self.nobody_waits_in_vain()
            self.the_reference_ledger_agrees()
        self.sound = True

    def hard_cap_is_never_exceeded(self) -> None:
        if self.policy.cap_policy == "hard":
            assert len(self.ledger.residents) <= self.policy.resident_cap

    def loads_in_parallel_are_bounded(self) -> None:
        loading = self.arriving()
        assert len(loading) <= self.policy.max_parallel_loads

    def references_are_exactly_the_leases(self) -> None:
        held = Counter(resident for resident, _ in self.leases)
        speaking = Counter(resident for resident, _ in self.streams)
        for resident in self.ledger.residents:
            assert resident.refcount == len(resident.references) == held[resident]
            assert resident.repeats.keys() <= resident.holders.keys()
            assert resident.parked <= resident.holders.keys()
            assert resident.parked == self.parked[resident] & resident.holders.keys()
            assert all(resident.repeats.values())
            assert resident.streams == speaking[resident]
            if resident in self.used_at and not resident.in_use:
                assert resident.idle_since == self.used_at[resident]

    def every_caller_is_somewhere_until_it_is_answered(self) -> None:
        waiters = [ticket for resident in self.ledger.residents for ticket in resident.waiters]
        waiting = self.ledger.queue.all_tickets()
        assert Counter(waiters) + Counter(waiting) == Counter(self.open_tickets)
        assert self.ledger.queue.count == len(waiting)
        assert not any(ticket.granted for ticket in self.open_tickets)

    def accounts_equal_what_is_in_memory(self) -> None:
        capacity, residents = self.ledger.capacity, list(self.ledger.residents)
        staying = [r for r in residents if not r.leaving]
        movable = [r for r in staying if not r.pinned]
        protected = [r for r in movable if r.protected]
        assert capacity._count == len(residents)
        assert capacity.loading == len(self.arriving())
        assert capacity._leaving == len(residents) - len(staying)
        assert capacity._promised == len(self.promised)
        for resident in residents:
            assert resident.promised == (resident in self.promised)
        assert capacity._movable == len(movable)
        assert len(protected) == len(capacity._protected)
        for device in ("cpu", "gpu"):
            here = [r for r in residents if r.device == device]
            assert capacity._count_on[device] == len(here)
            assert capacity.booked[device] == sum(r.footprint for r in here)
            pinned = sum(r.footprint for r in here if r.pinned and not r.leaving)
            assert capacity._pinned_bytes[device] == pinned
            promised = sum(r.footprint for r in here if r in self.promised)
            assert capacity._promised_bytes[device] == promised
        for resident in staying:
            assert resident.pinned == self.ledger.is_pinned(resident.model_id)
            if resident.state is State.READY and not resident.pinned:
                over = self.now >= self.ready_at[resident] + self.policy.min_residency
                assert resident.protected or over or resident.expected_until is not None

    def decisions_are_counted(self) -> None:
        assert self.ledger.refusals == self.refusals
        assert self.ledger.departures == self.departures

    def nobody_waits_in_vain(self) -> None:
        for device in ("cpu", "gpu"):
            line = [q for q in self.reference.in_line() if q.request.device == device]
            if line and self.reference.free_slot():
                victims = self.reference.plan(line[0].request, self.now)
                assert not victims
                assert victims is None or not self.reference.fits(line[0].request)
        assert all(ticket.deadline > self.now for ticket in self.ledger.queue.all_tickets())

    def the_reference_ledger_agrees(self) -> None:
        assert {r.model_id: seen(r) for r in self.ledger.residents} == {
            model_id: (life.state, life.footprint, life.holders.total(), life.streams)
            for model_id, life in self.reference.lives.items()
        }
        queued = {caller for queued in self.reference.queue for caller in queued.callers}
        assert {self.callers[t] for t in self.ledger.queue.all_tickets()} == queued
        assert self.now < self.ledger.next_due() <= self.reference.next_due(self.now)
        blocks = self.reference.reservation_blocks_callers()
        assert self.ledger.reservation_blocks_callers == blocks

    # What is there

    def ledger_in(self, *states: State) -> list[Resident]:
        return [r for r in self.ledger.residents if r.state in states]

    def arriving(self) -> list[Resident]:
        return self.ledger_in(State.LOADING, State.WARMING)

    def ready(self) -> list[Resident]:
        return self.ledger_in(State.READY)

    def speakers(self) -> list[Resident]:
        return self.ledger_in(State.READY, State.DRAINING)

    def held(self) -> list[tuple[Resident, Hashable]]:
        return [lease for lease in self.leases if not self.closed]

    def handed_over(self) -> list[Resident]:
        return [resident for resident in self.speakers() if resident.expected_until is None]

    def without_threads(self) -> list[Resident]:
        return [resident for resident in self.speakers() if not resident.occupied]

    def free_to_go(self) -> list[Resident]:
        return [
            r
            for r in self.ready()
            if not r.in_use
            and not r.upgrading
            and not self.ledger.is_pinned(r.model_id)
            and self.now >= self.ready_at[r] + self.policy.min_residency
        ]

    def certain(self, ticket: Ticket) -> int:
        request = self.requests[ticket.model_id]
        return request.footprint if request.min_footprint is None else request.min_footprint

    def age(self, resident: Resident) -> tuple[float, int]:
        return self.used_at[resident], resident.number

    def note_use(self, resident: Resident) -> None:
        if not any(used is resident for used, _ in [*self.leases, *self.streams]):
            self.used_at[resident] = self.now


def seen(resident: Resident) -> tuple[State, int, int, int]:
    return resident.state, resident.footprint, resident.refcount, resident.streams
