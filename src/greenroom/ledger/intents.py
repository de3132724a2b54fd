"""Intents: models that a caller is expected to ask for soon, and that are not in memory yet.

An intent has the lowest priority: it is loaded when no caller waits and no load is under way, into
room that no caller has a use for, and is forgotten when its time is over.

Part of the ledger, as pure as it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from greenroom.ledger.state import ModelRequest


@dataclass(frozen=True, slots=True)
class Intent:
    """A model that is expected to be asked for until a moment."""

    request: ModelRequest
    until: float


class Intents:
    """The intents that wait for room, first come, first served."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._intents: dict[str, Intent] = {}
        # Those that were taken or renewed stay here until they come up, as in the wait queue.
        self._ends: list[tuple[float, int, Intent]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._intents)

    def add(self, intent: Intent) -> bool:
        """Add an intent, in the place of the model's earlier one; return whether there is room."""
        model_id = intent.request.model_id
        # The newest is turned away, and not the oldest, whose caller is the next to come.
        if model_id not in self._intents and len(self._intents) >= self._limit:
            return False
        self._intents[model_id] = intent
        heappush(self._ends, (intent.until, next(self._numbers), intent))
        return True

    def first(self) -> Intent | None:
        """Return the one that came first."""
        return next(iter(self._intents.values()), None)

    def discard(self, model_id: str) -> None:
        """Take a model's intent out, if it has one."""
        self._intents.pop(model_id, None)

    def clear(self) -> None:
        """Take all out."""
        self._intents.clear()

    def pop_ended(self, now: float) -> Iterator[str]:
        """Take out the models whose time is over."""
        while self.next_end() <= now:
            model_id = heappop(self._ends)[2].request.model_id
            del self._intents[model_id]
            yield model_id

    def next_end(self) -> float:
        """Return when the first one's time is over; infinite without one."""
        while self._ends and not self._is_present(self._ends[0][2]):
            heappop(self._ends)
        return self._ends[0][0] if self._ends else math.inf

    def _is_present(self, intent: Intent) -> bool:
        return self._intents.get(intent.request.model_id) is intent
