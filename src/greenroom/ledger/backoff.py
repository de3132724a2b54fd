"""How long a model that failed is left alone: twice as long each time, until it succeeds.

Part of the ledger, as pure as it.
"""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.ledger.state import Reason, Refused, Ticket


@dataclass(slots=True)
class Failure:
    """What is remembered of a model that failed, until it loads again."""

    problem: str
    count: int
    retry_at: float


class Backoff:
    """The failures of every model that failed last time; times in seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures: dict[str, Failure] = {}

    def record(self, model_id: str, problem: str, now: float) -> float:
        """Remember one more failure, and return how long the model is left alone now."""
        known = self._failures.get(model_id)
        count = 1 if known is None else known.count + 1
        wait = min(self._longest, self._first * 2.0 ** min(count - 1, 60))
        self._failures[model_id] = Failure(problem, count, now + wait)
        return wait

    def forget(self, model_id: str) -> None:
        """Begin anew: the model was loaded."""
        self._failures.pop(model_id, None)

    def refusal(self, ticket: Ticket, now: float) -> Refused | None:
        """Return why the model is not tried now, if it failed a short while ago."""
        failure = self._failures.get(ticket.model_id)
        if failure is None or now >= failure.retry_at:
            return None
        return Refused(ticket, Reason.BACKING_OFF, failure.retry_at - now, failure.problem)

    def get(self, model_id: str) -> Failure | None:
        """Return the model's failures in a row, if the last attempt was one."""
        return self._failures.get(model_id)
