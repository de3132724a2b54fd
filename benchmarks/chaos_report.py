"""What a run of chaos showed, as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from benchmarks.chaos_callers import Stream

AGAIN_S = 1.0
"""A voice that crashed is to speak again within this."""

GAP_S = 1.0
"""No other speech is to fall silent for longer: so long a step that stands still keeps its core."""

MEMORY_SHARE = 0.05
"""After ten rounds so much more is taken at most."""


@dataclass(slots=True)
class Injection:
    """One fault."""

    fault: str
    group: str
    at: float
    """On the loop's clock, as all times here."""
    running: int
    """Streams."""
    ended: float = float("inf")
    """When the process had ended; of a fault that ends none, when it was injected."""
    again_s: float = float("nan")
    """From there to the first audio of the next successful speech."""
    disturbed: bool = False
    """Whether this program itself stood still meanwhile: then no time counts."""
    hurt: int = 0
    gap_s: float = 0.0
    """The longest silence in a speech of another process meanwhile."""

    def covers(self, stream: Stream, after_s: float = 0.0) -> bool:
        """Whether a stream ran between the fault and so long after the end of the process."""
        return stream.asked <= self.ended + after_s and stream.ended >= self.at


@dataclass(slots=True)
class Outcome:
    """One run."""

    seed: int
    injections: list[Injection] = field(default_factory=list)
    streams: int = 0
    excused: int = 0
    """Streams that ran while this program itself stood still, as on a machine that is stopped."""
    problems: Counter[str] = field(default_factory=Counter)
    """What hurt streams ended with."""
    longest_gap_s: float = 0.0
    """Of any speech of a process that was not broken."""
    memory_mb: list[float] = field(default_factory=list)
    """After each round, with nothing loaded."""
    breaches: Counter[str] = field(default_factory=Counter)
    """What must not happen."""
    notes: list[str] = field(default_factory=list)


def markdown(outcome: Outcome) -> str:
    """Return the page."""
    lines = [
        "# Chaos",
        "",
        f"Seed {outcome.seed}: {len(outcome.injections)} faults, {outcome.streams:,} streams, "
        f"{sum(each.hurt for each in outcome.injections)} hurt, all of the process that was broken"
        f" unless named below.",
        "",
        "| fault | injected | streams running | streams hurt | next speech, median | slowest "
        "| longest gap of others |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    by_fault: dict[str, list[Injection]] = {}
    for injection in outcome.injections:
        by_fault.setdefault(f"{injection.fault}, {injection.group}", []).append(injection)
    for name, injections in sorted(by_fault.items()):
        again = [each.again_s for each in injections if not each.disturbed] or [math.nan]
        lines.append(
            f"| {name} | {len(injections)} | {sum(each.running for each in injections)} "
            f"| {sum(each.hurt for each in injections)} | {median(again):.2f} s "
            f"| {max(again):.2f} s | {1_000 * max(each.gap_s for each in injections):.0f} ms |"
        )
    lines += ["", *(f"- {each}" for each in _figures(outcome)), ""]
    return "\n".join(lines)


def _figures(outcome: Outcome) -> list[str]:
    late = sum(not each.disturbed and not each.again_s <= AGAIN_S for each in outcome.injections)
    figures = [
        f"Next speech later than {AGAIN_S:g} s: {late} of {len(outcome.injections)}",
        f"Longest gap of a speech whose process was not broken: {outcome.longest_gap_s:.3f} s "
        f"(at most {GAP_S:g} s: {'holds' if outcome.longest_gap_s <= GAP_S else 'does not hold'})",
        *_memory(outcome.memory_mb),
        "Hurt streams ended with: "
        + (", ".join(f"{name} ({count})" for name, count in outcome.problems.items()) or "nothing"),
        *([f"Not judged, as everything stood still: {outcome.excused}"] if outcome.excused else []),
        *outcome.notes,
        *(f"**Broken**: {what} ({count})" for what, count in outcome.breaches.items()),
    ]
    return figures if outcome.breaches else [*figures, "Broken rules: none"]


def _memory(memory: list[float]) -> list[str]:
    if len(memory) < 2:
        return ["Memory: fewer than two whole rounds, so nothing to compare"]
    share = memory[-1] / memory[0] - 1
    holds = "holds" if share <= MEMORY_SHARE else "does not hold"
    return [
        f"Anonymous memory with nothing loaded, after the first round and after the last of "
        f"{len(memory)}: {memory[0]:.1f} MB, {memory[-1]:.1f} MB ({share:+.1%}; at most "
        f"{MEMORY_SHARE:+.0%}: {holds})"
    ]
