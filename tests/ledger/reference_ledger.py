"""The rules of residency without a shortcut: what the ledger is compared with."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

from greenroom.ledger.capacity import NOISE, RESERVED_ON
from greenroom.ledger.state import ModelRequest, Policy, Reason, State


@dataclass(eq=False)
class Life:
    """One model in memory, as plain as can be."""

    request: ModelRequest
    number: int
    footprint: int
    ttl: float
    state: State = State.LOADING
    holders: Counter[str] = field(default_factory=Counter)
    streams: int = 0
    waiters: list[int] = field(default_factory=list)
    idle_since: float = 0.0
    keep_until: float = 0.0
    promised: bool = False
    upgrading: bool = False
    load_s: float = 0.0
    tenure_from: float = 0.0
    turn: tuple[str, str, float] | None = None
    """The device whose line it drains for, the head of that, and when the drain is taken back."""
    parked: set[str] = field(default_factory=set)
    expected_until: float | None = None

    @property
    def in_use(self) -> bool:
        return self.holders.total() > 0 or self.streams > 0

    @property
    def kept(self) -> bool:
        held = any(count and owner not in self.parked for owner, count in self.holders.items())
        return held or self.streams > 0 or self.upgrading

    @property
    def loading(self) -> bool:
        return self.state in (State.LOADING, State.WARMING)

    @property
    def leaving(self) -> bool:
        return self.state in (State.DRAINING, State.UNLOADING)

    @property
    def expires_at(self) -> float:
        if self.expected_until is not None:
            return self.expected_until
        return math.inf if self.ttl < 0 else max(self.idle_since + self.ttl, self.keep_until)


@dataclass(eq=False)
class Queued:
    """One model that waits for room; `callers` maps each ticket to its deadline."""

    request: ModelRequest
    callers: dict[int, float] = field(default_factory=dict)

    def since(self, patience: float) -> float:
        return min(self.callers.values()) - patience


class ReferenceLedger:
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
        self.taken: dict[str, int] = {}
        self.reserved = 0
        self.shedding: set[str] = set()
        self.longest_load = 0.0
        self.longest_speech = 0.0
        self.intents: dict[str, tuple[ModelRequest, float]] = {}
        self.served: list[float] = []
        """When models of the line were loaded, since there is one."""

    # What is

    def of(self, *, device: str) -> list[Life]:
        return [life for life in self.lives.values() if life.request.device == device]

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
            and not life.upgrading
            and life.request.model_id not in self.pins
        ]

    def candidates(self, now: float) -> list[Life]:
        """Return those who may leave, least recently used first."""
        free = [life for life in self.idle() if now >= life.keep_until]
        return sorted(free, key=lambda life: (life.idle_since, life.number))

    def in_line(self) -> list[Queued]:
        return [queued for queued in self.queue if queued.request.model_id not in self.lives]

    def pinned_bytes(self, device: str) -> int:
        staying = [life for life in self.of(device=device) if not life.leaving]
        return sum(life.footprint for life in staying if life.request.model_id in self.pins)

    def need(self, request: ModelRequest) -> int:
        if request.min_footprint is None:
            return request.footprint
        left = max(0, self.budget(request.device) - self.pinned_bytes(request.device))
        return max(request.min_footprint, int(min(request.footprint, left)))

    def overdrawn(self, device: str) -> bool:
        return self.taken.get(device, 0) > self.budget(device) + NOISE

    def barred(self, device: str) -> bool:
        return self.overdrawn(device) and bool(self.of(device=device))

    def missing(self, request: ModelRequest) -> float:
        return self.booked(request.device) + self.need(request) - self.budget(request.device)

    def reserved_on(self, device: str) -> int:
        return self.reserved if device == RESERVED_ON else 0

    def needs_reserved(self, request: ModelRequest) -> bool:
        reserved = self.reserved_on(request.device)
        return reserved > 0 and self.missing(request) + reserved > 0

    def fits(self, request: ModelRequest) -> bool:
        missing = self.missing(request) + self.reserved_on(request.device)
        if missing > 0 or self.barred(request.device):
            return False
        below = len(self.lives) < self.policy.resident_cap
        return below or (self.policy.cap_policy == "soft" and not self.promised())

    def plan(self, request: ModelRequest, now: float) -> list[Life] | None:
        """Return who must leave for `request`; `None` if that is not enough."""
        if self.barred(request.device):
            return None
        pool = self.candidates(now)
        chosen: list[Life] = []
        slots = len(self.lives) + 1 - self.policy.resident_cap - self.promised()
        size = self.missing(request) - self.promised_bytes(request.device)
        while slots > 0 or size > 0:
            fit = [life for life in pool if size <= 0 or life.request.device == request.device]
            if not fit:
                break
            pool.remove(fit[0])
            chosen.append(fit[0])
            slots -= 1
            if fit[0].request.device == request.device:
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
            or device in self.shedding
        ]

    def opens_at(self, request: ModelRequest, now: float) -> float:
        staying = [life for life in self.lives.values() if not life.leaving]
        pinned = [life for life in staying if life.request.model_id in self.pins]
        if self.pinned_bytes(request.device) + self.need(request) > self.budget(request.device):
            return math.inf
        unsettled = any(life.leaving or life.loading for life in self.lives.values())
        if unsettled or self.needs_reserved(request):
            return now
        if self.fits(request) or self.barred(request.device):
            return now
        return max(now, min((x.keep_until for x in staying if x not in pinned), default=math.inf))

    def retry_after(self, request: ModelRequest, now: float) -> float | None:
        opens_at = self.opens_at(request, now)
        if math.isinf(opens_at):
            return None
        return opens_at - now if opens_at > now else self.policy.first_retry

    # Turns

    def places(self) -> int:
        lives = self.lives.values()
        return max(1, sum(x.leaving or x.request.model_id not in self.pins for x in lives))

    def waiting(self, device: str) -> int:
        return sum(queued.request.device == device for queued in self.queue)

    def quantum(self, device: str) -> float:
        cost = self.longest_load + self.longest_speech
        patience = self.policy.acquire_timeout - self.policy.turn_after
        in_time = self.places() * patience / max(1, self.waiting(device)) - cost
        return max(1.0, self.longest_speech, min(9 * self.longest_load, in_time))

    def tenant(self, request: ModelRequest) -> Life | None:
        """Return the one that is next to have had its turn."""
        if self.barred(request.device):
            return None
        missing = self.missing(request) > self.promised_bytes(request.device)
        tenants = [
            life
            for life in self.lives.values()
            if life.state is State.READY
            and life.request.model_id not in self.pins
            and (not missing or life.request.device == request.device)
        ]
        return min(tenants, key=lambda life: (life.tenure_from, life.number), default=None)

    def turn_due(self, head: Queued) -> float:
        """Return when the next turn is due for the head of a line that waits for room."""
        device = head.request.device
        under_way = [life for life in self.lives.values() if life.turn and life.turn[0] == device]
        tenant = self.tenant(head.request)
        if self.policy.turn_after < 0 or under_way or tenant is None:
            return math.inf
        waited = head.since(self.policy.acquire_timeout) + self.policy.turn_after
        return max(waited, tenant.tenure_from + self.quantum(device), tenant.keep_until)

    def take_turn(self, head: Queued, now: float) -> list[str]:
        if self.turn_due(head) > now:
            return []
        tenant = self.tenant(head.request)
        assert tenant is not None
        if not tenant.kept:
            return self.let_go(tenant, Reason.TURN)
        tenant.state = State.DRAINING
        limit = now + max(5.0, 2 * self.longest_speech)
        tenant.turn = (head.request.device, head.request.model_id, limit)
        return [f"drain {tenant.request.model_id} for {head.request.model_id}"]

    def take_back(self, life: Life, now: float) -> list[str]:
        life.turn = None
        life.state = State.READY
        if life.expected_until is not None:
            life.expected_until = None
            life.keep_until = now + self.policy.min_residency
        model_id = life.request.model_id
        waiting = [queued for queued in self.queue if queued.request.model_id == model_id]
        self.queue = [queued for queued in self.queue if queued not in waiting]
        callers = [caller for queued in waiting for caller in queued.callers]
        return [f"stay {model_id}", *(self.grant(caller, life) for caller in callers)]

    def line_wait(self, device: str, now: float) -> float | None:
        """Return how long one more model waits in a line that moves."""
        if self.policy.turn_after < 0 or len(self.served) < 2:
            return None
        cost = self.longest_load + self.longest_speech
        mean, *others = [b - a for a, b in itertools.pairwise(self.served)]
        for other in others:
            mean += 0.3 * (other - mean)
        quantum = max(1.0, self.longest_speech)
        interval = min(mean, max(cost, (quantum + cost) / self.places()))
        ahead = max(now, self.served[-1] + interval) - now
        return ahead + (self.waiting(device) + 1 - 1) * interval

    def retry_when_last(self, request: ModelRequest, now: float) -> float | None:
        wait, line = self.retry_after(request, now), self.line_wait(request.device, now)
        return wait if wait is None or line is None else max(wait, line)

    def next_due(self, now: float) -> float:
        moments = [life.expires_at for life in self.idle()]
        moments += [until for _, until in self.intents.values()]
        moments += [life.turn[2] for life in self.lives.values() if life.turn]
        if self.free_slot():
            heads = {queued.request.device: queued for queued in reversed(self.in_line())}
            stuck = [head for head in heads.values() if self.plan(head.request, now) is None]
            moments += map(self.turn_due, stuck)
        moments += [deadline for queued in self.queue for deadline in queued.callers.values()]
        if self.in_line() or self.intents or self.too_many() or self.too_much():
            moments += [life.keep_until for life in self.idle() if life.keep_until > now]
        return min(moments, default=math.inf)

    # What is decided

    def advance(self, now: float) -> list[str]:
        out: list[str] = []
        for life in self.lives.values():
            if life.turn and life.turn[2] <= now:
                life.tenure_from = now
                out += self.take_back(life, now)
        stuck = []
        for device in dict.fromkeys(queued.request.device for queued in self.in_line()):
            stuck += [device] * self.serve(device, now, out)
        needless = [x for x in self.lives.values() if x.turn and x.turn[0] not in stuck]
        for life in needless:
            out += self.take_back(life, now)
        if needless:
            return out + self.advance(now)
        while (self.too_many() or self.too_much()) and (victims := self.surplus(now)):
            if not self.too_many():
                self.shedding.discard(victims[0].request.device)
            out += self.let_go(victims[0], Reason.SURPLUS)
        self.begin_expected(now, out)
        if not self.queue:
            self.served.clear()
        return out

    def begin_expected(self, now: float, out: list[str]) -> None:
        for model_id, (request, until) in list(self.intents.items()):
            loading = any(life.loading for life in self.lives.values())
            if self.queue or loading or model_id in self.lives:
                return
            if now < self.failures.get(model_id, (0, -math.inf))[1]:
                del self.intents[model_id]
                out.append(f"forget {model_id}")
                continue
            victims = self.plan(request, now)
            if victims is None or any(x.expected_until is not None for x in victims):
                return
            promised = self.promised() + len(victims)
            if len(self.lives) + 1 - promised > self.policy.resident_cap:
                return
            for victim in victims:
                out += self.let_go(victim, Reason.EVICTED)
            if not self.fits(request):
                return
            self.bring_in(request, now, out).expected_until = until

    def prefetch(self, request: ModelRequest, within: float, now: float) -> list[str]:
        life = self.lives.get(request.model_id)
        if self.closed:
            return []
        if life is None or life.leaving:
            full = len(self.intents) >= self.policy.max_waiting
            if full and request.model_id not in self.intents:
                return [f"forget {request.model_id}"]
            self.intents[request.model_id] = (request, now + within)
            return self.advance(now)
        if life.expected_until is not None:
            life.expected_until = max(life.expected_until, now + within)
        elif life in self.idle() or self.is_idle_pinned(life):
            life.idle_since = now
        return []

    def is_idle_pinned(self, life: Life) -> bool:
        return life.state is State.READY and not life.in_use and not life.upgrading

    def observed(self, taken: dict[str, int]) -> list[str]:
        self.taken = taken
        self.shedding = {device for device in taken if self.overdrawn(device)}
        return []

    def serve(self, device: str, now: float, out: list[str]) -> bool:
        """Serve a line; return whether its head is left without the promise of room."""
        while line := [queued for queued in self.in_line() if queued.request.device == device]:
            head = line[0]
            victims = self.plan(head.request, now) if self.free_slot() else None
            if victims is None:
                opens_at = self.opens_at(head.request, now)
                late = [caller for caller, limit in head.callers.items() if opens_at > limit]
                wait = self.retry_after(head.request, now)
                out += [self.refuse(caller, head, Reason.NO_ROOM, wait) for caller in late]
                if head.callers:
                    out += self.take_turn(head, now) if self.free_slot() else []
                    return True
                continue
            for victim in victims:
                out += self.let_go(victim, Reason.EVICTED)
            if not self.fits(head.request):
                return False
            self.bring_in(head.request, now, out).waiters = list(head.callers)
            self.queue.remove(head)
            self.served.append(now)
        return False

    def bring_in(self, request: ModelRequest, now: float, out: list[str]) -> Life:
        self.number += 1
        ttl = self.policy.ttl if request.ttl is None else request.ttl
        life = Life(request, self.number, self.need(request), ttl)
        self.lives[request.model_id] = life
        self.intents.pop(request.model_id, None)
        out.append(f"load {request.model_id}")
        return life

    def surplus(self, now: float) -> list[Life]:
        if self.too_many():
            return self.candidates(now)
        devices = self.too_much()
        by_device = [[x for x in self.candidates(now) if x.request.device == d] for d in devices]
        return next((victims for victims in by_device if victims), [])

    def let_go(self, life: Life, reason: Reason) -> list[str]:
        life.state = State.UNLOADING
        life.promised = True
        life.turn = None
        if reason is Reason.TURN:
            life.holders.clear()
        return [f"unload {life.request.model_id} {reason.name}"]

    def refuse(
        self, caller: int, queued: Queued, reason: Reason, wait: float | None, problem: str = ""
    ) -> str:
        queued.callers.pop(caller, None)
        if not queued.callers and queued in self.queue:
            self.queue.remove(queued)
        return refusal(caller, reason, wait, problem)

    def tick(self, now: float) -> list[str]:
        ended = [model_id for model_id, (_, until) in self.intents.items() if until <= now]
        self.intents = {name: x for name, x in self.intents.items() if name not in ended}
        out = [f"forget {model_id}" for model_id in ended]
        due = [life for life in self.idle() if life.expires_at <= now]
        for life in due:
            expected = life.expected_until is not None
            out += self.let_go(life, Reason.FORGOTTEN if expected else Reason.EXPIRED)
        out += self.advance(now)
        waits = {q.request: self.retry_when_last(q.request, now) for q in self.queue}
        for queued in list(self.queue):
            for caller in [c for c, limit in queued.callers.items() if limit <= now]:
                wait = waits[queued.request]
                late = self.overdrawn(queued.request.device)
                reason = Reason.OVERDRAWN if late else Reason.TIMED_OUT
                out.append(self.refuse(caller, queued, reason, wait))
        return out + self.advance(now)

    # What happens

    def hit(self, model_id: str, owner: str) -> bool:
        life = self.lives.get(model_id)
        if self.closed or life is None or life.state is not State.READY:
            return False
        if life.expected_until is not None:
            return False
        life.holders[owner] += 1
        return True

    def request(self, caller: int, request: ModelRequest, owner: str, now: float) -> list[str]:
        self.owners[caller] = owner
        life = self.lives.get(request.model_id)
        if life is not None and life.loading and not self.closed:
            life.waiters.append(caller)
            return [f"join {caller}"]
        ready = not self.closed and life is not None and life.state is State.READY
        if ready and life is not None:
            life.expected_until = None
            life.tenure_from = life.idle_since = now
            life.keep_until = now + self.policy.min_residency
            return [self.grant(caller, life)]
        deadline = now + self.policy.acquire_timeout
        refused = self.refused_at_once(caller, request, deadline, now)
        if refused:
            return [refused]
        queued = next((q for q in self.queue if q.request.model_id == request.model_id), None)
        if queued is None:
            queued = Queued(request)
            self.queue.append(queued)
        queued.callers[caller] = deadline
        out = self.advance(now)
        waits = any(caller in other.callers for other in self.queue)
        return [*out, f"wait {caller} {deadline:g}"] if waits else out

    def refused_at_once(
        self, caller: int, request: ModelRequest, deadline: float, now: float
    ) -> str:
        _, retry_at = self.failures.get(request.model_id, (0, -math.inf))
        if self.closed:
            return refusal(caller, Reason.SHUTDOWN, None)
        if now < retry_at:
            return refusal(caller, Reason.BACKING_OFF, retry_at - now, "boom")
        min_footprint = (
            request.footprint if request.min_footprint is None else request.min_footprint
        )
        if min_footprint > self.budget(request.device):
            return refusal(caller, Reason.TOO_BIG, None)
        wait = self.retry_after(request, now)
        if self.opens_at(request, now) > deadline:
            return refusal(caller, Reason.NO_ROOM, wait)
        if sum(len(queued.callers) for queued in self.queue) >= self.policy.max_waiting:
            return refusal(caller, Reason.LINE_FULL, self.retry_when_last(request, now))
        line = any(queued.request.device == request.device for queued in self.in_line())
        comes_last = all(queued.request.model_id != request.model_id for queued in self.queue)
        line_wait = self.line_wait(request.device, now)
        if line and comes_last and line_wait is not None and now + line_wait / 2 > deadline:
            return refusal(caller, Reason.NO_ROOM, line_wait)
        return ""

    def cancel(self, caller: int, now: float) -> list[str]:
        for life in self.lives.values():
            if caller in life.waiters:
                life.waiters.remove(caller)
        for queued in list(self.queue):
            if caller in queued.callers:
                self.refuse(caller, queued, Reason.TIMED_OUT, None)
        return self.advance(now)

    def release(self, model_id: str, owner: str, now: float) -> list[str]:
        life = self.lives[model_id]
        life.holders[owner] -= 1
        if not life.holders[owner]:
            life.parked.discard(owner)
        return self.used(life, now)

    def park(self, model_id: str, owner: str, now: float) -> list[str]:
        life = self.lives[model_id]
        if life.holders[owner]:
            life.parked.add(owner)
        return self.drained(life)

    def unpark(self, model_id: str, owner: str, now: float) -> list[str]:
        life = self.lives[model_id]
        life.parked.discard(owner)
        return self.release(model_id, owner, now) if life.turn else []

    def open_stream(self, model_id: str) -> list[str]:
        self.lives[model_id].streams += 1
        return []

    def close_stream(self, model_id: str, now: float, opened_at: float) -> list[str]:
        life = self.lives[model_id]
        life.streams -= 1
        seconds = min(now - opened_at, self.policy.acquire_timeout)
        self.longest_speech = max(seconds, 0.98 * self.longest_speech)
        return self.used(life, now)

    def used(self, life: Life, now: float) -> list[str]:
        if not life.in_use:
            life.idle_since = now
        return self.drained(life)

    def drained(self, life: Life) -> list[str]:
        if life.turn and not life.kept:
            return self.let_go(life, Reason.TURN)
        if life.in_use or life.upgrading or life.state is not State.DRAINING:
            return []
        return self.let_go(life, Reason.UNLOADED)

    def pin(self, model_id: str, now: float) -> list[str]:
        self.pins.add(model_id)
        life = self.lives.get(model_id)
        return self.take_back(life, now) if life is not None and life.turn else []

    def unpin(self, model_id: str) -> list[str]:
        self.pins.discard(model_id)
        return []

    def keep_alive(self, model_id: str, ttl: float) -> list[str]:
        self.lives[model_id].ttl = ttl
        return []

    def begin_unload(self, model_id: str) -> list[str]:
        life = self.lives[model_id]
        if life.leaving:
            life.turn = None
            return []
        if life.in_use or life.upgrading:
            life.state = State.DRAINING
            return []
        return self.let_go(life, Reason.UNLOADED)

    def may_upgrade(self, model_id: str) -> bool:
        life = self.lives[model_id]
        return not self.closed and life.state is State.READY and not life.upgrading

    def begin_upgrade(self, model_id: str) -> list[str]:
        self.lives[model_id].upgrading = True
        return []

    def end_upgrade(self, model_id: str, footprint: int | None) -> list[str]:
        life = self.lives[model_id]
        life.upgrading = False
        life.footprint = life.footprint if footprint is None else footprint
        return self.drained(life)

    def may_reserve(self, size: int) -> bool:
        if self.closed or self.reserved or self.queue or self.overdrawn(RESERVED_ON):
            return False
        if any(life.loading for life in self.lives.values()):
            return False
        return self.booked(RESERVED_ON) + size <= self.budget(RESERVED_ON)

    def reserve(self, size: int) -> list[str]:
        self.reserved = size
        return []

    def unreserve(self) -> list[str]:
        self.reserved = 0
        return []

    def reservation_blocks_callers(self) -> bool:
        heads = [queued.request for queued in self.in_line() if queued.request.device == "cpu"][:1]
        over = self.overdrawn(RESERVED_ON)
        return self.reserved > 0 and any(over or self.needs_reserved(head) for head in heads)

    def end_drain(self, model_id: str, now: float) -> list[str]:
        life = self.lives.get(model_id)
        if self.closed or life is None or life.state is not State.DRAINING:
            return []
        life.tenure_from = now
        return self.take_back(life, now)[1:]

    def grant(self, caller: int, life: Life) -> str:
        life.holders[self.owners[caller]] += 1
        return f"grant {caller}"

    def force_unload(self, model_id: str) -> list[str]:
        return self.let_go(self.lives[model_id], Reason.SHUTDOWN)

    def warming(self, model_id: str, load_s: float) -> list[str]:
        self.lives[model_id].state = State.WARMING
        self.lives[model_id].load_s = load_s
        return []

    def loaded(self, model_id: str, footprint: int | None, now: float) -> list[str]:
        life = self.lives[model_id]
        self.failures.pop(model_id, None)
        life.state = State.READY
        self.longest_load = max(life.load_s, 0.98 * self.longest_load)
        life.idle_since = life.tenure_from = now
        if life.waiters:
            life.expected_until = None
        rest = self.policy.min_residency if life.expected_until is None else 0.0
        life.keep_until = now + rest
        life.footprint = life.footprint if footprint is None else footprint
        out = [self.grant(caller, life) for caller in life.waiters]
        life.waiters = []
        return out + (self.advance(now) if life.expected_until is None else self.tick(now))

    def failed(self, model_id: str, now: float, *, gone: bool) -> list[str]:
        life = self.lives[model_id]
        count = self.failures.get(model_id, (0, 0.0))[0] + 1
        wait = min(self.policy.longest_retry, self.policy.first_retry * 2.0 ** (count - 1))
        self.failures[model_id] = (count, now + wait)
        out = [refusal(caller, Reason.LOAD_FAILED, wait, "boom") for caller in life.waiters]
        life.waiters = []
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
        self.intents.clear()
        for life in self.lives.values():
            life.turn = None
        callers = [caller for queued in self.queue for caller in queued.callers]
        callers += [caller for life in self.lives.values() for caller in life.waiters]
        self.queue = []
        for life in self.lives.values():
            life.waiters = []
        return [refusal(caller, Reason.SHUTDOWN, None) for caller in callers]


def refusal(caller: int, reason: Reason, wait: float | None, problem: str = "") -> str:
    return f"refuse {caller} {reason.name} {wait} {problem}"
