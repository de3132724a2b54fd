"""What streams are owed over time, held against what the cores can do: the processor demand test.

For every moment to come, what is due by then must fit on the cores (Baruah, Rosier and Howell,
1990). The sum of all debts jumps where one begins and grows along straight lines elsewhere, so only
the moments are looked at where one begins or ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_Moments = NDArray[np.float64]

_ROUNDING = 1 + 1e-9


class Debt(NamedTuple):
    """What one stream owes: nothing before `at`, then `step`, and from there on `rate` a second."""

    at: float
    step: float
    rate: float
    total: float

    @property
    def end(self) -> float:
        """When all of it is due; infinite for one without an end."""
        return self.at + max(0.0, self.total - self.step) / self.rate if self.rate else self.at

    @property
    def flow(self) -> float:
        """Seconds of a core a second that it goes on owing, if it has no end."""
        return self.rate if math.isinf(self.end) else 0.0

    def by(self, moments: _Moments) -> _Moments:
        """Return what is due by each of `moments`."""
        passed = np.minimum(np.maximum(moments - self.at, 0.0), self.end - self.at)
        due: _Moments = (moments >= self.at) * (self.step + self.rate * passed)
        return due


class Demand:
    """The debts of many streams, summed up once and asked often; moments are in seconds."""

    def __init__(self, debts: Mapping[Any, Debt]) -> None:
        """`debts` are by whose they are."""
        self._debts = debts
        at, step, rate, total = np.array(list(debts.values()), np.float64).reshape(-1, 4).T
        end = at + np.divide(np.maximum(0.0, total - step), rate, np.zeros_like(at), where=rate > 0)
        ends = np.isfinite(end)
        moments = np.concatenate((at, end[ends]))
        order = moments.argsort()
        self._moments = moments = moments[order]
        flows = np.concatenate((rate, -rate[ends]))[order].cumsum()
        owed = np.concatenate((step, np.zeros(len(moments) - len(at))))[order]
        owed[1:] += flows[:-1] * (moments[1:] - moments[:-1])
        # Of debts that begin or end at one moment, all count there.
        last = moments.searchsorted(moments, side="right") - 1
        self._owed = owed.cumsum()[last]
        self._flows = flows[last]
        self._endless = float(rate[~ends].sum())
        self._first_two = (*sorted(at)[:2], math.inf, math.inf)[:2]

    def spare(
        self, now: float, usable: float, *, but: Any = None, also: Debt | None = None
    ) -> float:
        """Return how many seconds of a core can be given away with all debts paid in time.

        The cores do `usable` seconds of work a second. `but`'s debt is left out; `also` is owed
        besides. Negative when not all can be paid in time, infinite where nothing is owed.
        """
        left_out = self._debts.get(but)
        endless = (
            self._endless - (left_out.flow if left_out else 0.0) + (also.flow if also else 0.0)
        )
        if endless > usable * _ROUNDING:  # those without an end cannot be kept up for ever
            return -math.inf
        margin = usable * np.maximum(0.0, self._moments - now) - self._owed
        if left_out is not None:
            margin += left_out.by(self._moments)
            # Where it alone begins or ends, the others leave no less than where one of them does;
            # but for the time before the first of them, where nothing is owed.
            first, second = self._first_two
            margin[self._moments < (second if left_out.at == first else first)] = math.inf
        if also is None:
            return float(margin.min(initial=math.inf))
        margin -= also.by(self._moments)
        own = np.array([also.at] if math.isinf(also.end) else [also.at, also.end])
        others = self._by(own) - (left_out.by(own) if left_out else 0.0)
        own_margin = usable * np.maximum(0.0, own - now) - others - also.by(own)
        return float(min(margin.min(initial=math.inf), own_margin.min()))

    def _by(self, moments: _Moments) -> _Moments:
        """Return what all owe by each of `moments`."""
        if not len(self._moments):
            return np.zeros(len(moments))
        last = self._moments.searchsorted(moments, side="right") - 1
        due: _Moments = self._owed[last] + self._flows[last] * (moments - self._moments[last])
        due[last < 0] = 0.0
        return due
