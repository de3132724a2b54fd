"""Rounds: every case in turn, again and again, so that a slow moment slows them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


async def interleaved(
    rounds: int, cases: Mapping[str, Callable[[], Awaitable[T]]]
) -> dict[str, tuple[T, ...]]:
    """Return each case's outcome in every round; every round begins with another case."""
    found: dict[str, list[T]] = {name: [] for name in cases}
    order = list(cases)
    for _ in range(rounds):
        for name in order:
            gc.collect()
            found[name].append(await cases[name]())
        order.append(order.pop(0))
    return {name: tuple(outcomes) for name, outcomes in found.items()}


class Stopwatch:
    """Seconds since it was made."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def read(self) -> float:
        """Return the seconds so far."""
        return time.perf_counter() - self._began
