"""How much room there is, what of it is spoken for, and who could make some.

Part of the ledger, as pure as it. Counts and bytes are booked from the moment a load is decided
until the model is really gone. Room that is about to come free is *promised*: it is counted on
when victims are chosen, so that nobody is evicted twice for one need, but never given away early.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from greenroom.ledger.lazy_heap import LazyHeap
from greenroom.ledger.state import ModelRequest, Policy, Reason, Refused, Resident, State, Ticket

RESERVED_ON = "cpu"
"""Reservations are of the machine's own memory."""

NOISE = 32 * 1024 * 1024
"""Bytes by which a process may grow without its models: buffers, caches, the engine's own code."""


class Capacity:
    """The accounts of one manager's memory, and the index of those who may leave it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.booked: Counter[str] = Counter()
        """Per device, the bytes of all that is resident, loading and unloading."""
        self.reserved = 0
        """Bytes of the machine's memory for work beside the models; nobody leaves for it."""
        self.loading = 0
        self._count = 0
        self._leaving = 0
        self._promised = 0
        self._promised_bytes: Counter[str] = Counter()
        self._pinned_bytes: Counter[str] = Counter()
        self._movable = 0  # neither pinned nor leaving
        self._kept = 0  # those of them that are ready and within their min residency
        self._maturing = LazyHeap(lambda r: r.keep_until)
        self._idle: dict[str, LazyHeap] = {}  # per device, by last use
        self._on: Counter[str] = Counter()  # per device, all that is booked
        self.taken: dict[str, int] = {}
        """Per device, the bytes that the process was last seen to take for its models."""
        self._shedding: set[str] = set()

    # The accounts

    def book(self, resident: Resident) -> None:
        """Book a model that begins to load."""
        self._count += 1
        self._on[resident.device] += 1
        self.loading += 1
        self.booked[resident.device] += resident.footprint
        if resident.pinned:
            self._pinned_bytes[resident.device] += resident.footprint
        else:
            self._movable += 1

    def book_ready(self, resident: Resident, now: float, footprint: int | None) -> None:
        """Book a model that became ready, with its measured footprint."""
        self.loading -= 1
        if footprint is not None:
            self.rebook(resident, footprint)
        if not resident.pinned:
            self._movable -= 1
            self._admit(resident, now)

    def rebook(self, resident: Resident, footprint: int) -> None:
        """Book another footprint for a model that stays."""
        grown = footprint - resident.footprint
        resident.footprint = footprint
        self.booked[resident.device] += grown
        if resident.pinned and not resident.leaving:
            self._pinned_bytes[resident.device] += grown

    def book_leaving(self, resident: Resident, *, promised: bool) -> None:
        """Book a model that begins to leave; without a promise nobody counts on its room yet.

        A model that drains left before, without one.
        """
        if resident.state is not State.DRAINING:
            self.loading -= resident.loading
            self._exempt(resident)
            self._leaving += 1
        if promised:
            resident.promised = True
            self._promised += 1
            self._promised_bytes[resident.device] += resident.footprint

    def book_staying(self, resident: Resident, now: float) -> None:
        """Undo `book_leaving` for a model that drained."""
        self._leaving -= 1
        if resident.pinned:
            self._pinned_bytes[resident.device] += resident.footprint
        else:
            self._admit(resident, now)

    def break_promise(self, resident: Resident) -> None:
        """Stop counting on the room of a model that does not leave in time."""
        if resident.promised:
            resident.promised = False
            self._promised -= 1
            self._promised_bytes[resident.device] -= resident.footprint

    def free(self, resident: Resident) -> None:
        """Give back the room of a model that is gone."""
        self.break_promise(resident)
        self._leaving -= 1
        self._count -= 1
        self._on[resident.device] -= 1
        self.booked[resident.device] -= resident.footprint

    def pin(self, resident: Resident) -> None:
        """Move a model that stays to the side of those that must not be moved."""
        self._exempt(resident)
        resident.pinned = True
        self._pinned_bytes[resident.device] += resident.footprint

    def unpin(self, resident: Resident, now: float) -> None:
        """Undo `pin`."""
        resident.pinned = False
        self._pinned_bytes[resident.device] -= resident.footprint
        self._admit(resident, now)

    def _admit(self, resident: Resident, now: float) -> None:
        """Count a model among those that may leave one day."""
        self._movable += 1
        if resident.state is State.READY and now < resident.keep_until:
            resident.kept = True
            self._kept += 1
            self._maturing.add(resident)

    def _exempt(self, resident: Resident) -> None:
        """Undo `book` or `_admit`."""
        if resident.pinned:
            self._pinned_bytes[resident.device] -= resident.footprint
            return
        self._movable -= 1
        if resident.kept:
            resident.kept = False
            self._kept -= 1
        self._maturing.discard(resident)
        self._idle_on(resident.device).discard(resident)

    # Who may leave

    def offer(self, resident: Resident) -> None:
        """Put an idle, unpinned model where a search for victims will find it."""
        if not resident.kept:
            self._idle_on(resident.device).add(resident)

    def mature(self, now: float) -> None:
        """Make those whose min residency is over available as victims."""
        while (resident := self._maturing.pop(now)) is not None:
            resident.kept = False
            self._kept -= 1
            if resident.may_leave:
                self.offer(resident)
            else:
                resident.indexed = False

    def matures_at(self) -> float:
        """Return a moment before which `mature` has nothing to do."""
        return self._maturing.bound()

    def _pop_victim(self, device: str | None = None) -> Resident | None:
        """Take out the least recently used model that may leave, of `device` or of all."""
        devices = list(self._idle) if device is None else [device]
        found = [victim for name in devices if (victim := self._pop_idle(name)) is not None]
        found.sort(key=lambda r: (r.idle_since, r.number))
        for spared in found[1:]:
            self.offer(spared)
        return found[0] if found else None

    def _pop_idle(self, device: str) -> Resident | None:
        heap = self._idle_on(device)
        while (resident := heap.pop()) is not None:
            if resident.may_leave:
                return resident
            resident.indexed = False
        return None

    def _idle_on(self, device: str) -> LazyHeap:
        heap = self._idle.get(device)
        if heap is None:
            heap = self._idle[device] = LazyHeap(lambda r: r.idle_since)
        return heap

    # What the process really takes

    def observe(self, taken: Mapping[str, int]) -> None:
        """Note what the process takes of each device for its models, in bytes.

        Where that is over the budget no load begins, unless nothing of the device is in memory:
        then nothing could give any back, and waiting would have no end. One idle model leaves for
        each look, as it shows only afterwards what its leaving has given back.
        """
        self.taken = dict(taken)
        self._shedding = set(self.overdrawn)

    @property
    def overdrawn(self) -> tuple[str, ...]:
        """The devices of which the process takes clearly more than all models may."""
        return tuple(filter(self.is_overdrawn, self.taken))

    def is_overdrawn(self, device: str) -> bool:
        """Whether the process takes clearly more of a device than all models may."""
        return self.taken.get(device, 0) > self._budget(device) + NOISE

    # Whether there is room

    def need(self, request: ModelRequest) -> int:
        """Return the bytes to book for a load.

        What is only expected never asks for more than could come free: all but the pinned.
        """
        if request.min_footprint is None:
            return request.footprint
        most = max(0.0, self._budget(request.device) - self._pinned_bytes[request.device])
        return max(request.min_footprint, int(min(request.footprint, most)))

    def is_alone(self, resident: Resident) -> bool:
        """Whether nothing but pinned models is in memory beside it."""
        return self._movable - (not resident.pinned) <= 0 and not self._leaving

    def may_load(self) -> bool:
        """Whether one more load may run beside those that do."""
        return self.loading < self._policy.max_parallel_loads

    def fits(self, request: ModelRequest) -> bool:
        """Whether a load may begin now, with nobody's leaving counted on."""
        missing = self._missing_bytes(request) + self._reserved_on(request.device)
        if missing > 0 or self._is_barred(request.device):
            return False
        if self._count < self._policy.resident_cap:
            return True
        return self._policy.cap_policy == "soft" and not self._promised

    def victims_for(self, request: ModelRequest) -> list[Resident] | None:
        """Return who must leave for `request`, or `None` if even that would not be enough.

        Those who leave already count. Nobody is chosen in vain.
        """
        if self._is_barred(request.device):
            return None
        too_many = self._count + 1 - self._policy.resident_cap - self._promised
        too_much = self._missing_bytes(request) - self._promised_bytes[request.device]
        victims: list[Resident] = []
        while too_much > 0 or too_many > 0:
            victim = self._pop_victim(request.device if too_much > 0 else None)
            if victim is None:
                break
            victims.append(victim)
            too_many -= 1
            too_much -= victim.footprint  # another device's only when none are missing
        if too_much > 0 or (too_many > 0 and self._policy.cap_policy == "hard"):
            for victim in victims:
                self.offer(victim)
            return None
        return victims

    def surplus(self) -> Resident | None:
        """Return the next one that must leave because there are too many, or too much."""
        if self._count - self._promised > self._policy.resident_cap:
            return self._pop_victim()
        for device in self._policy.budgets:
            if self._must_shed(device) and (victim := self._pop_victim(device)) is not None:
                self._shedding.discard(device)
                return victim
        return None

    def _must_shed(self, device: str) -> bool:
        return self._excess(device) > 0 or device in self._shedding

    def crowded(self) -> bool:
        """Whether there are more models, or more bytes, than there should be."""
        over = any(map(self._must_shed, self._policy.budgets))
        return over or self._count - self._promised > self._policy.resident_cap

    def refusal(self, request: ModelRequest, ticket: Ticket, now: float) -> Refused | None:
        """Return why waiting would be in vain: room never comes, or comes after the deadline."""
        if self._minimum(request) > self._budget(request.device):
            return Refused(ticket, Reason.TOO_BIG)
        if self.opens_at(request, now) > ticket.deadline:
            return Refused(ticket, Reason.NO_ROOM, self.retry_after(request, now))
        return None

    def opens_at(self, request: ModelRequest, now: float) -> float:
        """Return a moment before which room for `request` cannot come; infinite if it never can.

        By the rules alone: a holder may let go and a load may fail at any moment.
        """
        if self._pinned_bytes[request.device] + self.need(request) > self._budget(request.device):
            return math.inf
        if self._leaving or self.loading or self.needs_reserved(request) or self.fits(request):
            return now
        if self._is_barred(request.device):
            return now
        if not self._movable:
            return math.inf
        return max(now, self._maturing.bound()) if self._kept == self._movable else now

    def retry_after(self, request: ModelRequest, now: float) -> float | None:
        """Return in how many seconds room can first exist; `None` if by the rules it never can."""
        opens_at = self.opens_at(request, now)
        if math.isinf(opens_at):
            return None
        return opens_at - now if opens_at > now else self._policy.first_retry

    def needs_reserved(self, request: ModelRequest) -> bool:
        """Whether reserved room is missing for `request`."""
        reserved = self._reserved_on(request.device)
        return reserved > 0 and self._missing_bytes(request) + reserved > 0

    def free_bytes(self, device: str) -> float:
        """Return the bytes that nobody has booked; infinite where there is no limit."""
        return self._budget(device) - self.booked[device] - self._reserved_on(device)

    def free_beside_pinned(self, device: str) -> float:
        """Return the bytes that would be free if all left that may leave one day."""
        return self._budget(device) - self._pinned_bytes[device]

    def _reserved_on(self, device: str) -> int:
        return self.reserved if device == RESERVED_ON else 0

    def _missing_bytes(self, request: ModelRequest) -> float:
        return self.booked[request.device] + self.need(request) - self._budget(request.device)

    def _is_barred(self, device: str) -> bool:
        return self._on[device] > 0 and self.is_overdrawn(device)

    def _excess(self, device: str) -> float:
        return self.booked[device] - self._promised_bytes[device] - self._budget(device)

    @staticmethod
    def _minimum(request: ModelRequest) -> int:
        return request.footprint if request.min_footprint is None else request.min_footprint

    def _budget(self, device: str) -> float:
        return self._policy.budgets.get(device, math.inf)
