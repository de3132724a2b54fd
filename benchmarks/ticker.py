"""How late the event loop is: a task that wants to run every millisecond."""

from __future__ import annotations

import asyncio
import time
from typing import Self

import numpy as np

PERIOD = 0.001
"""Seconds between two ticks."""


class Ticker:
    """Ticks in the background of an `async with` block and writes down how late each tick was."""

    def __init__(self) -> None:
        self.late: list[float] = []
        """Seconds beyond `PERIOD`, per tick."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _tick(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(PERIOD)
            self.late.append(time.perf_counter() - began - PERIOD)

    @property
    def p99(self) -> float:
        """All but one tick in a hundred are less late, in seconds."""
        return percentile(self.late, 99)

    @property
    def longest(self) -> float:
        """The longest stall in seconds."""
        return max(self.late, default=0.0)

    @property
    def p99_of_arrivals(self) -> float:
        """The wait that 99 of 100 callers stay below if they come at any moment, in seconds.

        A stall of 20 ms is one late tick, but it is met by whoever comes within it.
        """
        waits = [max(0.0, late) for late in self.late]
        met = [wait - since for wait in waits for since in np.arange(0.0, wait or PERIOD, PERIOD)]
        return percentile(met, 99)


def percentile(values: list[float], percent: float) -> float:
    """Return the percentile; 0 of nothing."""
    return float(np.percentile(values, percent)) if values else 0.0
