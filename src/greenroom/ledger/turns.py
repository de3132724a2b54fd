"""Turns: how long a model in use keeps its place while others wait, and how fast the line moves.

Models that are asked for without a pause are never idle, so none of them would ever be a victim.
A turn ends that: when the head of a line has waited `Policy.turn_after`, the resident with the
longest tenure beyond its quantum drains, and comes back by the line like everyone else.

The quantum follows from what a turn costs and from how many models wait. A turn costs a drain,
which lasts as long as the longest speech, and a load, in which the place is of no use to anyone.

    long enough     nine loads, so that a place is of use for nine tenths of the time
    short enough    that the last in the line has its turn within `Policy.acquire_timeout`
    and no shorter  than the longest speech, nor than a second

Whoever cannot be served even with the shortest quantum is told at once, and when it could be: but
only while the line is seen to move no faster than that, as models may become idle at any moment.

Part of the ledger, as pure as it. Times in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from greenroom.ledger.state import ModelRequest, Policy, Resident

LEAST_QUANTUM = 1.0
"""A model that loads and speaks in no time would otherwise come and go without a rest."""

LEAST_DRAIN = 5.0
"""The least limit of a drain; twice the longest speech where that is more."""

_LOADS_IN_QUANTUM = 9.0
_FADING = 0.98
"""What is left of the longest load or speech after one more that was shorter: one that was out of
the common is forgotten after a few hundred."""

_NEWEST = 0.3
"""The share of the newest interval in the mean one."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A model that leaves for the line of a device as soon as its streams and holders are done."""

    resident: Resident
    makes_room_for: str
    """The model that was the head of the line when it began."""
    until: float
    """When the drain is taken back if it has not ended: a caller may hold its lease for ever."""


class Turns:
    """The turns under way, one for each line at most, and what turns have cost so far."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.under_way: dict[str, Turn] = {}
        """By the device whose line it is for; that the model leaves may be of another device."""
        self._longest_load = 0.0
        self._longest_speech = 0.0
        self._last_served: float | None = None
        self._mean_interval: float | None = None

    # What a turn costs

    def learn_load(self, seconds: float) -> None:
        """Note how long a load with its warmup took."""
        self._longest_load = max(seconds, _FADING * self._longest_load)

    def learn_speech(self, seconds: float) -> None:
        """Note how long a stream ran."""
        # One that outlasts the patience of all who wait says no more than that: a paused stream
        # must not make quanta of an hour.
        seconds = min(seconds, self._policy.acquire_timeout)
        self._longest_speech = max(seconds, _FADING * self._longest_speech)

    @property
    def cost(self) -> float:
        """Seconds from the end of a tenure until the next model can speak in its place."""
        return self._longest_load + self._longest_speech

    # When a turn is due

    def quantum(self, waiting: int, places: int) -> float:
        """Return how long a model keeps its place while `waiting` models wait for `places`."""
        # `waiting` turns of a quantum and its cost, in `places` at once, are to fit into the time
        # that is left of a caller's patience when the first of them is due.
        patience = self._policy.acquire_timeout - self._policy.turn_after
        in_time = places * patience / max(1, waiting) - self.cost
        return max(self._least_quantum, min(_LOADS_IN_QUANTUM * self._longest_load, in_time))

    @property
    def _least_quantum(self) -> float:
        return max(LEAST_QUANTUM, self._longest_speech)

    def due(self, since: float, tenant: Resident, waiting: int, places: int) -> float:
        """Return when `tenant` is to leave for a model that has waited `since`; infinite: never."""
        if self._policy.turn_after < 0:
            return math.inf
        # Min residency binds a turn, too; the order of tenures is that of its ends.
        tenure_ends = tenant.tenure_from + self.quantum(waiting, places)
        return max(since + self._policy.turn_after, tenure_ends, tenant.keep_until)

    def begin(self, request: ModelRequest, tenant: Resident, now: float) -> None:
        """Note that a model drains for the head of a line."""
        limit = max(LEAST_DRAIN, 2 * self._longest_speech)
        self.under_way[request.device] = Turn(tenant, request.model_id, now + limit)

    def of(self, resident: Resident) -> Turn | None:
        """Return the turn that a model drains for."""
        turns = self.under_way.values()
        return next((turn for turn in turns if turn.resident is resident), None)

    def end(self, resident: Resident) -> bool:
        """Note that a model drains for no line any more; return whether it did."""
        ended = [device for device, turn in self.under_way.items() if turn.resident is resident]
        for device in ended:
            del self.under_way[device]
        return bool(ended)

    def next_limit(self) -> float:
        """Return when the first drain under way is taken back; infinite without one."""
        return min((turn.until for turn in self.under_way.values()), default=math.inf)

    # How fast the line moves

    def served(self, now: float) -> None:
        """Note that a model which waited is loaded."""
        # A mean that forgets, since the quantum changes with the number of those who wait.
        if self._last_served is not None:
            interval, mean = now - self._last_served, self._mean_interval
            newer = interval if mean is None else mean + _NEWEST * (interval - mean)
            self._mean_interval = newer
        self._last_served = now

    def rest(self) -> None:
        """Forget how fast the line moved: nobody waits."""
        self._last_served = self._mean_interval = None

    def wait_expected(self, position: int, places: int, now: float) -> float | None:
        """Return in how many seconds the model at a position (1: the head) can be loaded.

        By what is seen of the line, and at best by the shortest quantum; `None` while the line has
        not been seen to move, or where there are no turns.
        """
        if self._policy.turn_after < 0 or self._mean_interval is None or self._last_served is None:
            return None
        # One drain at a time, so a place changes hands no faster than one turn costs.
        shortest = max(self.cost, (self._least_quantum + self.cost) / places)
        interval = min(self._mean_interval, shortest)
        next_at = max(now, self._last_served + interval)
        return next_at - now + (position - 1) * interval
