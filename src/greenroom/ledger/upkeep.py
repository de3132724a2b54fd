"""Work on models that stay in memory, and beside them: upgrades and preparations.

Part of the ledger, as pure as it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from greenroom.ledger.books import Books
from greenroom.ledger.capacity import RESERVED_ON, Capacity
from greenroom.ledger.state import Decision, Policy, Resident, State
from greenroom.ledger.wait_queue import WaitQueue


class Upkeep(Books, ABC):
    """What may be done with a model while callers have it, and with memory that nobody needs."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.capacity = Capacity(policy)
        self.queue = WaitQueue()
        self._closed = False

    @abstractmethod
    def _advance(self, now: float) -> list[Decision]:
        """Start every load that has room."""

    @abstractmethod
    def _became_idle(self, resident: Resident, now: float) -> list[Decision]:
        """Do what follows from nobody using the model."""

    # Upgrades

    def begin_upgrade(self, resident: Resident) -> bool:
        """Keep a model in memory, whoever lets go of it, while its form is replaced.

        Callers use it meanwhile as ever, and its idle time runs. Returns whether it may begin:
        not when the model is not ready, or in the middle of another upgrade.
        """
        ready = self._residents.get(resident.model_id) is resident
        if self._closed or not ready or resident.state is not State.READY or resident.upgrading:
            return False
        resident.upgrading = True
        return True

    def end_upgrade(
        self, resident: Resident, now: float, footprint: int | None = None
    ) -> list[Decision]:
        """The upgrade is over; `footprint` is what the model takes from now on, if that changed."""
        resident.upgrading = False
        if self._residents.get(resident.model_id) is not resident:
            return []
        if resident.state is State.UNLOADING:  # a shutdown did not wait
            return []
        if footprint is not None:
            self.capacity.rebook(resident, footprint)
        if resident.in_use:
            return self._advance(now)
        return self._became_idle(resident, now)

    # Reservations

    def reserve(self, size: int) -> bool:
        """Book memory of the machine for work beside the models, if there is room and no caller.

        Nobody leaves for it. One reservation at a time. It keeps a load from beginning, but no
        caller is refused because of it: when one waits for that memory, the reserved work is to
        end (`reservation_blocks_callers`).
        """
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
        heads = [
            head.request
            for device_queue in self.queue.device_queues()
            if (head := device_queue.head())
        ]
        return any(map(self.capacity.needs_reserved, heads)) or (
            self.capacity.is_overdrawn(RESERVED_ON) and any(d.device == RESERVED_ON for d in heads)
        )
