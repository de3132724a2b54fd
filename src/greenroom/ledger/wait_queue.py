"""Callers that wait for room: per device first come, first served, each until its deadline.

Callers of one model wait together and are served together, at the place of the first of them.
Each device has a queue of its own, so that a full one holds up no other.

Part of the ledger, as pure as it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from greenroom.ledger.state import ModelRequest, Ticket


@dataclass(slots=True, eq=False)
class QueuedModel:
    """A model that waits for room, and the callers that wait for the model."""

    request: ModelRequest
    number: int
    """The order of arrival, kept by a model that first waits for its own earlier life to end."""
    tickets: dict[Ticket, None] = field(default_factory=dict)

    @property
    def since(self) -> float:
        """Since when the first of its callers has waited; there must be one."""
        return next(iter(self.tickets)).since


class DeviceQueue:
    """Models of one device in order of arrival; one whose callers have all left is passed over."""

    def __init__(self) -> None:
        # A heap and no list: a model that was parked comes in later than it arrived.
        self._models: list[tuple[int, QueuedModel]] = []

    def add(self, queued: QueuedModel) -> None:
        """Put a model where its arrival puts it."""
        heappush(self._models, (queued.number, queued))

    def head(self) -> QueuedModel | None:
        """Return the first model that a caller still waits for."""
        # Those without callers are dropped here and not when the last caller leaves, which would
        # take a search. A model that is asked for again is a new entry, at the end.
        while self._models and not self._models[0][1].tickets:
            heappop(self._models)
        return self._models[0][1] if self._models else None


class WaitQueue:
    """Every caller that waits for room, by model, by device and by deadline."""

    def __init__(self) -> None:
        self.count = 0
        """Callers that wait."""
        # Three indexes of the same tickets. Only the first is exact; the heaps of the other two
        # keep what has been answered until it comes up.
        self._models: dict[str, QueuedModel] = {}
        self._counts: Counter[str] = Counter()
        self._device_queues: dict[str, DeviceQueue] = {}
        self._deadlines: list[tuple[float, int, Ticket]] = []
        self._numbers = count()

    def add(self, request: ModelRequest, ticket: Ticket, *, parked: bool) -> None:
        """Put a caller with its model's others; a parked model is in no queue until `unpark`."""
        queued = self._models.get(request.model_id)
        # The first request stands for all: it is about the model, not about its caller.
        if queued is None:
            queued = self._models[request.model_id] = QueuedModel(request, next(self._numbers))
            self._counts[request.device] += 1
            if not parked:
                self._enqueue(queued)
        queued.tickets[ticket] = None
        self.count += 1
        # The number breaks ties: tickets cannot be compared.
        heappush(self._deadlines, (ticket.deadline, next(self._numbers), ticket))

    def unpark(self, model_id: str) -> None:
        """Have a model wait for room: its earlier life has ended."""
        queued = self._models.get(model_id)
        if queued is not None:
            self._enqueue(queued)

    def remove(self, ticket: Ticket) -> None:
        """Let one caller go, if it waits."""
        # Not in the heaps: to find it there would take a search.
        if ticket in self:
            queued = self._models[ticket.model_id]
            del queued.tickets[ticket]
            self.count -= 1
            if not queued.tickets:
                del self._models[ticket.model_id]
                self._counts[queued.request.device] -= 1

    def pop(self, model_id: str) -> dict[Ticket, None]:
        """Let all callers of a model go, and return them."""
        queued = self._models.pop(model_id, None)
        if queued is None:
            return {}
        # Emptied, so that its entry in the device's queue is passed over.
        tickets, queued.tickets = queued.tickets, {}
        self.count -= len(tickets)
        self._counts[queued.request.device] -= 1
        return tickets

    def tickets(self, model_id: str) -> tuple[Ticket, ...]:
        """Return the callers that wait for a model."""
        queued = self._models.get(model_id)
        return tuple(queued.tickets) if queued is not None else ()

    def all_tickets(self) -> list[Ticket]:
        """Return every caller that waits."""
        return [ticket for queued in self._models.values() for ticket in queued.tickets]

    def models_on(self, device: str) -> int:
        """Return how many models of a device callers wait for, parked ones included."""
        return self._counts[device]

    def has_line(self, device: str) -> bool:
        """Return whether a model of a device waits for room; parked ones do not."""
        device_queue = self._device_queues.get(device)
        return device_queue is not None and device_queue.head() is not None

    def request_of(self, ticket: Ticket) -> ModelRequest:
        """Return what a waiting caller waits for."""
        return self._models[ticket.model_id].request

    def device_queues(self) -> list[DeviceQueue]:
        """Return the queues with callers in them; the one whose head came first is first."""
        # The usual case, asked several times a step: no caller waits.
        if not self._device_queues:
            return []
        heads = {
            name: head
            for name, device_queue in self._device_queues.items()
            if (head := device_queue.head())
        }
        # Empty queues are forgotten: a step costs what waits now, not what ever waited.
        self._device_queues = {name: self._device_queues[name] for name in heads}
        return [
            self._device_queues[name] for name in sorted(heads, key=lambda name: heads[name].number)
        ]

    def timed_out(self, now: float) -> Iterator[Ticket]:
        """Yield the callers whose deadline has come, earliest first."""
        while self.next_deadline() <= now:
            yield heappop(self._deadlines)[2]

    def next_deadline(self) -> float:
        """Return the earliest deadline of a caller that waits; infinite without one."""
        # Tickets that were answered stay in the heap until they come up, as `head` does it.
        while self._deadlines and self._deadlines[0][2] not in self:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def __contains__(self, ticket: Ticket) -> bool:
        queued = self._models.get(ticket.model_id)
        return queued is not None and ticket in queued.tickets

    def _enqueue(self, queued: QueuedModel) -> None:
        self._device_queues.setdefault(queued.request.device, DeviceQueue()).add(queued)
