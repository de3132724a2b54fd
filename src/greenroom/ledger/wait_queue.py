"""Who waits for room: per device first come, first served, each at most until a deadline.

Part of the ledger, as pure as it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from greenroom.ledger.state import Demand, Ticket


@dataclass(slots=True, eq=False)
class Place:
    """A model that waits for room, and the callers that wait for the model."""

    demand: Demand
    number: int
    """The order of arrival; a place that first waits for its own model to leave keeps it."""
    tickets: dict[Ticket, None] = field(default_factory=dict)


class Line:
    """Places of one device in order of arrival; one whose callers have all left is passed over."""

    def __init__(self) -> None:
        self._places: list[tuple[int, Place]] = []

    def add(self, place: Place) -> None:
        """Put `place` where its arrival puts it."""
        heappush(self._places, (place.number, place))

    def head(self) -> Place | None:
        """Return the first place that somebody still waits at."""
        while self._places and not self._places[0][1].tickets:
            heappop(self._places)
        return self._places[0][1] if self._places else None


class Waiting:
    """Every caller that waits for room."""

    def __init__(self) -> None:
        self.count = 0
        """Callers that wait."""
        self._places: dict[str, Place] = {}
        self._lines: dict[str, Line] = {}
        self._deadlines: list[tuple[float, int, Ticket]] = []
        self._numbers = count()

    def add(self, demand: Demand, ticket: Ticket, *, parked: bool) -> None:
        """Put a caller at its model's place; a parked place is in no line until `unpark`."""
        place = self._places.get(demand.model_id)
        if place is None:
            place = self._places[demand.model_id] = Place(demand, next(self._numbers))
            if not parked:
                self._line_up(place)
        place.tickets[ticket] = None
        self.count += 1
        heappush(self._deadlines, (ticket.deadline, next(self._numbers), ticket))

    def unpark(self, model_id: str) -> None:
        """Line up for room: the model's earlier life has ended."""
        place = self._places.get(model_id)
        if place is not None:
            self._line_up(place)

    def remove(self, ticket: Ticket) -> None:
        """Let one caller go, if it waits."""
        if ticket in self:
            place = self._places[ticket.model_id]
            del place.tickets[ticket]
            self.count -= 1
            if not place.tickets:
                del self._places[ticket.model_id]

    def take(self, model_id: str) -> dict[Ticket, None]:
        """Let all callers of a model go, and return them."""
        place = self._places.pop(model_id, None)
        if place is None:
            return {}
        tickets, place.tickets = place.tickets, {}
        self.count -= len(tickets)
        return tickets

    def tickets(self, model_id: str) -> tuple[Ticket, ...]:
        """Return the callers that wait for a model."""
        place = self._places.get(model_id)
        return tuple(place.tickets) if place is not None else ()

    def everybody(self) -> list[Ticket]:
        """Return every caller that waits."""
        return [ticket for place in self._places.values() for ticket in place.tickets]

    def demand(self, ticket: Ticket) -> Demand:
        """Return what a waiting caller waits for."""
        return self._places[ticket.model_id].demand

    def lines(self) -> list[Line]:
        """Return the lines that somebody stands in; the one whose head came first is first."""
        heads = {name: head for name, line in self._lines.items() if (head := line.head())}
        self._lines = {name: self._lines[name] for name in heads}
        return [self._lines[name] for name in sorted(heads, key=lambda name: heads[name].number)]

    def timed_out(self, now: float) -> Iterator[Ticket]:
        """Yield the callers whose deadline has come, earliest first."""
        while self.next_deadline() <= now:
            yield heappop(self._deadlines)[2]

    def next_deadline(self) -> float:
        """Return the earliest deadline of a caller that waits; infinite without one."""
        while self._deadlines and self._deadlines[0][2] not in self:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def __contains__(self, ticket: Ticket) -> bool:
        place = self._places.get(ticket.model_id)
        return place is not None and ticket in place.tickets

    def _line_up(self, place: Place) -> None:
        self._lines.setdefault(place.demand.device, Line()).add(place)
