"""A figure: what was measured, of whom, in how many rounds, and what it must not exceed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal

from greenroom.adapters.piper.prepared.run.arena import SHRINK_AFTER_S


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a benchmark does; a full run by default."""

    rounds: int = 9
    """Repetitions, peer and ours in turn."""
    share: float = 1.0
    """Of the full number of steps in a round."""

    @property
    def short(self) -> bool:
        """Whether this is no measurement, only a look whether everything runs."""
        return self.share < 0.1

    @property
    def quiet_s(self) -> float:
        """Seconds without speech after which graphs have given back the memory of their runs."""
        return 0.0 if self.short else 2 * SHRINK_AFTER_S

    def count(self, full: int, *, least: int = 1) -> int:
        """Return how many steps to do where a full run does `full`."""
        return max(least, round(full * self.share))


FULL = Effort()
SMOKE = Effort(rounds=1, share=0.002)
"""Everything runs, nothing is measured."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: ours, beside a peer's where there is one; values of each round."""

    name: str
    ours: tuple[float, ...]
    unit: Literal["s", "MB", "/s", ""] = "s"
    """Of the values; a plain count has none."""
    peer: str = ""
    theirs: tuple[float, ...] = ()
    at_most: float | None = None
    """The bound; a figure without one informs."""
    bounds: Literal["ours", "ratio"] = "ours"
    """What `at_most` is about."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours to the peer's: the median over rounds, which cancels what slowed both."""
        if not self.theirs or not all(self.theirs):
            return None
        if len(self.theirs) == len(self.ours):
            return median(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        return median(self.ours) / median(self.theirs)

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; `None` without one."""
        if self.at_most is None:
            return None
        value = median(self.ours) if self.bounds == "ours" else self.ratio
        return value is not None and math.isfinite(value) and value <= self.at_most


def shown(values: tuple[float, ...], unit: str) -> str:
    """Return the median with the spread: half the distance between the quartiles, in percent."""
    if not values:
        return ""
    middle = median(values)
    text = amount(middle, unit)
    if len(values) < 4 or not middle:
        return text
    low, _, high = quantiles(values, n=4)
    return f"{text} ±{(high - low) / 2 / abs(middle):.0%}"


def amount(value: float, unit: str) -> str:
    """Return a value with its unit, three digits of it."""
    if unit == "s":
        for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if abs(value) >= scale:
                return f"{value / scale:.3g} {name}"
        return f"{value / 1e-9:.0f} ns"
    if unit == "/s":
        return f"{value:,.0f}/s"
    return f"{value:.1f} {unit}" if unit else f"{value:,.4g}"
