"""The contract as invariants, over interleavings that nobody thought of.

A state machine plays the shell: it asks, releases, speaks, pins, drains, lets loads and unloads
end in any order, well or badly, and moves the clock. After every step the rules are checked by
brute force. A punctual shell, one that ticks whenever something is due, is also compared with
`Plain`, which decides by the same rules without an index, a running total or a shortcut.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
)

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


# The rules without a shortcut


@dataclass(eq=False)
class Life:
    """One model in memory, as plain as can be."""

    demand: Demand
    number: int
    footprint: int
    ttl: float
    state: State = State.LOADING
    holders: Counter[str] = field(default_factory=Counter)
    streams: int = 0
    aboard: list[int] = field(default_factory=list)
    idle_since: float = 0.0
    keep_until: float = 0.0
    promised: bool = False

    @property
    def in_use(self) -> bool:
        return self.holders.total() > 0 or self.streams > 0

    @property
    def loading(self) -> bool:
        return self.state in (State.LOADING, State.WARMING)

    @property
    def leaving(self) -> bool:
        return self.state in (State.DRAINING, State.UNLOADING)

    @property
    def expires_at(self) -> float:
        return math.inf if self.ttl < 0 else max(self.idle_since + self.ttl, self.keep_until)


@dataclass(eq=False)
class Queued:
    """One model that waits for room; `callers` maps each ticket to its deadline."""

    demand: Demand
    callers: dict[int, float] = field(default_factory=dict)


class Plain:
    """The rules of residency, everything searched for anew every time.

    Decisions are sentences; tickets are numbers.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.lives: dict[str, Life] = {}
        self.queue: list[Queued] = []
        self.pins: set[str] = set()
        self.failures: dict[str, tuple[int, float]] = {}
        self.owners: dict[int, str] = {}
        self.closed = False
        self.number = 0

    # What is

    def of(self, *, device: str) -> list[Life]:
        return [life for life in self.lives.values() if life.demand.device == device]

    def budget(self, device: str) -> float:
        return self.policy.budgets.get(device, math.inf)

    def booked(self, device: str) -> int:
        return sum(life.footprint for life in self.of(device=device))

    def promised_bytes(self, device: str) -> int:
        return sum(life.footprint for life in self.of(device=device) if life.promised)

    def promised(self) -> int:
        return sum(life.promised for life in self.lives.values())

    def free_slot(self) -> bool:
        loading = sum(life.loading for life in self.lives.values())
        return loading < self.policy.max_parallel_loads

    def idle(self) -> list[Life]:
        return [
            life
            for life in self.lives.values()
            if life.state is State.READY
            and not life.in_use
            and life.demand.model_id not in self.pins
        ]

    def candidates(self, now: float) -> list[Life]:
        """Return those who may leave, least recently used first."""
        free = [life for life in self.idle() if now >= life.keep_until]
        return sorted(free, key=lambda life: (life.idle_since, life.number))

    def in_line(self) -> list[Queued]:
        return [queued for queued in self.queue if queued.demand.model_id not in self.lives]

    def missing(self, demand: Demand) -> float:
        return self.booked(demand.device) + demand.footprint - self.budget(demand.device)

    def fits(self, demand: Demand) -> bool:
        if self.missing(demand) > 0:
            return False
        below = len(self.lives) < self.policy.resident_cap
        return below or (self.policy.cap_policy == "soft" and not self.promised())

    def plan(self, demand: Demand, now: float) -> list[Life] | None:
        """Return who must leave for `demand`; `None` if that is not enough."""
        pool = self.candidates(now)
        chosen: list[Life] = []
        slots = len(self.lives) + 1 - self.policy.resident_cap - self.promised()
        size = self.missing(demand) - self.promised_bytes(demand.device)
        while slots > 0 or size > 0:
            fit = [life for life in pool if size <= 0 or life.demand.device == demand.device]
            if not fit:
                break
            pool.remove(fit[0])
            chosen.append(fit[0])
            slots -= 1
            if fit[0].demand.device == demand.device:
                size -= fit[0].footprint
        enough = size <= 0 and (slots <= 0 or self.policy.cap_policy == "soft")
        return chosen if enough else None

    def too_many(self) -> bool:
        return len(self.lives) - self.promised() > self.policy.resident_cap

    def too_much(self) -> list[str]:
        return [
            device
            for device in self.policy.budgets
            if self.booked(device) - self.promised_bytes(device) > self.budget(device)
        ]

    def opens_at(self, demand: Demand, now: float) -> float:
        staying = [life for life in self.lives.values() if not life.leaving]
        pinned = [life for life in staying if life.demand.model_id in self.pins]
        fixed = sum(life.footprint for life in pinned if life.demand.device == demand.device)
        if fixed + demand.footprint > self.budget(demand.device):
            return math.inf
        unsettled = any(life.leaving or life.loading for life in self.lives.values())
        if unsettled or self.fits(demand):
            return now
        return max(now, min((x.keep_until for x in staying if x not in pinned), default=math.inf))

    def retry_after(self, demand: Demand, now: float) -> float | None:
        opens_at = self.opens_at(demand, now)
        if math.isinf(opens_at):
            return None
        return opens_at - now if opens_at > now else self.policy.first_retry

    def next_due(self, now: float) -> float:
        moments = [life.expires_at for life in self.idle()]
        moments += [deadline for queued in self.queue for deadline in queued.callers.values()]
        if self.in_line() or self.too_many() or self.too_much():
            moments += [life.keep_until for life in self.idle() if life.keep_until > now]
        return min(moments, default=math.inf)

    # What is decided

    def advance(self, now: float) -> list[str]:
        out: list[str] = []
        for device in dict.fromkeys(queued.demand.device for queued in self.in_line()):
            self.serve(device, now, out)
        while (self.too_many() or self.too_much()) and (victims := self.surplus(now)):
            out += self.let_go(victims[0], Reason.SURPLUS)
        return out

    def serve(self, device: str, now: float, out: list[str]) -> None:
        while line := [queued for queued in self.in_line() if queued.demand.device == device]:
            head = line[0]
            victims = self.plan(head.demand, now) if self.free_slot() else None
            if victims is None:
                opens_at = self.opens_at(head.demand, now)
                late = [caller for caller, limit in head.callers.items() if opens_at > limit]
                wait = self.retry_after(head.demand, now)
                out += [self.refuse(caller, head, Reason.NO_ROOM, wait) for caller in late]
                if head.callers:
                    return
                continue
            for victim in victims:
                out += self.let_go(victim, Reason.EVICTED)
            if not self.fits(head.demand):
                return
            self.number += 1
            ttl = self.policy.ttl if head.demand.ttl is None else head.demand.ttl
            life = Life(head.demand, self.number, head.demand.footprint, ttl)
            life.aboard = list(head.callers)
            self.lives[head.demand.model_id] = life
            self.queue.remove(head)
            out.append(f"load {head.demand.model_id}")

    def surplus(self, now: float) -> list[Life]:
        if self.too_many():
            return self.candidates(now)
        devices = self.too_much()
        by_device = [[x for x in self.candidates(now) if x.demand.device == d] for d in devices]
        return next((victims for victims in by_device if victims), [])

    def let_go(self, life: Life, reason: Reason) -> list[str]:
        life.state = State.UNLOADING
        life.promised = True
        return [f"unload {life.demand.model_id} {reason.name}"]

    def refuse(
        self, caller: int, queued: Queued, reason: Reason, wait: float | None, problem: str = ""
    ) -> str:
        queued.callers.pop(caller, None)
        if not queued.callers and queued in self.queue:
            self.queue.remove(queued)
        return refusal(caller, reason, wait, problem)

    def tick(self, now: float) -> list[str]:
        out: list[str] = []
        due = [life for life in self.idle() if life.expires_at <= now]
        for life in due:
            out += self.let_go(life, Reason.EXPIRED)
        out += self.advance(now)
        for queued in list(self.queue):
            for caller in [c for c, limit in queued.callers.items() if limit <= now]:
                wait = self.retry_after(queued.demand, now)
                out.append(self.refuse(caller, queued, Reason.TIMED_OUT, wait))
        return out + self.advance(now)

    # What happens

    def hit(self, model_id: str, owner: str) -> bool:
        life = self.lives.get(model_id)
        if self.closed or life is None or life.state is not State.READY:
            return False
        life.holders[owner] += 1
        return True

    def request(self, caller: int, demand: Demand, owner: str, now: float) -> list[str]:
        self.owners[caller] = owner
        life = self.lives.get(demand.model_id)
        if life is not None and life.loading and not self.closed:
            life.aboard.append(caller)
            return [f"join {caller}"]
        deadline = now + self.policy.acquire_timeout
        refused = self.refused_at_once(caller, demand, deadline, now)
        if refused:
            return [refused]
        queued = next((q for q in self.queue if q.demand.model_id == demand.model_id), None)
        if queued is None:
            queued = Queued(demand)
            self.queue.append(queued)
        queued.callers[caller] = deadline
        out = self.advance(now)
        waits = any(caller in other.callers for other in self.queue)
        return [*out, f"wait {caller} {deadline:g}"] if waits else out

    def refused_at_once(self, caller: int, demand: Demand, deadline: float, now: float) -> str:
        _, retry_at = self.failures.get(demand.model_id, (0, -math.inf))
        if self.closed:
            return refusal(caller, Reason.SHUTDOWN, None)
        if now < retry_at:
            return refusal(caller, Reason.BACKING_OFF, retry_at - now, "boom")
        if demand.footprint > self.budget(demand.device):
            return refusal(caller, Reason.TOO_BIG, None)
        wait = self.retry_after(demand, now)
        if self.opens_at(demand, now) > deadline:
            return refusal(caller, Reason.NO_ROOM, wait)
        if sum(len(queued.callers) for queued in self.queue) >= self.policy.max_waiting:
            return refusal(caller, Reason.LINE_FULL, wait)
        return ""

    def cancel(self, caller: int, now: float) -> list[str]:
        for life in self.lives.values():
            if caller in life.aboard:
                life.aboard.remove(caller)
        for queued in list(self.queue):
            if caller in queued.callers:
                self.refuse(caller, queued, Reason.TIMED_OUT, None)
        return self.advance(now)

    def release(self, model_id: str, owner: str, now: float) -> list[str]:
        life = self.lives[model_id]
        life.holders[owner] -= 1
        return self.used(life, now)

    def open_stream(self, model_id: str) -> list[str]:
        self.lives[model_id].streams += 1
        return []

    def close_stream(self, model_id: str, now: float) -> list[str]:
        life = self.lives[model_id]
        life.streams -= 1
        return self.used(life, now)

    def used(self, life: Life, now: float) -> list[str]:
        if life.in_use:
            return []
        life.idle_since = now
        drained = life.state is State.DRAINING
        return self.let_go(life, Reason.UNLOADED) if drained else []

    def pin(self, model_id: str) -> list[str]:
        self.pins.add(model_id)
        return []

    def unpin(self, model_id: str) -> list[str]:
        self.pins.discard(model_id)
        return []

    def begin_unload(self, model_id: str) -> list[str]:
        life = self.lives[model_id]
        if life.leaving:
            return []
        if life.in_use:
            life.state = State.DRAINING
            return []
        return self.let_go(life, Reason.UNLOADED)

    def end_drain(self, model_id: str) -> list[str]:
        life = self.lives.get(model_id)
        if self.closed or life is None or life.state is not State.DRAINING:
            return []
        life.state = State.READY
        callers = [
            caller
            for queued in self.queue
            if queued.demand.model_id == model_id
            for caller in queued.callers
        ]
        self.queue = [queued for queued in self.queue if queued.demand.model_id != model_id]
        return [self.grant(caller, life) for caller in callers]

    def grant(self, caller: int, life: Life) -> str:
        life.holders[self.owners[caller]] += 1
        return f"grant {caller}"

    def expel(self, model_id: str) -> list[str]:
        return self.let_go(self.lives[model_id], Reason.SHUTDOWN)

    def warming(self, model_id: str) -> list[str]:
        self.lives[model_id].state = State.WARMING
        return []

    def loaded(self, model_id: str, footprint: int | None, now: float) -> list[str]:
        life = self.lives[model_id]
        self.failures.pop(model_id, None)
        life.state = State.READY
        life.idle_since = now
        life.keep_until = now + self.policy.min_residency
        life.footprint = life.footprint if footprint is None else footprint
        out = [self.grant(caller, life) for caller in life.aboard]
        life.aboard = []
        return out + self.advance(now)

    def failed(self, model_id: str, now: float, *, gone: bool) -> list[str]:
        life = self.lives[model_id]
        count = self.failures.get(model_id, (0, 0.0))[0] + 1
        wait = min(self.policy.longest_retry, self.policy.first_retry * 2.0 ** (count - 1))
        self.failures[model_id] = (count, now + wait)
        out = [refusal(caller, Reason.LOAD_FAILED, wait, "boom") for caller in life.aboard]
        life.aboard = []
        life.state = State.UNLOADING
        if gone:
            del self.lives[model_id]
        return out

    def overdue(self, model_id: str) -> list[str]:
        self.lives[model_id].promised = False
        return []

    def gone(self, model_id: str) -> list[str]:
        del self.lives[model_id]
        return []

    def close(self) -> list[str]:
        self.closed = True
        callers = [caller for queued in self.queue for caller in queued.callers]
        callers += [caller for life in self.lives.values() for caller in life.aboard]
        self.queue = []
        for life in self.lives.values():
            life.aboard = []
        return [refusal(caller, Reason.SHUTDOWN, None) for caller in callers]


def refusal(caller: int, reason: Reason, wait: float | None, problem: str = "") -> str:
    return f"refuse {caller} {reason.name} {wait} {problem}"


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
        self, policy: Policy, shaped: list[tuple[str, int, float | None]], punctual: bool
    ) -> None:
        self.policy = policy
        self.demands = {
            model_id: Demand(model_id, *shape)
            for model_id, shape in zip(MODELS, shaped, strict=True)
        }
        self.ledger = Residency(policy)
        self.plain = Plain(policy)
        self.punctual = punctual
        self.now = 0.0
        self.steps = 0
        self.closed = False
        self.callers: dict[Ticket, int] = {}
        self.open_tickets: list[Ticket] = []
        self.leases: list[tuple[Resident, str]] = []
        self.streams: list[Resident] = []
        self.promised: set[Resident] = set()
        self.ready_at: dict[Resident, float] = {}
        self.used_at: dict[Resident, float] = {}
        self.refusals: Counter[Reason] = Counter()
        self.departures: Counter[Reason] = Counter()
        self.expelled: set[Resident] = set()

    # Callers

    @rule(model_id=models, owner=st.sampled_from(OWNERS))
    def ask(self, model_id: str, owner: str) -> None:
        hit = self.ledger.hit(model_id, owner, self.now)
        if self.punctual:
            assert self.plain.hit(model_id, owner) == (hit is not None)
        if hit is not None:
            assert hit.state is State.READY
            assert hit.instance is not None
            self.leases.append((hit, owner))
            return
        demand = self.demands[model_id]
        ticket, out = self.ledger.request(demand, owner, self.now)
        self.callers[ticket] = len(self.callers)
        self.open_tickets.append(ticket)
        self.expect(out, "request", self.callers[ticket], demand, owner, self.now)
        assert any(
            getattr(decision, "ticket", None) is ticket
            or (isinstance(decision, Load) and ticket in decision.resident.aboard)
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

    @precondition(lambda self: self.closed and self.speakers())
    @rule(pick=picks)
    def expel(self, pick: int) -> None:
        resident = chosen(self.speakers(), pick)
        self.expelled.add(resident)
        out = self.ledger.expel(resident.model_id)
        self.expect(out, "expel", resident.model_id)

    # Engines

    @precondition(lambda self: self.arriving())
    @rule(pick=picks, measured=st.sampled_from([None, None, 0, 2, 7]), warm=st.booleans())
    def land(self, pick: int, measured: int | None, warm: bool) -> None:
        resident = chosen(self.arriving(), pick)
        if warm:
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
            foretold = getattr(self.plain, step)(*args, **facts) if step else []
            foretold += self.plain.tick(self.now)
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
                        booked = self.ledger.room.booked[resident.device]
                        assert booked <= self.policy.budgets[resident.device]
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
                    assert reason is not Reason.TIMED_OUT or self.now >= ticket.deadline
                case Wait(ticket, until):
                    assert until == ticket.deadline == ticket.since + self.policy.acquire_timeout

    def judge_departure(self, resident: Resident, reason: Reason) -> None:
        self.departures[reason] += 1
        self.promised.add(resident)
        assert resident.state is State.UNLOADING
        if reason is Reason.SHUTDOWN:
            assert resident in self.expelled
            return
        assert not any(held is resident for held, _ in self.leases)
        assert not any(speaking is resident for speaking in self.streams)
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
        aboard = [ticket for resident in self.ledger.residents for ticket in resident.aboard]
        waiting = self.ledger.waiting.everybody()
        assert Counter(aboard) + Counter(waiting) == Counter(self.open_tickets)
        assert self.ledger.waiting.count == len(waiting)
        assert not any(ticket.granted for ticket in self.open_tickets)

    def accounts_equal_what_is_in_memory(self) -> None:
        room, residents = self.ledger.room, list(self.ledger.residents)
        staying = [r for r in residents if not r.leaving]
        movable = [r for r in staying if not r.pinned]
        kept = [r for r in movable if r.kept]
        assert room._count == len(residents)
        assert room._loading == len(self.arriving())
        assert room._leaving == len(residents) - len(staying)
        assert room._promised == len(self.promised)
        assert {r for r in residents if r.promised} == self.promised
        assert room._movable == len(movable)
        assert room._kept == len(kept) == len(room._maturing)
        for device in ("cpu", "gpu"):
            here = [r for r in residents if r.device == device]
            assert room.booked[device] == sum(r.footprint for r in here)
            pinned = sum(r.footprint for r in here if r.pinned and not r.leaving)
            assert room._pinned_bytes[device] == pinned
            promised = sum(r.footprint for r in here if r in self.promised)
            assert room._promised_bytes[device] == promised
        for resident in staying:
            assert resident.pinned == self.ledger.is_pinned(resident.model_id)
            if resident.state is State.READY and not resident.pinned:
                over = self.now >= self.ready_at[resident] + self.policy.min_residency
                assert resident.kept or over

    def decisions_are_counted(self) -> None:
        assert self.ledger.refusals == self.refusals
        assert self.ledger.departures == self.departures

    def nobody_waits_in_vain(self) -> None:
        for device in ("cpu", "gpu"):
            line = [q for q in self.plain.in_line() if q.demand.device == device]
            if line and self.plain.free_slot():
                victims = self.plain.plan(line[0].demand, self.now)
                assert not victims
                assert victims is None or not self.plain.fits(line[0].demand)
        assert all(ticket.deadline > self.now for ticket in self.ledger.waiting.everybody())

    def the_plain_ledger_agrees(self) -> None:
        assert {r.model_id: seen(r) for r in self.ledger.residents} == {
            model_id: (life.state, life.footprint, life.holders.total(), life.streams)
            for model_id, life in self.plain.lives.items()
        }
        queued = {caller for queued in self.plain.queue for caller in queued.callers}
        assert {self.callers[t] for t in self.ledger.waiting.everybody()} == queued
        assert self.now < self.ledger.next_due() <= self.plain.next_due(self.now)

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
        while self.speakers():
            self.expel(0)
        while self.ledger_in(State.UNLOADING):
            self.go(0, overdue=False)
        room = self.ledger.room
        assert not self.ledger.residents
        assert not self.open_tickets
        assert not +room.booked
        assert (room._count, room._loading, room._leaving, room._promised) == (0, 0, 0, 0)
        assert (room._movable, room._kept) == (0, 0)
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

    def free_to_go(self) -> list[Resident]:
        return [
            r
            for r in self.ready()
            if not r.in_use
            and not self.ledger.is_pinned(r.model_id)
            and self.now >= self.ready_at[r] + self.policy.min_residency
        ]

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
