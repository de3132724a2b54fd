"""Backoff for models that failed to load: twice as long each time, until one load succeeds.

Part of the ledger, as pure as it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from greenroom.ledger.state import Reason, Refused, Ticket

CRASH_MEMORY_S = 60.0
"""A model that crashes again within so many seconds is left alone for a while."""


@dataclass(slots=True)
class Failure:
    """The failures in a row of one model, kept until it loads again."""

    problem: str
    count: int
    retry_at: float


class Backoff:
    """The failures of every model that failed last time; times in seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures: dict[str, Failure] = {}
        self._crashes: dict[str, float] = {}
        """When each model crashed last."""

    def record(self, model_id: str, problem: str, now: float) -> float:
        """Remember one more failure, and return how long the model is left alone now."""
        last = self._failures.get(model_id)
        count = 1 if last is None else last.count + 1
        # The exponent has a limit, since a float has one: a model that fails for weeks would
        # otherwise raise OverflowError. The longest wait is reached long before.
        wait = min(self._longest, self._first * 2.0 ** min(count - 1, 60))
        # From the end of the load, not its begin: a slow failure must not use up its own wait.
        self._failures[model_id] = Failure(problem, count, now + wait)
        return wait

    def crashed(self, model_id: str, problem: str, now: float) -> None:
        """Note that the model's engine has crashed after a load that went well.

        The first time it may be loaded again at once; crashes soon after one another count like
        failures in a row, however well each load went.
        """
        last = self._crashes.get(model_id, -math.inf)
        self._crashes[model_id] = now
        if now - last < CRASH_MEMORY_S:
            self.record(model_id, problem, now)

    def loaded(self, model_id: str, now: float) -> None:
        """Begin anew: the model was loaded, and has not crashed lately."""
        if now - self._crashes.get(model_id, -math.inf) >= CRASH_MEMORY_S:
            self.forget(model_id)

    def forget(self, model_id: str) -> None:
        """Begin anew."""
        self._failures.pop(model_id, None)
        self._crashes.pop(model_id, None)

    def refusal(self, ticket: Ticket, now: float) -> Refused | None:
        """Return a refusal while the model must not be tried again, else `None`."""
        # A failure is remembered after its wait is over: only a success begins anew, and one more
        # failure doubles the wait.
        failure = self._failures.get(ticket.model_id)
        if failure is None or now >= failure.retry_at:
            return None
        return Refused(ticket, Reason.BACKING_OFF, failure.retry_at - now, failure.problem)

    def get(self, model_id: str) -> Failure | None:
        """Return the model's failures in a row, if the last attempt was one."""
        return self._failures.get(model_id)
