"""A server under more and more callers who play at real time, and how many of them it holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.talkers import Run

HELD_SHARE = 0.01
"""Of the speeches may have a gap where so many callers are held."""

Talk = Callable[[int], Awaitable[Run]]
"""Has so many callers play and ask again, and returns what they met."""


@dataclass(frozen=True, slots=True)
class Step:
    """What so many callers met."""

    callers: int
    speeches: int
    stuttering: int
    """Speeches with a gap that is heard."""
    late: float
    """Seconds of silence in all of them."""
    median: float
    """Seconds to the first audio."""
    p95: float
    """Seconds to the first audio."""
    rate: float
    """Audio seconds heard per second."""
    processor: float
    """Seconds that the server computed for a second of audio."""
    refused: int
    failed: int

    @classmethod
    def of(cls, run: Run) -> Step:
        """Return the summary of a run."""
        return cls(
            run.callers,
            len(run.speeches),
            run.stuttering,
            run.late,
            run.first(50),
            run.first(95),
            run.rate,
            run.processor_per_audio,
            run.refusals.total(),
            run.errors.total(),
        )

    @property
    def share(self) -> float:
        """Of the speeches with a gap; all, where no speech came."""
        return self.stuttering / self.speeches if self.speeches else 1.0

    def held(self, limit: float) -> bool:
        """Whether all are served, as good as unbroken, and begin within `limit` seconds (p95)."""
        served = self.speeches > 0 and not self.refused and not self.failed
        return served and self.share <= HELD_SHARE and self.p95 <= limit

    def __str__(self) -> str:
        text = (
            f"p50 {self.median:.3f} s, {self.stuttering} of {self.speeches} speeches with a gap, "
            f"{self.late:.2f} s late, {self.rate:.1f} s of audio a second, "
            f"{self.processor * 1e3:.0f} ms of processor for a second of it"
        )
        if self.refused or self.failed:
            text += f", {self.refused} refused, {self.failed} failed"
        return text


@dataclass(frozen=True, slots=True)
class Ladder:
    """One server at more and more callers."""

    name: str
    steps: tuple[Step, ...]
    """By rising number of callers."""

    def held(self, limit: float) -> int:
        """Return the most callers that are held, as are all smaller numbers of them."""
        most = 0
        for step in self.steps:
            if not step.held(limit):
                break
            most = step.callers
        return most

    def at(self, callers: int) -> Step | None:
        """Return the step of so many callers, if it was climbed."""
        return next((step for step in self.steps if step.callers == callers), None)


async def climb(name: str, talk: Talk, counts: Sequence[int], *, hopeless_s: float) -> Ladder:
    """Have more and more callers talk, up to where their first audio takes longer than that."""
    steps: list[Step] = []
    for callers in counts:
        steps.append(Step.of(await talk(callers)))
        if steps[-1].p95 > hopeless_s or not steps[-1].speeches:
            break
    return Ladder(name, tuple(steps))
