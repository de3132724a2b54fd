"""The ledger: which models are in memory, who holds them, who waits, who must go.

Pure: no asyncio, no clock, no I/O. Time comes in as `now` (seconds of any monotonic clock),
decisions go out as values, and a decision is booked in the step that makes it. The shell carries
decisions out and reports back with `warming`, `loaded`, `failed`, `overdue` and `gone`.

One procedure, `_advance`, makes room and starts loads; every step that could change its outcome
ends in it. A step costs at most the logarithm of the residents, whatever the catalog's size.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from greenroom.errors import ModelInUseError, ModelNotResidentError
from greenroom.ledger.backoff import Backoff
from greenroom.ledger.lazy_heap import LazyHeap
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
    owners_of,
)
from greenroom.ledger.upkeep import Upkeep
from greenroom.ledger.wait_queue import DeviceQueue, QueuedModel


class Residency(Upkeep):
    """The ledger of one manager."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.backoff = Backoff(policy.first_retry, policy.longest_retry)
        self._due = LazyHeap(lambda r: r.expires_at)
        self._number = 0
        self._crowded = False  # somebody waits in line, or there are too many

    # Requests

    def hit(self, model_id: str, owner: Hashable, now: float) -> Resident | None:
        """Take a reference if the model is ready."""
        resident = self._ready.get(model_id)
        if resident is None:
            return None
        resident.holders.setdefault(owner, []).append(now)
        self.hits += 1
        return resident

    def request(
        self, request: ModelRequest, owner: Hashable, now: float
    ) -> tuple[Ticket, list[Decision]]:
        """Ask for a model that was no hit; the ticket is granted or refused, now or later."""
        ticket = Ticket(request.model_id, owner, now, now + self.policy.acquire_timeout)
        resident = self._residents.get(request.model_id)
        if resident is not None and resident.loading and not self._closed:
            resident.waiters[ticket] = None
            return ticket, [Joined(ticket)]
        out: list[Decision] = []
        refusal = self._refuse_at_once(request, ticket, now)
        if refusal is not None:
            self._refuse(refusal, out)
        else:
            self.queue.add(request, ticket, parked=resident is not None)
            out = self._advance(now)
            if ticket in self.queue:
                out.append(Wait(ticket, ticket.deadline))
        return ticket, out

    def _refuse_at_once(self, request: ModelRequest, ticket: Ticket, now: float) -> Refused | None:
        if self._closed:
            return Refused(ticket, Reason.SHUTDOWN)
        refusal = self.backoff.refusal(ticket, now) or self.capacity.refusal(request, ticket, now)
        if refusal is None and self.queue.count >= self.policy.max_waiting:
            return Refused(ticket, Reason.LINE_FULL, self.capacity.retry_after(request, now))
        return refusal

    def cancel(self, ticket: Ticket, now: float) -> list[Decision]:
        """End a caller's wait; a reference that was granted meanwhile is given back."""
        if ticket.granted:
            return self.release(ticket.model_id, ticket.owner, now) or []
        resident = self._residents.get(ticket.model_id)
        if resident is not None and ticket in resident.waiters:
            del resident.waiters[ticket]
            return []
        self.queue.remove(ticket)
        return self._advance(now)

    def release(self, model_id: str, owner: Hashable, now: float) -> list[Decision] | None:
        """Give one reference back; `None` means that nothing else changed.

        Raises `ModelNotResidentError` or `LeaseReleasedError`, changing nothing.
        """
        resident = self._residents.get(model_id)
        if resident is None:
            raise ModelNotResidentError(model_id)
        resident.drop_reference(owner)
        if resident.holders or resident.streams:
            return None
        resident.idle_since = now
        if resident.indexed and not self._closed:
            return None
        return self._became_idle(resident, now)

    def open_stream(self, resident: Resident) -> None:
        """Count one more running stream; raises `ModelNotResidentError` once it is leaving."""
        if self._residents.get(resident.model_id) is not resident or (
            resident.state not in (State.READY, State.DRAINING)
        ):
            raise ModelNotResidentError(resident.model_id)
        resident.streams += 1

    def close_stream(self, resident: Resident, now: float) -> list[Decision] | None:
        """Count one running stream fewer; `None` means that nothing else changed."""
        resident.streams -= 1
        if resident.in_use or self._residents.get(resident.model_id) is not resident:
            return None
        resident.idle_since = now
        return self._became_idle(resident, now)

    def pin(self, model_id: str, now: float) -> list[Decision]:
        """Exempt a model from eviction and expiry, now and whenever it is loaded again."""
        resident = self._residents.get(model_id)
        if resident is not None and not resident.pinned and not resident.leaving:
            self.capacity.pin(resident)
            self._due.discard(resident)
        self._pins.add(model_id)
        return self._advance(now)

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
        self._due.discard(resident)  # its moment may have moved to an earlier one
        if resident.indexed and not resident.pinned and ttl >= 0:
            self._due.add(resident)
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
            return []
        if resident.loading or (resident.in_use and not drain):
            raise ModelInUseError(model_id, owners_of(resident), resident.streams)
        out: list[Decision] = []
        if resident.in_use or resident.upgrading:
            self.capacity.book_leaving(resident, promised=False)
            self._due.discard(resident)
            resident.state = State.DRAINING
            resident.indexed = False
            self._ready.pop(model_id, None)
        else:
            self._leave(resident, Reason.UNLOADED, out)
        return out + self._advance(now)

    def end_drain(self, model_id: str, now: float) -> list[Decision]:
        """Take a drain back: the model is ready again, and whoever waited for it has it."""
        resident = self._residents.get(model_id)
        if resident is None or self._closed or resident.state is not State.DRAINING:
            return []
        resident.state = State.READY
        resident.pinned = model_id in self._pins
        self.capacity.book_staying(resident, now)
        self._ready[model_id] = resident
        return self._grant(self.queue.pop(model_id), resident, now) + self._advance(now)

    def close(self) -> list[Decision]:
        """Refuse everybody who waits, and every later request, hits included."""
        self._closed = True
        self._ready.clear()
        out: list[Decision] = []
        for ticket in self.queue.all_tickets():
            self._refuse(Refused(ticket, Reason.SHUTDOWN), out)
        for resident in self._residents.values():
            for ticket in resident.waiters:
                self._refuse(Refused(ticket, Reason.SHUTDOWN), out)
            resident.waiters = {}
        return out

    def force_unload(self, model_id: str) -> list[Decision]:
        """Let a ready or draining model go, whoever holds it: the end of a shutdown."""
        out: list[Decision] = []
        self._leave(self._residents[model_id], Reason.SHUTDOWN, out)
        return out

    # Reports from the shell

    def warming(self, resident: Resident, load_s: float) -> None:
        """The model is loaded and speaks its first words."""
        resident.state = State.WARMING
        resident.load_s = load_s

    def loaded(
        self,
        resident: Resident,
        instance: Any,
        now: float,
        *,
        warmup_s: float = 0.0,
        footprint: int | None = None,
    ) -> list[Decision]:
        """The model is ready: every waiter gets a reference in this very step."""
        self.loads += 1
        self.backoff.forget(resident.model_id)
        resident.state = State.READY
        resident.instance = instance
        resident.warmup_s = warmup_s
        resident.ready_at = resident.idle_since = now
        resident.keep_until = now + self.policy.min_residency
        if not self._closed:
            self._ready[resident.model_id] = resident
        self.capacity.book_ready(resident, now, footprint)
        out = self._grant(resident.waiters, resident, now)
        resident.waiters = {}
        if not resident.in_use:
            self._index(resident)
        return out + self._advance(now)

    def failed(
        self, resident: Resident, problem: str, now: float, *, gone: bool = True
    ) -> list[Decision]:
        """The load or warmup failed: every waiter is refused, and later attempts for a while.

        With `gone=False` a thread is still inside the engine: its room stays booked until `gone`.
        """
        wait = self.backoff.record(resident.model_id, problem, now)
        self.failed_loads += 1
        out: list[Decision] = []
        for ticket in resident.waiters:
            self._refuse(Refused(ticket, Reason.LOAD_FAILED, wait, problem), out)
        resident.waiters = {}
        self.capacity.book_leaving(resident, promised=False)
        resident.state = State.UNLOADING
        return out + (self.gone(resident, now) if gone else self._advance(now))

    def overdue(self, resident: Resident, now: float) -> list[Decision]:
        """An unload takes longer than it may: others no longer count on its room."""
        self.capacity.break_promise(resident)
        return self._advance(now)

    def gone(self, resident: Resident, now: float) -> list[Decision]:
        """The model has left: its room is free, and whoever wants it may load it afresh."""
        self.capacity.free(resident)
        del self._residents[resident.model_id]
        resident.instance = None
        self.queue.unpark(resident.model_id)
        return self._advance(now)

    def observed(self, taken: Mapping[str, int], now: float) -> list[Decision]:
        """The process was seen to take so many bytes of each device for its models."""
        self.capacity.observe(taken)
        return self._advance(now)

    # Time

    def tick(self, now: float) -> list[Decision]:
        """Do what is due: expire, make room, end waits that took too long."""
        out: list[Decision] = []
        while (resident := self._due.pop(now)) is not None:
            if resident.may_leave:
                self._leave(resident, Reason.EXPIRED, out)
            else:
                resident.indexed = False
        out += self._advance(now)
        for ticket in self.queue.timed_out(now):
            request = self.queue.request_of(ticket)
            overdrawn = self.capacity.is_overdrawn(request.device)
            reason = Reason.OVERDRAWN if overdrawn else Reason.TIMED_OUT
            self._refuse(Refused(ticket, reason, self.capacity.retry_after(request, now)), out)
        return out + self._advance(now)

    def next_due(self) -> float:
        """Return a moment before which `tick` has nothing to do; infinite if it never has."""
        maturing = self.capacity.matures_at() if self._crowded else math.inf
        return min(self._due.bound(), self.queue.next_deadline(), maturing)

    # Making room

    def _advance(self, now: float) -> list[Decision]:
        """Start every load that has room, make room for the first that has none."""
        out: list[Decision] = []
        device_queues = self.queue.device_queues()
        if device_queues or self.capacity.crowded():
            self.capacity.mature(now)
            for device_queue in device_queues:
                self._serve(device_queue, now, out)
            while (victim := self.capacity.surplus()) is not None:
                self._leave(victim, Reason.SURPLUS, out)
        self._crowded = bool(self.queue.device_queues()) or self.capacity.crowded()
        return out

    def _serve(self, device_queue: DeviceQueue, now: float, out: list[Decision]) -> None:
        while queued := device_queue.head():
            victims = (
                self.capacity.victims_for(queued.request) if self.capacity.may_load() else None
            )
            for victim in victims or ():
                self._leave(victim, Reason.EVICTED, out, makes_room_for=queued.request.model_id)
            if victims is not None and self.capacity.fits(queued.request):
                self._start(queued.request, now, out)
            elif victims is not None or not self._refuse_hopeless(queued, now, out):
                return

    def _refuse_hopeless(self, queued: QueuedModel, now: float, out: list[Decision]) -> bool:
        """Refuse those for whom room is sure to come too late; whether that was everybody."""
        for ticket in list(queued.tickets):
            refusal = self.capacity.refusal(queued.request, ticket, now)
            if refusal is not None:
                self._refuse(refusal, out)
        return not queued.tickets

    # Bookkeeping

    def _start(self, request: ModelRequest, now: float, out: list[Decision]) -> None:
        self._number += 1
        ttl = self.policy.ttl if request.ttl is None else request.ttl
        footprint = self.capacity.need(request)
        resident = Resident(request, State.LOADING, self._number, footprint, now, ttl)
        resident.pinned = request.model_id in self._pins
        resident.waiters = self.queue.pop(request.model_id)
        self._residents[request.model_id] = resident
        self.capacity.book(resident)
        out.append(Load(resident))

    def _leave(
        self,
        resident: Resident,
        reason: Reason,
        out: list[Decision],
        *,
        makes_room_for: str | None = None,
    ) -> None:
        self.capacity.book_leaving(resident, promised=True)
        self._due.discard(resident)
        self._ready.pop(resident.model_id, None)
        resident.state = State.UNLOADING
        self.departures[reason] += 1
        out.append(Unload(resident, reason, makes_room_for))

    def _grant(self, tickets: Iterable[Ticket], to: Resident, now: float) -> list[Decision]:
        out: list[Decision] = []
        for ticket in tickets:
            to.holders.setdefault(ticket.owner, []).append(now)
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
            self._leave(resident, Reason.UNLOADED, out)
            return out + self._advance(now)
        if resident.state is State.READY:
            self._index(resident)
        return self.tick(now)

    def _index(self, resident: Resident) -> None:
        """Put an idle model where expiry and eviction will find it."""
        resident.indexed = True
        if not resident.pinned:
            self.capacity.offer(resident)
            if resident.ttl >= 0:
                self._due.add(resident)
