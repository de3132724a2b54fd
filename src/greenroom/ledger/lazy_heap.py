"""Residents ordered by a moment that only moves later.

A binary heap whose keys are lower bounds: a use moves a resident's moment without touching the
heap, and the key is repaired when it comes to the top. A hit therefore costs nothing here, and
every other step is logarithmic, amortized.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from greenroom.ledger.state import Resident

_SLACK = 64
"""Dead entries that may lie in the heap beyond its members before it is rebuilt."""


class LazyHeap:
    """A priority queue of residents by `key`, earliest first, ties in order of booking."""

    def __init__(self, key: Callable[[Resident], float]) -> None:
        self._key = key
        self._heap: list[tuple[float, int, Resident]] = []
        self._members: set[int] = set()

    def __len__(self) -> int:
        return len(self._members)

    def add(self, resident: Resident) -> None:
        """Put `resident` in, unless it is in already."""
        # Once only: `pop` would otherwise hand the same resident out twice.
        if resident.number not in self._members:
            self._members.add(resident.number)
            heappush(self._heap, (self._key(resident), resident.number, resident))

    def discard(self, resident: Resident) -> None:
        """Take `resident` out, if it is in."""
        # Its entry stays in the heap and is dead: to find it there would take a search.
        self._members.discard(resident.number)
        # Half of the entries dead at most, so that a rebuild is paid for by the discards before it
        # and a long-lived heap does not grow; the slack spares small heaps.
        if len(self._heap) > 2 * len(self._members) + _SLACK:
            self._heap = [entry for entry in self._heap if entry[1] in self._members]
            heapify(self._heap)

    def bound(self) -> float:
        """Return a moment before which nothing here is due; infinite when empty."""
        # The first key may be too early, as a use may have moved its moment: a caller that comes
        # back at that time finds nothing due, and the key repaired.
        while self._heap and self._heap[0][1] not in self._members:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def pop(self, latest: float = math.inf) -> Resident | None:
        """Take out the first resident whose moment is at most `latest`."""
        while self.bound() <= latest and self._heap:
            known, number, resident = heappop(self._heap)
            moment = self._key(resident)
            # Never earlier than its key, so no other entry can hide one that is due.
            if moment > known:
                heappush(self._heap, (moment, number, resident))
                continue
            self._members.discard(number)
            return resident
        return None
