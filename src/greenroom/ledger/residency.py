"""The ledger: which models are in memory, who holds them, who waits for memory, which must leave.

Pure: no asyncio, no clock, no I/O. Time comes in as `now` (seconds of any monotonic clock),
decisions go out as values, and a decision is booked in the step that makes it. The effects carry
decisions out and report back with `warming`, `loaded`, `failed`, `overdue` and `gone`. The states
of a resident, and the events that lead from one to the next, are drawn in `transitions.py`.

One procedure, `_advance`, makes room and starts loads; every step that could change its outcome
ends in it. A step costs at most the logarithm of the residents, whatever the catalog's size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, ValuesView
from typing import Any

from greenroom.errors import LeaseReleasedError, ModelInUseError, ModelNotResidentError
from greenroom.ledger.backoff import Backoff
from greenroom.ledger.capacity import RESERVED_ON, Capacity
from greenroom.ledger.intents import Intent, Intents
from greenroom.ledger.lazy_heap import LazyHeap
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
    SharedPart,
    State,
    Stay,
    Ticket,
    Unload,
    Wait,
    owners_of,
)
from greenroom.ledger.transitions import (
    FORGOTTEN,
    TRANSITIONS,
    Event,
    LedgerStateError,
    successor,
)
from greenroom.ledger.turns import Turns
from greenroom.ledger.wait_queue import DeviceQueue, QueuedModel, WaitQueue
from greenroom.untrusted.owners import owner_name


class Residency:
    """The ledger of one manager.

    Steps that a caller asks for (`request`, `release`, `pin` ...) raise the errors of
    `greenroom.errors`. Reports of what the effects did raise `LedgerStateError` when they do not
    fit, e.g. about a model that is gone. Either way nothing is changed.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.hits = 0
        self.loads = 0
        self.failed_loads = 0
        self.departures: Counter[Reason] = Counter()
        self.refusals: Counter[Reason] = Counter()
        self.capacity = Capacity(policy)
        self.queue = WaitQueue()
        self.backoff = Backoff(policy.first_retry, policy.longest_retry)
        self.turns = Turns(policy)
        self.intents = Intents(policy.max_waiting)
        self._residents: dict[str, Resident] = {}
        # The residents that are a hit. An index of its own, so that a hit is one look-up and asks
        # for no state: all that makes a model no hit (leaving, draining, `close`) takes it out, and
        # one that was prefetched comes in with its first caller.
        self._ready: dict[str, Resident] = {}
        # Pins are of model ids, not of residents: they outlive the model, and bind its next life.
        self._pins: set[str] = set()
        self._lost: dict[str, Counter[Hashable]] = {}
        """By model: the references that its crashes have taken from their owners."""
        self._expiry = LazyHeap(lambda r: r.expires_at)
        self._last_number = 0
        self._closed = False
        # Whether the last `_advance` left callers in the queue, or more models than allowed. Only
        # then does the end of a min residency matter: an idle process is not woken for it.
        self._needs_room = False
        # When the next turn begins, if nothing happens before; `_advance` finds it anew each time.
        self._next_turn = math.inf

    # What can be seen

    @property
    def residents(self) -> ValuesView[Resident]:
        """Every model in memory, loading or leaving, in order of booking."""
        return self._residents.values()

    def get(self, model_id: str) -> Resident | None:
        """Return the model's resident, whatever its state."""
        return self._residents.get(model_id)

    @property
    def pins(self) -> tuple[str, ...]:
        """The models that are pinned, in memory or not, in alphabetical order."""
        return tuple(sorted(self._pins))

    def is_pinned(self, model_id: str) -> bool:
        """Return whether the model is pinned, in memory or not."""
        return model_id in self._pins

    def __repr__(self) -> str:
        shown = ", ".join(f"{r.model_id} {r.state} x{r.refcount}" for r in self.residents)
        return f"<Residency {len(self._residents)}/{self.policy.resident_cap} [{shown}]>"

    # Requests of callers

    def hit(self, model_id: str, owner: Hashable, now: float) -> Resident | None:
        """Take a reference if the model is ready."""
        # The hot path: no decision, no list, no heap. That the model is in use now is noticed when
        # a heap next brings it up (`Resident.indexed`).
        resident = self._ready.get(model_id)
        if resident is None:
            return None
        holders = resident.holders
        if owner in holders:
            resident.repeat(owner, now)
        else:
            holders[owner] = now
        self.hits += 1
        return resident

    def request(
        self, request: ModelRequest, owner: Hashable, now: float
    ) -> tuple[Ticket, list[Decision]]:
        """Ask for a model that was no hit; the ticket is granted or refused, now or later."""
        ticket = Ticket(request.model_id, owner, now, now + self.policy.acquire_timeout)
        resident = self._residents.get(request.model_id)
        # A load under way is shared before anything is refused: it takes no more memory and no
        # place in the queue, and its limit is the load's own.
        if resident is not None and resident.loading and not self._closed:
            resident.waiters[ticket] = None
            return ticket, [Joined(ticket)]
        if resident is not None and resident.state is State.READY and not self._closed:
            return ticket, self._use_expected(resident, ticket, now)
        out: list[Decision] = []
        refusal = self._refuse_at_once(request, ticket, now)
        if refusal is not None:
            self._refuse(refusal, out)
        else:
            # A model that is leaving must be gone before it can be loaded afresh. Until then its
            # callers stand in no device's queue, where they would hold up the others.
            self.queue.add(request, ticket, parked=resident is not None)
            out = self._advance(now)
            if ticket in self.queue:
                out.append(Wait(ticket, ticket.deadline))
        return ticket, out

    def _use_expected(self, resident: Resident, ticket: Ticket, now: float) -> list[Decision]:
        """Grant a prefetched model to its first caller: from now on it is like any other."""
        resident.expected_until = None
        resident.keep_until = now + self.policy.min_residency
        resident.tenure_from = resident.idle_since = now
        self.capacity.protect(resident, now)
        # Taken out, as the end of its time may be later than that of its TTL will be.
        self._expiry.discard(resident)
        resident.indexed = False
        self._ready[resident.model_id] = resident
        return self._grant([ticket], resident, now)

    def prefetch(self, request: ModelRequest, within: float, now: float) -> list[Decision]:
        """Load a model for a caller that is expected within so many seconds, if nobody minds.

        One that is in memory counts as used now.
        """
        model_id = request.model_id
        resident = self._residents.get(model_id)
        if self._closed:
            return []
        # One that is leaving is loaded afresh once it is gone, as for a caller.
        if resident is None or resident.leaving:
            noted = self.intents.add(Intent(request, now + within))
            return self._advance(now) if noted else [Forgotten(model_id)]
        if resident.expected_until is not None:
            resident.expected_until = max(resident.expected_until, now + within)
        elif resident.may_leave:
            resident.idle_since = now
        return []

    def _refuse_at_once(self, request: ModelRequest, ticket: Ticket, now: float) -> Refused | None:
        if self._closed:
            return Refused(ticket, Reason.SHUTDOWN)
        # The backoff is asked before the capacity: why the model failed helps its caller more than
        # that there is no room, and room must not be made for a load that is not tried. The length
        # of the queue comes last, since a shorter one would change neither of the two.
        refusal = self.backoff.refusal(ticket, now) or self.capacity.refusal(request, ticket, now)
        if refusal is None and self.queue.count >= self.policy.max_waiting:
            return Refused(ticket, Reason.LINE_FULL, self._retry_after(request, now))
        return refusal or self._refuse_late(ticket, request.device, now)

    def _refuse_late(self, ticket: Ticket, device: str, now: float) -> Refused | None:
        """Refuse a caller whose model would be the last in the line, and come too late."""
        # Without a line in front of it, it may be served at once; and one that waits already is
        # served with the callers that came before.
        if not self.queue.has_line(device) or self.queue.tickets(ticket.model_id):
            return None
        wait = self._line_wait(device, now)
        # Only where half of it would be too long: what is expected is no more than that, and one
        # long speech must not send away callers who would have been served.
        if wait is None or now + wait / 2 <= ticket.deadline:
            return None
        return Refused(ticket, Reason.NO_ROOM, wait)

    def _line_wait(self, device: str, now: float) -> float | None:
        """Return how long one more model would wait in the line of a device, where that is seen."""
        position = self.queue.models_on(device) + 1
        return self.turns.wait_expected(position, self.capacity.places, now)

    def _retry_after(self, request: ModelRequest, now: float) -> float | None:
        """Return in how many seconds a caller that is sent away should ask again, if ever."""
        opens_in = self.capacity.retry_after(request, now)
        wait = self._line_wait(request.device, now)
        return opens_in if opens_in is None or wait is None else max(opens_in, wait)

    def cancel(self, ticket: Ticket, now: float) -> list[Decision]:
        """End a caller's wait; a reference that was granted meanwhile is given back."""
        if ticket.granted:
            return self.release(ticket.model_id, ticket.owner, now) or []
        resident = self._residents.get(ticket.model_id)
        if resident is not None and ticket in resident.waiters:
            # The load goes on, even without waiters: a thread cannot be cancelled, and the model
            # is as good for the next caller.
            del resident.waiters[ticket]
            return []
        self.queue.remove(ticket)
        return self._advance(now)

    def release(self, model_id: str, owner: Hashable, now: float) -> list[Decision] | None:
        """Give one reference back; `None` means that nothing else changed.

        Raises `ModelNotResidentError` or `LeaseReleasedError`, changing nothing.
        """
        if self._lost and self._give_back_lost(model_id, owner):
            return None
        try:
            resident = self._residents[model_id]
        except KeyError:
            raise ModelNotResidentError(model_id) from None
        # The youngest, so that `explain` shows how long the owner has had the model.
        if owner in resident.repeats:
            resident.end_repeat(owner)
            return None
        holders = resident.holders
        try:
            del holders[owner]
        except KeyError:
            who = "this caller" if owner is None else f"owner {owner_name(owner)!r}"
            raise LeaseReleasedError(
                f"{who} holds no reference to model {model_id!r}; release once for every load."
            ) from None
        if resident.parked:  # asked first: to call would cost each release a twentieth
            resident.parked.discard(owner)
        if holders or resident.streams:
            return self._end_of_turn(resident, now) if resident.parked else None
        resident.idle_since = now
        # The heaps have it already, with a key that is too early and repaired when it comes up. An
        # indexed model is ready and no queue needs it now, or the heaps had been searched for it.
        if resident.indexed and not self._closed:
            return None
        return self._became_idle(resident, now)

    # Holders that do not speak

    def park(self, model_id: str, owner: Hashable, now: float) -> list[Decision]:
        """Let a model leave in its turn though `owner` holds it, until `unpark`.

        Does nothing where the owner holds it no more: a crash may have taken it.
        """
        resident = self._residents.get(model_id)
        if resident is None or owner not in resident.holders:
            return []
        # Only a turn asks for this: expiry and eviction see a holder like any other.
        resident.parked.add(owner)
        return self._end_of_turn(resident, now) or []

    def unpark(self, model_id: str, owner: Hashable, now: float) -> tuple[bool, list[Decision]]:
        """End the parking of `owner`; whether it has the model to speak with.

        It has not when the model has left, nor when it drains for a turn: then its reference is
        given back, and it has to ask for the model like everyone else.
        """
        resident = self._residents.get(model_id)
        if resident is None or owner not in resident.holders:
            self._give_back_lost(model_id, owner)
            return False, []
        resident.parked.discard(owner)
        if self.turns.of(resident) is None:
            return True, []
        return False, self.release(model_id, owner, now) or []

    # Streams

    def open_stream(self, resident: Resident) -> None:
        """Count one more running stream; raises `ModelNotResidentError` once it is leaving."""
        # A caller's error and no mistake of ours: a lease may outlive its model by a shutdown.
        if not self._is_legal(resident, Event.OPEN_STREAM):
            raise ModelNotResidentError(resident.model_id)
        resident.streams += 1

    def close_stream(
        self, resident: Resident, now: float, opened_at: float | None = None
    ) -> list[Decision] | None:
        """Count one running stream fewer; `None` means that nothing else changed.

        `opened_at` is when it was opened; without it nothing is learned of how long speech takes.
        """
        if not resident.streams:
            raise LedgerStateError(resident, Event.CLOSE_STREAM, "no stream is open")
        self._enter(resident, Event.CLOSE_STREAM)
        resident.streams -= 1
        if opened_at is not None:
            self.turns.learn_speech(now - opened_at)
        if resident.in_use:
            if resident.parked and (ended := self._end_of_turn(resident, now)) is not None:
                return ended
            # What was learned may move the next turn forward.
            return self._advance(now) if self.queue.count else None
        resident.idle_since = now
        return self._became_idle(resident, now)

    # Orders of operators

    def pin(self, model_id: str, now: float) -> list[Decision]:
        """Exempt a model from eviction and expiry, now and whenever it is loaded again."""
        resident = self._residents.get(model_id)
        self._pins.add(model_id)
        out: list[Decision] = []
        if resident is not None and self.turns.of(resident) is not None:
            self._end_turn(resident, now, out)
        # One that is leaving is counted with those that leave: `end_drain` looks at the pins anew.
        elif resident is not None and not resident.pinned and not resident.leaving:
            self.capacity.pin(resident)
            self._expiry.discard(resident)
        # Not to make room but to refuse: the pin may have taken the last that callers wait for.
        return out + self._advance(now)

    def unpin(self, model_id: str, now: float) -> list[Decision]:
        """End the exemption; the idle time runs from the last use all the same."""
        resident = self._residents.get(model_id)
        if resident is not None and resident.pinned and not resident.leaving:
            self.capacity.unpin(resident, now)
            resident.indexed = False
            if resident.may_leave:
                self._index(resident)
        self._pins.discard(model_id)
        return self.tick(now)

    def keep_alive(self, model_id: str, ttl: float, now: float) -> list[Decision] | None:
        """Give a model a TTL of its own until it leaves; `None` means that it has it already.

        Raises `ModelNotResidentError`, also when it is leaving.
        """
        resident = self._residents.get(model_id)
        if resident is None or resident.leaving:
            raise ModelNotResidentError(model_id)
        if resident.ttl == ttl:
            return None
        resident.ttl = ttl
        # Taken out and put in again: the heap's keys may only be too early, and a shorter TTL
        # moves the moment forward.
        self._expiry.discard(resident)
        if resident.indexed and not resident.pinned:
            self._add_expiry(resident)
        return self.tick(now)

    def begin_unload(self, model_id: str, now: float, *, drain: bool) -> list[Decision]:
        """Let a model go at once if it is idle, else (`drain`) after its last holder.

        One that is being upgraded goes as soon as that is done.

        Raises `ModelNotResidentError`, and `ModelInUseError` without `drain`, changing nothing.
        A model that is loading counts as in use.
        """
        resident = self._residents.get(model_id)
        if resident is None:
            raise ModelNotResidentError(model_id)
        if resident.leaving:
            # A turn may be taken back, an operator's order is not: the drain is the operator's now,
            # and the line may have another turn.
            return self._advance(now) if self.turns.end(resident) else []
        if resident.loading or (resident.in_use and not drain):
            raise ModelInUseError(model_id, owners_of(resident), resident.streams)
        out: list[Decision] = []
        if resident.in_use or resident.upgrading:
            self._drain(resident)
        else:
            self._leave(resident, Reason.UNLOADED, out)
        return out + self._advance(now)

    def end_drain(self, model_id: str, now: float) -> list[Decision]:
        """Take a drain back: the model is ready again, and the callers that waited for it have it.

        Does nothing for a model that does not drain: it may have left a moment before.
        """
        resident = self._residents.get(model_id)
        if resident is None or self._closed or resident.state is not State.DRAINING:
            return []
        if resident.crashed:  # there is nothing left to be ready
            return []
        # What could not be had just now is not tried again at once.
        resident.tenure_from = now
        out: list[Decision] = []
        self._stay(resident, now, out)
        return out + self._advance(now)

    # Shutdown

    def close(self) -> list[Decision]:
        """Refuse every caller that waits, and every later request, hits included."""
        self._closed = True
        self.intents.clear()
        # A hit asks nothing but this index, so clearing it is what ends the hits.
        self._ready.clear()
        # What drains goes on to drain: taken back, it would be a hit.
        self.turns.under_way.clear()
        out: list[Decision] = []
        for ticket in self.queue.all_tickets():
            self._refuse(Refused(ticket, Reason.SHUTDOWN), out)
        for resident in self._residents.values():
            for ticket in resident.waiters:
                self._refuse(Refused(ticket, Reason.SHUTDOWN), out)
            resident.waiters = {}
        return out

    def force_unload(self, model_id: str) -> list[Decision]:
        """Let a ready or draining model go, whoever holds it: the end of a shutdown.

        Not while a thread is inside of it, which `Resident.occupied` tells.
        """
        out: list[Decision] = []
        self._leave(self._residents[model_id], Reason.SHUTDOWN, out)
        return out

    # Reports of loads and unloads

    def warming(self, resident: Resident, load_s: float) -> None:
        """The model is loaded and speaks its first words."""
        self._enter(resident, Event.WARMING)
        resident.load_s = load_s

    def loaded(
        self,
        resident: Resident,
        instance: Any,
        now: float,
        *,
        warmup_s: float = 0.0,
        footprint: int | None = None,
        shared: SharedPart | None = None,
    ) -> list[Decision]:
        """The model is ready: every waiter gets a reference in this very step.

        `footprint` is what it takes beside what is `shared` with others, if that is known by now.
        """
        self._enter(resident, Event.LOADED)
        self.loads += 1
        self.backoff.loaded(resident.model_id, now)
        resident.instance = instance
        resident.warmup_s = warmup_s
        self.turns.learn_load(resident.load_s + warmup_s)
        resident.ready_at = resident.idle_since = resident.tenure_from = now
        # A prefetched model has no min residency before its first caller: it yields to all others.
        if resident.waiters:
            resident.expected_until = None
        expected = resident.expected_until is not None
        resident.keep_until = now if expected else now + self.policy.min_residency
        if not self._closed and not expected:
            self._ready[resident.model_id] = resident
        self.capacity.book_ready(resident, now, footprint, shared)
        # References before room is made: a model that its callers have waited for must not be
        # chosen to leave between its load and their first use.
        out = self._grant(resident.waiters, resident, now)
        resident.waiters = {}
        if not resident.in_use:
            self._index(resident)
        # The time of a prefetched model may be over by now.
        return out + (self.tick(now) if expected else self._advance(now))

    def failed(
        self, resident: Resident, problem: str, now: float, *, gone: bool = True
    ) -> list[Decision]:
        """The load or warmup failed: every waiter is refused, and later attempts for a while.

        With `gone=False` a thread is still inside the engine: its room stays booked until `gone`.
        """
        self._enter(resident, Event.FAILED)
        wait = self.backoff.record(resident.model_id, problem, now)
        self.failed_loads += 1
        out: list[Decision] = []
        for ticket in resident.waiters:
            self._refuse(Refused(ticket, Reason.LOAD_FAILED, wait, problem), out)
        resident.waiters = {}
        self.capacity.end_load()
        # Without a promise: when a hanging thread ends, nobody knows.
        self.capacity.book_leaving(resident)
        return out + (self.gone(resident, now) if gone else self._advance(now))

    def overdue(self, resident: Resident, now: float) -> list[Decision]:
        """An unload takes longer than it may: others no longer count on its room."""
        self._enter(resident, Event.OVERDUE)
        self.capacity.break_promise(resident)
        return self._advance(now)

    def crashed(self, resident: Resident, problem: str, now: float) -> list[Decision]:
        """Its engine has crashed: it leaves once its streams have ended, whoever holds it.

        The references to it are lost with it: giving them back changes nothing. A model on its way
        in or out is left to the report that ends that.
        """
        if not self._is_legal(resident, Event.LEAVE):
            return []
        lost = self._lost.setdefault(resident.model_id, Counter())
        lost.update(owner for owner, _ in resident.references)
        resident.holders, resident.repeats, resident.parked = {}, {}, set()
        if not lost:
            del self._lost[resident.model_id]
        if resident.state is State.READY:
            self._drain(resident)
        resident.crashed = True
        # It leaves in any case: a turn that is taken back would make it ready.
        self.turns.end(resident)
        self.backoff.crashed(resident.model_id, problem, now)
        out: list[Decision] = []
        # A thread that is inside finds no engine there any more, and is out in a moment.
        if not resident.occupied:
            self._leave(resident, Reason.CRASHED, out)
        return out + self._advance(now)

    def _give_back_lost(self, model_id: str, owner: Hashable) -> bool:
        """Give back a reference that was lost with a life of the model; whether there was one."""
        # Before those to the present life: of two that an owner has, it cannot say which.
        lost = self._lost.get(model_id)
        if lost is None or not lost[owner]:
            return False
        lost[owner] -= 1
        self._lost[model_id] = +lost
        if not self._lost[model_id]:
            del self._lost[model_id]
        return True

    def gone(self, resident: Resident, now: float) -> list[Decision]:
        """The model has left: its room is free, and callers that want it may load it afresh."""
        self._enter(resident, Event.GONE)
        self.capacity.free(resident)
        del self._residents[resident.model_id]
        resident.instance = None
        self.queue.unpark(resident.model_id)
        return self._advance(now)

    def observed(self, taken: Mapping[str, int], now: float) -> list[Decision]:
        """The process was seen to take so many bytes of each device for its models."""
        self.capacity.observe(taken)
        return self._advance(now)

    # Upgrades

    def begin_upgrade(self, resident: Resident) -> bool:
        """Keep a model in memory, whoever lets go of it, while its form is replaced.

        Callers use it meanwhile as ever, and its idle time runs. Returns whether it may begin:
        not when the model is not ready, or in the middle of another upgrade.
        """
        legal = self._is_legal(resident, Event.BEGIN_UPGRADE)
        if self._closed or not legal or resident.upgrading:
            return False
        resident.upgrading = True
        return True

    def end_upgrade(
        self,
        resident: Resident,
        now: float,
        footprint: int | None = None,
        shared: SharedPart | None = None,
    ) -> list[Decision]:
        """The upgrade is over; the rest is as in `loaded`, and `None` where nothing changed."""
        if not resident.upgrading:
            raise LedgerStateError(resident, Event.END_UPGRADE, "it is not being upgraded")
        self._enter(resident, Event.END_UPGRADE)
        resident.upgrading = False
        if footprint is not None:
            self.capacity.rebook(resident, footprint, shared)
        if resident.in_use:
            ended = self._end_of_turn(resident, now)
            return self._advance(now) if ended is None else ended
        return self._became_idle(resident, now)

    # Reservations

    def reserve(self, size: int) -> bool:
        """Book memory of the machine for work beside the models, if there is room and no caller.

        Nobody leaves for it. One reservation at a time. It keeps a load from beginning, but no
        caller is refused because of it: when one waits for that memory, the reserved work is to
        end (`reservation_blocks_callers`).
        """
        # Not beside a load either: what it is expected to take may prove too little.
        if self._closed or self.queue.count or self.capacity.reserved or self.capacity.loading:
            return False
        if self.capacity.free_bytes(RESERVED_ON) < size or self.capacity.is_overdrawn(RESERVED_ON):
            return False
        self.capacity.reserved = size
        return True

    def unreserve(self, now: float) -> list[Decision]:
        """Give the reservation back."""
        self.capacity.reserved = 0
        return self._advance(now)

    def can_ever_reserve(self, size: int) -> bool:
        """Whether there could be room for it beside the models that are pinned."""
        return self.capacity.free_beside_pinned(RESERVED_ON) >= size

    @property
    def reservation_blocks_callers(self) -> bool:
        """Whether a caller waits for memory that the reserved work has, or takes beyond it."""
        if not self.capacity.reserved:
            return False
        # The heads alone: those behind them wait for their turn, with or without a reservation.
        heads = [head.request for each in self.queue.device_queues() if (head := each.head())]
        return any(map(self.capacity.needs_reserved, heads)) or (
            self.capacity.is_overdrawn(RESERVED_ON)
            and any(request.device == RESERVED_ON for request in heads)
        )

    # Time

    def tick(self, now: float) -> list[Decision]:
        """Do what is due: expire, make room, end waits that took too long."""
        out: list[Decision] = []
        # Expiry comes before making room: what leaves in any case is counted on, and spares a
        # model that would have had to leave for a caller.
        out += map(Forgotten, self.intents.pop_ended(now))
        while (resident := self._expiry.pop(now)) is not None:
            if resident.may_leave:
                expected = resident.expected_until is not None
                self._leave(resident, Reason.FORGOTTEN if expected else Reason.EXPIRED, out)
            else:
                resident.indexed = False
        # Loads before time-outs: room that comes at the deadline is in time.
        out += self._advance(now)
        # All of them before the first is refused: they leave the line together.
        late = [(ticket, self.queue.request_of(ticket)) for ticket in self.queue.timed_out(now)]
        waits = {request: self._retry_after(request, now) for _, request in late}
        for ticket, request in late:
            overdrawn = self.capacity.is_overdrawn(request.device)
            reason = Reason.OVERDRAWN if overdrawn else Reason.TIMED_OUT
            self._refuse(Refused(ticket, reason, waits[request]), out)
        # And once more: a head that has given up may have held up a smaller model behind it.
        return out + self._advance(now)

    def next_due(self) -> float:
        """Return a moment before which `tick` has nothing to do; infinite if it never has."""
        protected_until = self.capacity.next_protection_end() if self._needs_room else math.inf
        turn = min(self._next_turn, self.turns.next_limit())
        expiry = min(self._expiry.bound(), self.intents.next_end())
        return min(expiry, self.queue.next_deadline(), protected_until, turn)

    # Making room

    def _advance(self, now: float) -> list[Decision]:
        """Start every load that has room, and make room for the first that has none.

        For the model at the head of each device's queue, one of these holds:

        1. There is room and a load slot: its load starts now, and the next model is the head.
        2. There is room once others have left: those that must leave do (none, where enough are
           leaving already), and the head waits for them to be gone.
        3. No room can be made now, and none comes before the deadline of any of its callers: they
           are refused, and the next model is the head.
        4. No room can be made now, but it may come in time: the head waits, and the queue with it.
           No model overtakes it, else a large one would never be loaded among small ones. When it
           has waited long enough, the model in use that has had its place longest has had its
           turn, and drains for it.
        """
        out: list[Decision] = []
        self._next_turn = math.inf
        self._end_long_drains(now, out)
        device_queues = self.queue.device_queues()
        limits = self.intents or self.turns.under_way or self.capacity.over_limits()
        if device_queues or limits:
            # First those whose min residency has ended become candidates, as the search for
            # victims sees candidates only.
            self.capacity.end_protection(now)
            # In order of arrival of the heads, since they share the load slots and the cap.
            stuck = [self._serve(device_queue, now, out) for device_queue in device_queues]
            # A model that stays after all may have its turn for the line of another device.
            while self._end_needless_drains(stuck, now, out):
                device_queues = self.queue.device_queues()
                stuck = [self._serve(device_queue, now, out) for device_queue in device_queues]
            # The surplus comes last: a model that leaves for a caller is one too many fewer, and
            # nobody leaves for both; a load that began above a soft cap is one more.
            while (victim := self.capacity.surplus()) is not None:
                self._leave(victim, Reason.SURPLUS, out)
            # Last of all, what is only expected.
            self._begin_expected(now, out)
        waits = bool(self.queue.device_queues()) or bool(self.intents)
        self._needs_room = waits or self.capacity.over_limits()
        if not self.queue.count:
            self.turns.rest()
        return out

    def _serve(
        self, device_queue: DeviceQueue, now: float, out: list[Decision]
    ) -> QueuedModel | None:
        """Do what `_advance` says with the models of one device, by the numbers of its cases.

        Returns the head if it is left without room, and without the promise of any.
        """
        while queued := device_queue.head():
            # Without a load slot nobody is asked to leave: the room would stand empty meanwhile.
            slot = self.capacity.may_load()
            victims = self.capacity.victims_for(queued.request) if slot else None
            for victim in victims or ():  # 2, and its room is promised to this head
                self._leave(victim, Reason.EVICTED, out, makes_room_for=queued.request.model_id)
            # Promised room is not free room: the engine of the one that leaves still has it, and
            # the budget would be exceeded until it is gone.
            if victims is not None and self.capacity.fits(queued.request):
                self._start(queued.request, now, out)  # 1
            elif victims is not None:
                return None  # 2
            elif not self._refuse_hopeless(queued, now, out):
                if slot:  # else the head waits for that, and no place has to change hands
                    self._take_turn(queued, now, out)
                return queued  # 4; else 3
        return None

    def _begin_expected(self, now: float, out: list[Decision]) -> None:
        """Begin to load the first model that is only expected, if no caller has a use for the room.

        One load at a time: a caller that comes meanwhile may wait for the slot.
        """
        while (intent := self.intents.first()) is not None:
            request = intent.request
            if self.queue.count or self.capacity.loading or request.model_id in self._residents:
                return
            ticket = Ticket(request.model_id, None, now, now)
            if self.backoff.refusal(ticket, now) is not None:
                self.intents.discard(request.model_id)
                out.append(Forgotten(request.model_id))
                continue
            victims = self.capacity.unused_room_for(request)
            for victim in victims or ():
                self._leave(victim, Reason.EVICTED, out, makes_room_for=request.model_id)
            # As for callers, room that is promised is not free yet.
            if victims is None or not self.capacity.fits(request):
                return
            self._start(request, now, out, expected_until=intent.until)

    # Turns

    def _take_turn(self, queued: QueuedModel, now: float, out: list[Decision]) -> None:
        """Have the longest tenant drain for the head of a line, if its turn is due; else note when.

        One that nobody uses leaves at once: it did not suffice as a victim, but this is the line's.
        """
        if queued.request.device in self.turns.under_way:
            return
        tenant = self.capacity.longest_tenant(queued.request)
        if tenant is None:
            return
        waiting = self.queue.models_on(queued.request.device)
        due = self.turns.due(queued.since, tenant, waiting, self.capacity.places)
        if due > now:
            self._next_turn = min(self._next_turn, due)
        elif tenant.is_kept:
            self._drain(tenant)
            self.turns.begin(queued.request, tenant, now)
            out.append(Drain(tenant, queued.request.model_id))
        else:
            self._leave(tenant, Reason.TURN, out, makes_room_for=queued.request.model_id)

    def _end_of_turn(self, resident: Resident, now: float) -> list[Decision] | None:
        """Have a model leave in its turn once nothing keeps it; `None` when it is not so."""
        if self.turns.of(resident) is None or resident.is_kept:
            return None
        return self._became_idle(resident, now)

    def _end_long_drains(self, now: float, out: list[Decision]) -> None:
        """Take back the turns that do not come about: a caller keeps its lease for too long."""
        for turn in list(self.turns.under_way.values()):
            if turn.until <= now:
                # Its tenure begins anew, so that the next turn is another's.
                turn.resident.tenure_from = now
                self._end_turn(turn.resident, now, out)

    def _end_needless_drains(
        self, stuck: list[QueuedModel | None], now: float, out: list[Decision]
    ) -> bool:
        """Take back the turns that no head waits for any more; return whether there were any."""
        needed = {head.request.device for head in stuck if head is not None}
        needless = [turn for device, turn in self.turns.under_way.items() if device not in needed]
        for turn in needless:
            self._end_turn(turn.resident, now, out)
        return bool(needless)

    def _end_turn(self, resident: Resident, now: float, out: list[Decision]) -> None:
        out.append(Stay(resident))
        self._stay(resident, now, out)

    def _refuse_hopeless(self, queued: QueuedModel, now: float, out: list[Decision]) -> bool:
        """Refuse the callers for whom room is sure to come too late; whether all of them were."""
        # Each by its own deadline: one that came later may still be in time.
        for ticket in list(queued.tickets):
            refusal = self.capacity.refusal(queued.request, ticket, now)
            if refusal is not None:
                self._refuse(refusal, out)
        return not queued.tickets

    # Bookkeeping

    def _is_legal(self, resident: Resident, event: Event) -> bool:
        """Whether `event` may happen to a resident; never to one that is not here any more."""
        present = self._residents.get(resident.model_id) is resident
        return present and event in TRANSITIONS[resident.state]

    def _enter(self, resident: Resident, event: Event) -> None:
        """Move a resident on; raises `LedgerStateError`, and is called before all else is changed.

        The one place that writes `Resident.state` after `_start`.
        """
        # By identity: a late report on an earlier life must not be booked on the present one.
        if self._residents.get(resident.model_id) is not resident:
            raise LedgerStateError(resident, event, "this life of it is not in memory")
        state = successor(resident, event)
        if state is not FORGOTTEN:
            resident.state = state

    def _start(
        self,
        request: ModelRequest,
        now: float,
        out: list[Decision],
        *,
        expected_until: float | None = None,
    ) -> None:
        self._last_number += 1
        ttl = self.policy.ttl if request.ttl is None else request.ttl
        footprint = self.capacity.bytes_for(request)
        resident = Resident(request, State.LOADING, self._last_number, footprint, now, ttl)
        resident.pinned = request.model_id in self._pins
        resident.expected_until = expected_until
        self.intents.discard(request.model_id)
        resident.waiters = self.queue.pop(request.model_id)
        self._residents[request.model_id] = resident
        self.capacity.book(resident)
        if resident.waiters:
            self.turns.served(now)
        out.append(Load(resident))

    def _drain(self, resident: Resident) -> None:
        """Have a model leave after its last use."""
        self._enter(resident, Event.DRAIN)
        # Without a promise: when its holders let go is for them to say, and a caller that counted
        # on this room might wait while an idle model could have left at once.
        self.capacity.book_leaving(resident)
        self._expiry.discard(resident)
        resident.indexed = False
        self._ready.pop(resident.model_id, None)

    def _stay(self, resident: Resident, now: float, out: list[Decision]) -> None:
        """Undo `_drain`: callers that waited for the model have it."""
        self._enter(resident, Event.END_DRAIN)
        self.turns.end(resident)
        if resident.expected_until is not None:  # it is a hit from now on, so like any other
            resident.expected_until = None
            resident.keep_until = now + self.policy.min_residency
        resident.pinned = resident.model_id in self._pins
        self.capacity.book_staying(resident, now)
        self._ready[resident.model_id] = resident
        out += self._grant(self.queue.pop(resident.model_id), resident, now)

    def _leave(
        self,
        resident: Resident,
        reason: Reason,
        out: list[Decision],
        *,
        makes_room_for: str | None = None,
    ) -> None:
        """Have a model unloaded, and count on its room."""
        if resident.occupied:
            raise LedgerStateError(resident, Event.LEAVE, "a thread is inside of it")
        drained = resident.state is State.DRAINING
        self._enter(resident, Event.LEAVE)
        if not drained:  # the drain has booked that
            self.capacity.book_leaving(resident)
        self.capacity.promise(resident)
        self._expiry.discard(resident)
        self._ready.pop(resident.model_id, None)
        self.turns.end(resident)
        self.departures[reason] += 1
        parked: tuple[Hashable, ...] = ()
        if reason is Reason.TURN:  # nothing but that takes a model from those who hold it
            parked = tuple(resident.holders)
            resident.holders, resident.repeats, resident.parked = {}, {}, set()
        out.append(Unload(resident, reason, makes_room_for, parked))

    def _grant(self, tickets: Iterable[Ticket], to: Resident, now: float) -> list[Decision]:
        out: list[Decision] = []
        for ticket in tickets:
            if ticket.owner in to.holders:
                to.repeat(ticket.owner, now)
            else:
                to.holders[ticket.owner] = now
            ticket.granted = True
            out.append(Granted(ticket, to))
        return out

    def _refuse(self, refusal: Refused, out: list[Decision]) -> None:
        self.queue.remove(refusal.ticket)
        self.refusals[refusal.reason] += 1
        out.append(refusal)

    def _became_idle(self, resident: Resident, now: float) -> list[Decision]:
        if resident.state is State.DRAINING and not resident.upgrading:
            out: list[Decision] = []
            turn = self.turns.of(resident)
            if turn is not None:
                self._leave(resident, Reason.TURN, out, makes_room_for=turn.makes_room_for)
            else:
                self._leave(resident, Reason.CRASHED if resident.crashed else Reason.UNLOADED, out)
            return out + self._advance(now)
        if resident.state is State.READY:
            self._index(resident)
        # A tick, not only `_advance`: with a TTL of 0 the model is due in this very moment.
        return self.tick(now)

    def _index(self, resident: Resident) -> None:
        """Put an idle model where expiry and eviction will find it."""
        resident.indexed = True
        if not resident.pinned:
            self.capacity.add_candidate(resident)
            self._add_expiry(resident)

    def _add_expiry(self, resident: Resident) -> None:
        if resident.ttl >= 0 or resident.expected_until is not None:
            self._expiry.add(resident)
