"""The capacity of a manager: what is booked of it, what is about to come free, which models may go.

Part of the ledger, as pure as it. Counts and bytes are booked from the moment a load is decided
until the model is really gone. Room that is about to come free is *promised*: it is counted on
when victims are chosen, so that no two models are evicted for one need, but never given away
early, since the engine that leaves has it still.

Each resident is counted in one of three ways, and all sums are kept by step, never by search:

    movable   neither pinned nor leaving; `protected` among them within their min residency
    pinned    pinned and not leaving: its bytes are out of reach for others
    leaving   draining or unloading; `promised` among them when its room is counted on
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from greenroom.ledger.lazy_heap import LazyHeap
from greenroom.ledger.shared_memory import SharedMemory
from greenroom.ledger.state import (
    ModelRequest,
    Policy,
    Reason,
    Refused,
    Resident,
    SharedPart,
    State,
    Ticket,
)

RESERVED_ON = "cpu"
"""Reservations are of the machine's own memory."""

NOISE = 32 * 1024 * 1024
"""Bytes by which a process may grow without its models: buffers, caches, the engine's own code."""


class Capacity:
    """The accounts of one manager's memory, and an index of the models that may leave it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.booked: Counter[str] = Counter()
        """Per device, the bytes of all that is resident, loading and unloading."""
        self.shared = SharedMemory(self._resize)
        """What several models have in common, which is booked with one of them."""
        self.reserved = 0
        """Bytes of the machine's memory for work beside the models; no model leaves for it."""
        self.loading = 0
        """Loads under way; one that hangs after it failed has given its slot back."""
        self._count = 0  # all residents, over all devices: the cap knows no device
        self._count_on: Counter[str] = Counter()
        self._leaving = 0
        self._promised = 0
        self._promised_bytes: Counter[str] = Counter()
        self._pinned_bytes: Counter[str] = Counter()
        self._movable = 0
        self._protected = LazyHeap(lambda r: r.keep_until)
        # A heap for each device: missing bytes come from one device, whose least recently used
        # model would have to be searched for among those of the others.
        self._candidates: dict[str, LazyHeap] = {}
        # All that are ready and movable, in use or not, by how long they have had their place.
        self._tenants: dict[str, LazyHeap] = {}
        self.taken: Counter[str] = Counter()
        """Per device, the bytes that the process was last seen to take for its models."""
        self._shedding: set[str] = set()

    # The accounts

    def book(self, resident: Resident) -> None:
        """Book a model that begins to load."""
        self._count += 1
        self._count_on[resident.device] += 1
        self.loading += 1
        self.booked[resident.device] += resident.footprint
        if resident.pinned:
            self._pinned_bytes[resident.device] += resident.footprint
        else:
            self._movable += 1
        self.shared.book(resident, resident.request.shared)

    def book_ready(
        self, resident: Resident, now: float, footprint: int | None, shared: SharedPart | None
    ) -> None:
        """Book a model that became ready, with its measured footprint."""
        self.end_load()
        if footprint is not None:
            self.rebook(resident, footprint, shared)
        if not resident.pinned:
            # Counted anew: only now that it is ready does its min residency begin.
            self._movable -= 1
            self._add_movable(resident, now)

    def end_load(self) -> None:
        """Give back the slot of a load that has ended, well or badly."""
        self.loading -= 1

    def rebook(self, resident: Resident, footprint: int, shared: SharedPart | None) -> None:
        """Book another footprint for a model that stays, without what it shares with others."""
        self.shared.change(resident, shared)
        self._resize(resident, footprint + resident.carried)

    def _resize(self, resident: Resident, footprint: int) -> None:
        """Book another footprint, in every sum that it is part of."""
        grown = footprint - resident.footprint
        resident.footprint = footprint
        self.booked[resident.device] += grown
        if resident.promised:
            self._promised_bytes[resident.device] += grown
        # A pinned model that drains is counted with those that leave, and in no sum of the pinned.
        elif resident.pinned and not resident.leaving:
            self._pinned_bytes[resident.device] += grown

    def book_leaving(self, resident: Resident) -> None:
        """Book a model that begins to leave; nobody counts on its room before `promise`."""
        self._stop_staying(resident)
        self._leaving += 1

    def promise(self, resident: Resident) -> None:
        """Count on the room of a model whose unload begins."""
        resident.promised = True
        self._promised += 1
        self._promised_bytes[resident.device] += resident.footprint
        self.shared.promised(resident)

    def book_staying(self, resident: Resident, now: float) -> None:
        """Undo `book_leaving` for a model whose drain was taken back."""
        self._leaving -= 1
        # By its pin as it is by now, which `Residency.end_drain` has just looked up.
        if resident.pinned:
            self._pinned_bytes[resident.device] += resident.footprint
        else:
            self._add_movable(resident, now)

    def break_promise(self, resident: Resident) -> None:
        """Stop counting on the room of a model that does not leave in time."""
        # The bytes stay booked, so the budget holds whatever the hanging thread uses.
        if resident.promised:
            resident.promised = False
            self._promised -= 1
            self._promised_bytes[resident.device] -= resident.footprint
            self.shared.unpromised(resident)

    def free(self, resident: Resident) -> None:
        """Give back the room of a model that is gone."""
        self.break_promise(resident)
        self.shared.leave(resident)
        self._leaving -= 1
        self._count -= 1
        self._count_on[resident.device] -= 1
        self.booked[resident.device] -= resident.footprint

    def pin(self, resident: Resident) -> None:
        """Move a model that stays to the side of those that must not be moved."""
        self._stop_staying(resident)
        resident.pinned = True
        self._pinned_bytes[resident.device] += resident.footprint

    def unpin(self, resident: Resident, now: float) -> None:
        """Undo `pin`."""
        resident.pinned = False
        self._pinned_bytes[resident.device] -= resident.footprint
        self._add_movable(resident, now)

    def _add_movable(self, resident: Resident, now: float) -> None:
        """Count a model among those that may leave one day."""
        self._movable += 1
        if resident.state is State.READY:
            self._tenants_on(resident.device).add(resident)
        # One that loads is not protected yet: how long it will be is known when it is ready.
        if resident.state is State.READY and now < resident.keep_until:
            resident.protected = True
            self._protected.add(resident)

    def _stop_staying(self, resident: Resident) -> None:
        """Count a model neither as movable nor as pinned: undo `book` or `_add_movable`."""
        if resident.pinned:
            self._pinned_bytes[resident.device] -= resident.footprint
            return
        self._movable -= 1
        resident.protected = False
        self._protected.discard(resident)
        self._candidates_on(resident.device).discard(resident)
        self._tenants_on(resident.device).discard(resident)

    # Which models may leave

    def add_candidate(self, resident: Resident) -> None:
        """Put an idle, unpinned model where a search for victims will find it."""
        # A protected one comes there by `end_protection`, so that no search has to skip it.
        if not resident.protected:
            self._candidates_on(resident.device).add(resident)

    def end_protection(self, now: float) -> None:
        """Make those whose min residency is over available as victims."""
        while (resident := self._protected.pop(now)) is not None:
            resident.protected = False
            if resident.may_leave:
                self.add_candidate(resident)
            else:
                resident.indexed = False

    def next_protection_end(self) -> float:
        """Return a moment before which `end_protection` has nothing to do."""
        return self._protected.bound()

    def _pop_victim(self, device: str | None = None) -> Resident | None:
        """Take out the least recently used model that may leave, of `device` or of all."""
        devices = list(self._candidates) if device is None else [device]
        firsts = [first for name in devices if (first := self._pop_candidate(name)) is not None]
        firsts.sort(key=lambda r: (r.idle_since, r.number))
        # A heap tells its first only by giving it up, so the others are put back.
        for spared in firsts[1:]:
            self.add_candidate(spared)
        return firsts[0] if firsts else None

    def _pop_candidate(self, device: str) -> Resident | None:
        heap = self._candidates_on(device)
        while (resident := heap.pop()) is not None:
            if resident.may_leave:
                return resident
            # In use again since it was put in; the release that makes it idle puts it back.
            resident.indexed = False
        return None

    def _candidates_on(self, device: str) -> LazyHeap:
        heap = self._candidates.get(device)
        if heap is None:
            heap = self._candidates[device] = LazyHeap(lambda r: r.idle_since)
        return heap

    # Which models have had their turn

    @property
    def places(self) -> int:
        """The number of places that change hands: all residents but the pinned ones."""
        return max(1, self._movable + self._leaving)

    def longest_tenant(self, request: ModelRequest) -> Resident | None:
        """Return the model whose leaving would help `request`, and that has had its place longest.

        In use or not. `None` where no model is known to help.
        """
        if self._is_barred(request.device):
            return None
        # As with victims: missing bytes come from the device that misses them.
        missing = self._missing_bytes(request) > self._promised_bytes[request.device]
        devices = [request.device] if missing else list(self._tenants)
        firsts = []
        for heap in map(self._tenants_on, devices):
            first = heap.pop()
            if first is not None:
                heap.add(first)
                firsts.append(first)
        return min(firsts, key=lambda r: (r.tenure_from, r.number), default=None)

    def _tenants_on(self, device: str) -> LazyHeap:
        heap = self._tenants.get(device)
        if heap is None:
            heap = self._tenants[device] = LazyHeap(lambda r: r.tenure_from)
        return heap

    # What the process really takes

    def observe(self, taken: Mapping[str, int]) -> None:
        """Note what the process takes of each device for its models, in bytes.

        Where that is over the budget no load begins, unless nothing of the device is in memory:
        then nothing could give any back, and waiting would have no end. One idle model leaves for
        each observation, as only the next shows what its leaving has given back.
        """
        self.taken = Counter(taken)
        self._shedding = set(self.overdrawn)

    @property
    def overdrawn(self) -> tuple[str, ...]:
        """The devices of which the process takes clearly more than all models may."""
        return tuple(filter(self.is_overdrawn, self.taken))

    def is_overdrawn(self, device: str) -> bool:
        """Whether the process takes clearly more of a device than all models may."""
        return self.taken[device] > self._budget(device) + NOISE

    # Whether there is room

    def bytes_for(self, request: ModelRequest) -> int:
        """Return the bytes to book for a load.

        What is only expected never asks for more than could come free: all but the pinned.
        """
        wanted = request.footprint + self.shared.missing_for(request.device, request.shared)
        if request.min_footprint is None:
            return wanted
        # Booked whole, an expectation above that would wait for ever; it is tried alone instead,
        # and measured.
        most = max(0.0, self._budget(request.device) - self._pinned_bytes[request.device])
        return max(request.min_footprint, int(min(wanted, most)))

    def is_alone(self, resident: Resident) -> bool:
        """Whether nothing but pinned models is in memory beside it."""
        return self._movable - (not resident.pinned) <= 0 and not self._leaving

    def may_load(self) -> bool:
        """Whether one more load may run beside those that do."""
        return self.loading < self._policy.max_parallel_loads

    def fits(self, request: ModelRequest) -> bool:
        """Whether a load may begin now, with no promised room counted on."""
        missing = self._missing_bytes(request) + self._reserved_on(request.device)
        if missing > 0 or self._is_barred(request.device):
            return False
        if self._count < self._policy.resident_cap:
            return True
        # A soft cap gives way only where waiting would not help: not while a model is leaving.
        return self._policy.cap_policy == "soft" and not self._promised

    def victims_for(self, request: ModelRequest) -> list[Resident] | None:
        """Return the models that must leave for `request`; `None` if that would not be enough.

        Those that leave already count. No model is chosen in vain.
        """
        # What the process takes too much is booked to no model, so no victim is known to help;
        # one leaves for each observation (`surplus`).
        if self._is_barred(request.device):
            return None
        # Reserved bytes are not missing: no model leaves for work that gives way to callers.
        too_many = self._count + 1 - self._policy.resident_cap - self._promised
        too_much = self._missing_bytes(request) - self._promised_bytes[request.device]
        victims: list[Resident] = []
        # Bytes first, from the device that misses them: each such victim is one too many fewer as
        # well, while one of another device frees no byte here.
        while too_much > 0 or too_many > 0:
            victim = self._pop_victim(request.device if too_much > 0 else None)
            if victim is None:
                break
            victims.append(victim)
            too_many -= 1
            # Another device's bytes count only where none are missing. What the victim carries
            # for others stays; it comes free with the last of those that have it.
            too_much -= victim.footprint - victim.carried
            too_much -= self.shared.freed_by(victims, request.shared)
        # Missing bytes are never borne with, and models too many only under a soft cap.
        if too_much > 0 or (too_many > 0 and self._policy.cap_policy == "hard"):
            for victim in victims:
                self.add_candidate(victim)
            return None
        return victims

    def unused_room_for(self, request: ModelRequest) -> list[Resident] | None:
        """Return the models that must leave for one that is only expected; `None` if it must wait.

        As `victims_for`, but within the cap, and without those that others have prefetched.
        """
        victims = self.victims_for(request)
        if victims is None:
            return None
        too_many = self._count + 1 - self._policy.resident_cap - self._promised - len(victims)
        if too_many <= 0 and all(victim.expected_until is None for victim in victims):
            return victims
        for victim in victims:
            self.add_candidate(victim)
        return None

    def protect(self, resident: Resident, now: float) -> None:
        """Begin the min residency of a prefetched model that has its first caller."""
        if not resident.pinned:
            self._stop_staying(resident)
            self._add_movable(resident, now)

    def surplus(self) -> Resident | None:
        """Return the next one that must leave because there are too many, or too much."""
        # How it comes to that: a soft cap gave way, or a model proved larger than was booked.
        if self._count - self._promised > self._policy.resident_cap:
            return self._pop_victim()
        for device in self._policy.budgets:
            if self._must_shed(device) and (victim := self._pop_victim(device)) is not None:
                self._shedding.discard(device)
                return victim
        return None

    def _must_shed(self, device: str) -> bool:
        # Booked too much, or seen to take too much: the second ends with one departure.
        return self._excess(device) > 0 or device in self._shedding

    def over_limits(self) -> bool:
        """Whether there are more models, or more bytes, than there should be."""
        over = any(map(self._must_shed, self._policy.budgets))
        return over or self._count - self._promised > self._policy.resident_cap

    def refusal(self, request: ModelRequest, ticket: Ticket, now: float) -> Refused | None:
        """Return why waiting would be in vain: room never comes, or comes after the deadline."""
        # Larger than the whole budget: no other model's leaving, and no time, changes that.
        if self._minimum(request) > self._budget(request.device):
            return Refused(ticket, Reason.TOO_BIG)
        if self.opens_at(request, now) > ticket.deadline:
            return Refused(ticket, Reason.NO_ROOM, self.retry_after(request, now))
        return None

    def opens_at(self, request: ModelRequest, now: float) -> float:
        """Return a moment before which room for `request` cannot come; infinite if it never can.

        By the rules alone: a holder may let go and a load may fail at any moment.
        """
        left_by_pinned = self.free_beside_pinned(request.device)
        if self.bytes_for(request) > left_by_pinned:
            return math.inf
        # What leaves may be gone at any moment, a load may fail, reserved work gives way.
        if self._leaving or self.loading or self.needs_reserved(request) or self.fits(request):
            return now
        # The next observation may show that the process takes less.
        if self._is_barred(request.device):
            return now
        # All that is left is ready. With nothing movable only pins are in the way.
        if not self._movable:
            return math.inf
        # While all are protected, the first end of a min residency is the first chance.
        if len(self._protected) == self._movable:
            return max(now, self._protected.bound())
        return now

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
        """Return the bytes that are not booked; infinite where there is no limit."""
        return self._budget(device) - self.booked[device] - self._reserved_on(device)

    def free_beside_pinned(self, device: str) -> float:
        """Return the bytes that would be free if all left that may leave one day."""
        return self._budget(device) - self._pinned_bytes[device]

    def _reserved_on(self, device: str) -> int:
        return self.reserved if device == RESERVED_ON else 0

    def _missing_bytes(self, request: ModelRequest) -> float:
        return self.booked[request.device] + self.bytes_for(request) - self._budget(request.device)

    def _is_barred(self, device: str) -> bool:
        # Where nothing is in memory, nothing could give bytes back: then a load is let through.
        return self._count_on[device] > 0 and self.is_overdrawn(device)

    def _excess(self, device: str) -> float:
        return self.booked[device] - self._promised_bytes[device] - self._budget(device)

    @staticmethod
    def _minimum(request: ModelRequest) -> int:
        if request.min_footprint is not None:
            return request.min_footprint
        return request.footprint + (0 if request.shared is None else request.shared.size)

    def _budget(self, device: str) -> float:
        return self._policy.budgets.get(device, math.inf)
