"""The contract as invariants, over interleavings that nobody thought of.

A state machine plays the shell: it asks, releases, speaks, pins, drains, lets loads and unloads
end in any order, well or badly, and moves the clock. After every step the rules are checked by
brute force. A punctual shell, one that ticks whenever something is due, is also compared with
`ReferenceLedger`, which decides by the same rules without an index, a running total or a shortcut.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.ledger.capacity import NOISE, RESERVED_ON
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Granted,
    Joined,
    Load,
    ModelRequest,
    Policy,
    Reason,
    Refused,
    Resident,
    State,
    Ticket,
    Unload,
    Wait,
)
from tests.ledger.reference_ledger import ReferenceLedger, refusal

PROFILES = {
    "thorough": settings(
        max_examples=3_000, stateful_step_count=60, deadline=None, report_multiple_bugs=False
    ),
    "default": settings(max_examples=400, stateful_step_count=50, deadline=None),
    "mutants": settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    ),
}

T = TypeVar("T")


# The shell


MODELS = ("amy", "joe", "kim", "lou", "max")
OWNERS = ("ann", "bob")

policies = st.builds(
    Policy,
    resident_cap=st.integers(1, 3),
    cap_policy=st.sampled_from(["soft", "hard"]),
    budgets=st.sampled_from([{}, {"cpu": 6}, {"cpu": 9, "gpu": 5}]),
    ttl=st.sampled_from([4.0, 0.0, 20.0, -1.0]),
    min_residency=st.sampled_from([0.0, 3.0, 10.0]),
    max_parallel_loads=st.integers(1, 2),
    acquire_timeout=st.sampled_from([5.0, 0.0, 12.0]),
    max_waiting=st.sampled_from([1024, 2]),
    first_retry=st.just(1.0),
    longest_retry=st.just(4.0),
)
shapes = st.tuples(
    st.sampled_from(["cpu", "gpu"]),
    st.integers(1, 6),
    st.sampled_from([None, 0.0, 2.0, -1.0]),
    st.sampled_from([None, None, 0, 3, 7]),
)
picks = st.integers(0, 99)
models = st.sampled_from(MODELS)


class Shell(RuleBasedStateMachine):
    """Everything that can happen to a ledger, in any order."""

    sound = False
    """Whether the last step kept the contract."""

    @initialize(
        policy=policies,
        shaped=st.lists(shapes, min_size=len(MODELS), max_size=len(MODELS)),
        punctual=st.sampled_from([True, True, False]),
    )
    def open(
        self,
        policy: Policy,
        shaped: list[tuple[str, int, float | None, int | None]],
        punctual: bool,
    ) -> None:
        self.policy = policy
        self.requests = {
            model_id: ModelRequest(model_id, *shape)
            for model_id, shape in zip(MODELS, shaped, strict=True)
        }
        self.ledger = Residency(policy)
        self.reference = ReferenceLedger(policy)
        self.punctual = punctual
        self.now = 0.0
        self.steps = 0
        self.closed = False
        self.callers: dict[Ticket, int] = {}
        self.open_tickets: list[Ticket] = []
        self.leases: list[tuple[Resident, Hashable]] = []
        self.streams: list[Resident] = []
        self.promised: set[Resident] = set()
        self.ready_at: dict[Resident, float] = {}
        self.used_at: dict[Resident, float] = {}
        self.refusals: Counter[Reason] = Counter()
        self.departures: Counter[Reason] = Counter()
        self.forced: set[Resident] = set()
        self.upgrades: list[Resident] = []
        self.reserved = 0

    # Callers

    @rule(model_id=models, owner=st.sampled_from(OWNERS))
    def ask(self, model_id: str, owner: str) -> None:
        hit = self.ledger.hit(model_id, owner, self.now)
        if self.punctual:
            assert self.reference.hit(model_id, owner) == (hit is not None)
        if hit is not None:
            assert hit.state is State.READY
            assert hit.instance is not None
            self.leases.append((hit, owner))
            return
        request = self.requests[model_id]
        ticket, out = self.ledger.request(request, owner, self.now)
        self.callers[ticket] = len(self.callers)
        self.open_tickets.append(ticket)
        self.expect(out, "request", self.callers[ticket], request, owner, self.now)
        assert any(
            getattr(decision, "ticket", None) is ticket
            or (isinstance(decision, Load) and ticket in decision.resident.waiters)
            for decision in out
        )

    @precondition(lambda self: self.open_tickets)
    @rule(pick=picks)
    def give_up(self, pick: int) -> None:
        ticket = chosen(self.open_tickets, pick)
        self.open_tickets.remove(ticket)
        out = self.ledger.cancel(ticket, self.now)
        self.expect(out, "cancel", self.callers[ticket], self.now)

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        resident, owner = self.leases.pop(pick % len(self.leases))
        self.note_use(resident)
        out = self.ledger.release(resident.model_id, owner, self.now)
        self.expect(out, "release", resident.model_id, owner, self.now)

    @precondition(lambda self: self.speakers())
    @rule(pick=picks)
    def speak(self, pick: int) -> None:
        resident = chosen(self.speakers(), pick)
        self.ledger.open_stream(resident)
        self.streams.append(resident)
        self.expect(None, "open_stream", resident.model_id)

    @precondition(lambda self: self.streams)
    @rule(pick=picks)
    def hush(self, pick: int) -> None:
        resident = self.streams.pop(pick % len(self.streams))
        self.note_use(resident)
        out = self.ledger.close_stream(resident, self.now)
        self.expect(out, "close_stream", resident.model_id, self.now)

    # Operators

    @rule(model_id=models)
    def pin_or_unpin(self, model_id: str) -> None:
        if self.ledger.is_pinned(model_id):
            self.expect(self.ledger.unpin(model_id, self.now), "unpin", model_id)
        else:
            self.expect(self.ledger.pin(model_id, self.now), "pin", model_id)

    @precondition(lambda self: self.ready() or self.arriving())
    @rule(pick=picks, ttl=st.sampled_from([4.0, 0.0, 20.0, -1.0]))
    def keep_alive(self, pick: int, ttl: float) -> None:
        resident = chosen([*self.ready(), *self.arriving()], pick)
        out = self.ledger.keep_alive(resident.model_id, ttl, self.now)
        self.expect(out, "keep_alive", resident.model_id, ttl)

    @precondition(lambda self: self.ready() or self.ledger_in(State.DRAINING))
    @rule(pick=picks)
    def unload(self, pick: int) -> None:
        resident = chosen([*self.ready(), *self.ledger_in(State.DRAINING)], pick)
        out = self.ledger.begin_unload(resident.model_id, self.now, drain=True)
        self.expect(out, "begin_unload", resident.model_id)

    @precondition(lambda self: self.ledger_in(State.DRAINING))
    @rule(pick=picks)
    def end_drain(self, pick: int) -> None:
        resident = chosen(self.ledger_in(State.DRAINING), pick)
        out = self.ledger.end_drain(resident.model_id, self.now)
        self.expect(out, "end_drain", resident.model_id)

    @precondition(lambda self: self.steps >= 60 and not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.expect(self.ledger.close(), "close")

    @precondition(lambda self: self.closed and self.without_threads())
    @rule(pick=picks)
    def force_unload(self, pick: int) -> None:
        resident = chosen(self.without_threads(), pick)
        self.forced.add(resident)
        out = self.ledger.force_unload(resident.model_id)
        self.expect(out, "force_unload", resident.model_id)

    # Work beside the callers

    @precondition(lambda self: self.ready())
    @rule(pick=picks)
    def begin_upgrade(self, pick: int) -> None:
        resident = chosen(self.ready(), pick)
        began = self.ledger.begin_upgrade(resident)
        assert began == (not self.closed and resident not in self.upgrades)
        if self.punctual:
            assert began == self.reference.may_upgrade(resident.model_id)
        if began:
            self.upgrades.append(resident)
            self.expect(None, "begin_upgrade", resident.model_id)

    @precondition(lambda self: self.upgrades)
    @rule(pick=picks, measured=st.sampled_from([None, None, 0, 2, 7]))
    def end_upgrade(self, pick: int, measured: int | None) -> None:
        resident = self.upgrades.pop(pick % len(self.upgrades))
        out = self.ledger.end_upgrade(resident, self.now, measured)
        self.expect(out, "end_upgrade", resident.model_id, measured)

    @rule(size=st.integers(1, 9))
    def reserve(self, size: int) -> None:
        reserved = self.ledger.reserve(size)
        if self.punctual:
            assert reserved == self.reference.may_reserve(size)
        if reserved:
            assert not self.reserved
            self.reserved = size
            self.expect(None, "reserve", size)

    @precondition(lambda self: self.reserved)
    @rule()
    def unreserve(self) -> None:
        self.reserved = 0
        self.expect(self.ledger.unreserve(self.now), "unreserve")

    # Engines

    @precondition(lambda self: self.arriving())
    @rule(pick=picks, measured=st.sampled_from([None, None, 0, 2, 7]), warm=st.booleans())
    def land(self, pick: int, measured: int | None, warm: bool) -> None:
        resident = chosen(self.arriving(), pick)
        if warm and resident.state is State.LOADING:
            self.ledger.warming(resident, 0.5)
            self.expect(None, "warming", resident.model_id)
        else:
            self.ready_at[resident] = self.used_at[resident] = self.now
            out = self.ledger.loaded(resident, object(), self.now, footprint=measured)
            self.expect(out, "loaded", resident.model_id, measured, self.now)

    @precondition(lambda self: self.arriving())
    @rule(pick=picks, gone=st.booleans())
    def fail(self, pick: int, gone: bool) -> None:
        resident = chosen(self.arriving(), pick)
        out = self.ledger.failed(resident, "boom", self.now, gone=gone)
        self.expect(out, "failed", resident.model_id, self.now, gone=gone)

    @precondition(lambda self: self.ledger_in(State.UNLOADING))
    @rule(pick=picks, overdue=st.sampled_from([False, False, True]))
    def go(self, pick: int, overdue: bool) -> None:
        resident = chosen(self.ledger_in(State.UNLOADING), pick)
        self.promised.discard(resident)
        if overdue:
            self.expect(self.ledger.overdue(resident, self.now), "overdue", resident.model_id)
            return
        self.leases = [lease for lease in self.leases if lease[0] is not resident]
        self.streams = [stream for stream in self.streams if stream is not resident]
        self.expect(self.ledger.gone(resident, self.now), "gone", resident.model_id)
        assert resident.instance is None

    @rule(taken=st.sampled_from([{}, {"cpu": NOISE + 6}, {"cpu": NOISE + 10, "gpu": NOISE + 9}]))
    def look(self, taken: dict[str, int]) -> None:
        """See what the process takes of each device."""
        self.expect(self.ledger.observed(taken, self.now), "observed", taken)

    @rule(wanted=st.lists(models, min_size=1, max_size=4))
    def visit(self, wanted: list[str]) -> None:
        """Let callers come and go, and engines keep up with them."""
        for model_id in wanted:
            self.ask(model_id, "cal")
            while self.ledger_in(State.UNLOADING):
                self.go(0, overdue=False)
            while self.arriving():
                self.land(0, None, warm=False)
            if self.leases:
                self.release(-1)

    # The clock

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.punctual and (due := self.ledger.next_due()) <= until:
            assert due > self.now
            self.now = due
            self.tick()
        self.now = until

    @rule()
    def tick(self) -> None:
        self.expect(self.ledger.tick(self.now))
        assert self.ledger.next_due() > self.now

    # Comparing

    def expect(
        self, out: Sequence[Decision] | None, step: str = "", *args: Any, **facts: Any
    ) -> None:
        """Check what the ledger decided, and that a plain one decides the same."""
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
                    if resident.device in self.policy.budgets:
                        booked = self.ledger.capacity.booked[resident.device]
                        booked += self.reserved if resident.device == RESERVED_ON else 0
                        assert booked <= self.policy.budgets[resident.device]
                    if self.ledger.capacity.is_overdrawn(resident.device):
                        assert [
                            r for r in self.ledger.residents if r.device == resident.device
                        ] == [resident]
                case Unload(resident, reason):
                    self.judge_departure(resident, reason)
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

    def judge_departure(self, resident: Resident, reason: Reason) -> None:
        self.departures[reason] += 1
        self.promised.add(resident)
        assert resident.state is State.UNLOADING
        if reason is Reason.SHUTDOWN:
            assert resident in self.forced
            assert not resident.occupied
            return
        assert not any(held is resident for held, _ in self.leases)
        assert not any(speaking is resident for speaking in self.streams)
        assert resident not in self.upgrades
        if reason is Reason.UNLOADED:
            return
        assert not self.ledger.is_pinned(resident.model_id)
        assert self.now >= self.ready_at[resident] + self.policy.min_residency
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
            self.the_plain_ledger_agrees()
        self.sound = True

    def hard_cap_is_never_exceeded(self) -> None:
        if self.policy.cap_policy == "hard":
            assert len(self.ledger.residents) <= self.policy.resident_cap

    def loads_in_parallel_are_bounded(self) -> None:
        loading = self.arriving()
        assert len(loading) <= self.policy.max_parallel_loads

    def references_are_exactly_the_leases(self) -> None:
        held = Counter(resident for resident, _ in self.leases)
        speaking = Counter(self.streams)
        for resident in self.ledger.residents:
            assert resident.refcount == held[resident]
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
        assert {r for r in residents if r.promised} == self.promised
        assert capacity._movable == len(movable)
        assert len(protected) == len(capacity._protected)
        for device in ("cpu", "gpu"):
            here = [r for r in residents if r.device == device]
            assert capacity.booked[device] == sum(r.footprint for r in here)
            pinned = sum(r.footprint for r in here if r.pinned and not r.leaving)
            assert capacity._pinned_bytes[device] == pinned
            promised = sum(r.footprint for r in here if r in self.promised)
            assert capacity._promised_bytes[device] == promised
        for resident in staying:
            assert resident.pinned == self.ledger.is_pinned(resident.model_id)
            if resident.state is State.READY and not resident.pinned:
                over = self.now >= self.ready_at[resident] + self.policy.min_residency
                assert resident.protected or over

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

    def the_plain_ledger_agrees(self) -> None:
        assert {r.model_id: seen(r) for r in self.ledger.residents} == {
            model_id: (life.state, life.footprint, life.holders.total(), life.streams)
            for model_id, life in self.reference.lives.items()
        }
        queued = {caller for queued in self.reference.queue for caller in queued.callers}
        assert {self.callers[t] for t in self.ledger.queue.all_tickets()} == queued
        assert self.now < self.ledger.next_due() <= self.reference.next_due(self.now)
        blocks = self.reference.reservation_blocks_callers()
        assert self.ledger.reservation_blocks_callers == blocks

    def teardown(self) -> None:
        """When everything has ended, nothing is left and nothing is booked."""
        if not self.sound:
            return
        if not self.closed:
            self.close()
        while self.arriving():
            self.fail(0, gone=True)
        while self.leases:
            self.release(0)
        while self.streams:
            self.hush(0)
        while self.upgrades:
            self.end_upgrade(0, None)
        if self.reserved:
            self.unreserve()
        while self.speakers():
            self.force_unload(0)
        while self.ledger_in(State.UNLOADING):
            self.go(0, overdue=False)
        capacity = self.ledger.capacity
        assert not self.ledger.residents
        assert not self.open_tickets
        assert not +capacity.booked
        assert (capacity._count, capacity.loading, capacity._leaving, capacity._promised) == (
            0,
            0,
            0,
            0,
        )
        assert (capacity._movable, len(capacity._protected)) == (0, 0)
        assert self.ledger.next_due() == math.inf

    # What is there

    def ledger_in(self, *states: State) -> list[Resident]:
        return [r for r in self.ledger.residents if r.state in states]

    def arriving(self) -> list[Resident]:
        return self.ledger_in(State.LOADING, State.WARMING)

    def ready(self) -> list[Resident]:
        return self.ledger_in(State.READY)

    def speakers(self) -> list[Resident]:
        return self.ledger_in(State.READY, State.DRAINING)

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
        if not any(held is resident for held, _ in self.leases) and resident not in self.streams:
            self.used_at[resident] = self.now


def chosen(things: Sequence[T], pick: int) -> T:
    return things[pick % len(things)]


def seen(resident: Resident) -> tuple[State, int, int, int]:
    return resident.state, resident.footprint, resident.refcount, resident.streams


TestRules = Shell.TestCase
TestRules.settings = PROFILES.get(
    os.environ.get("HYPOTHESIS_PROFILE", "default"), PROFILES["default"]
)
