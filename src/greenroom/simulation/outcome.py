"""What the requests of a trace met under one policy: waits, refusals, loads, fairness, memory."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Outcome:
    """One column of the comparison; times in seconds, sizes in bytes.

    A wait is from asking for a model to having it. That of a request that found its model ready is
    0, and that of one that was refused does not count.
    """

    requests: int
    cold: int
    """Requests that were served, and had to wait for a load or for room."""
    loads: int
    """How many there were; callers that wait for the same load share it."""
    refused: Mapping[str, int]
    """Requests that were refused, by the name of a `Reason` in lower case."""
    turns: int
    """Models that left in use, for one that waited."""
    wait_p50: float
    wait_p95: float
    wait_p99: float
    wait_most: float
    wait_mean: float
    jain: float
    """Jain's index of the shares of their requests that models were served: 1 where all models are
    served alike, 1/n where one of n is served alone."""
    mean_bytes: float
    """Booked for models, over the time of the trace."""
    most_bytes: int
    mean_residents: float
    """Models that load, are in memory or leave, over the time of the trace."""
    most_residents: int

    @property
    def refusals(self) -> int:
        """All requests that were refused."""
        return sum(self.refused.values())

    @property
    def cold_share(self) -> float:
        """The share of all requests that had to wait."""
        return self.cold / self.requests if self.requests else 0.0


def wait_percentiles(waits: array[float], served: int) -> dict[str, Any]:
    """Return the fields of waits, of requests of which all but `waits` waited 0.

    A percentile is the smallest wait that so large a share of the requests does not exceed.
    """
    ordered = np.sort(np.frombuffer(waits, np.float64)) if waits else np.zeros(0)
    at_once = served - len(ordered)

    def percentile(share: float) -> float:
        place = max(0, int(np.ceil(share * served)) - 1)
        return float(ordered[place - at_once]) if place >= at_once and len(ordered) else 0.0

    return {
        "wait_p50": percentile(0.50),
        "wait_p95": percentile(0.95),
        "wait_p99": percentile(0.99),
        "wait_most": float(ordered[-1]) if len(ordered) else 0.0,
        "wait_mean": float(ordered.sum()) / served if served else 0.0,
    }


def jain(shares: NDArray[np.floating[Any]]) -> float:
    """Return Jain's index; 1 of nothing.

    R. Jain, D. Chiu, W. Hawe: A Quantitative Measure of Fairness (DEC-TR-301, 1984).
    """
    squares = float((shares * shares).sum())
    return float(shares.sum()) ** 2 / (len(shares) * squares) if squares else 1.0
