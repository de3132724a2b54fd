"""What the benchmark `capacity` measured, and the figures and bounds that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import Figure
from benchmarks.ladder import Ladder, Step
from benchmarks.talkers import Run

OURS, STOCK, SINGLE = "ours", "piper-tts behind FastAPI", "piper-tts behind FastAPI, 1 thread"
"""Stock as it comes, and with one thread inside a run of its network."""

_PEER_HOLDS = 0.2
"""Callers that the best peer holds, at most, for each that we hold."""
_FIRST_AUDIO = 0.3
"""The first audio for one caller, at most: so many times stock's."""
_LOST = 0.05
"""Of the closed loop's rate, at most, while more ask than can be served."""
_PROCESSOR = 0.8
"""Processor time for a second of audio, at most: so many times stock's."""


@dataclass(frozen=True, slots=True)
class Load:
    """Callers as many as a share of the closed loop's rate, and what they must meet."""

    share: float
    seconds: float
    """For how long they ask."""
    stuttering: float
    """The share of speeches with a gap, at most."""
    first: float | None
    """The p95 of the first audio, at most: so many times stock's with one caller.

    Beyond what can be served it has no bound: some wait.
    """


LOADS = (Load(0.4, 24.0, 0.01, 1.0), Load(0.75, 16.0, 0.02, 2.0), Load(2.0, 12.0, 0.0, None))


@dataclass(frozen=True, slots=True)
class Loop:
    """A closed loop, and what it must do."""

    speeches: int
    time: float
    """Seconds for a second of audio, at most: so many times those of the best stock."""


CLOSED = {1: Loop(3, 1 / 1.1), 4: Loop(8, 1 / 1.25), 16: Loop(20, 1 / 1.25)}
"""By the number of callers."""

Closed = Mapping[str, tuple[Run, ...]]
"""Closed loops by `case`, a run for each round."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that was measured."""

    alone: Mapping[str, Run]
    """One caller who does not play: ours and stock's."""
    closed: Closed
    loads: list[Run]
    """Of `LOADS`."""
    swarm: Run
    """Callers who come at one instant."""
    ours: list[Ladder]
    peers: list[Ladder]
    """The first is stock's."""
    missing: list[str]
    """Peers that are not installed."""

    @property
    def limit(self) -> float:
        """Seconds within which 95 % of stock's speeches begin with one caller."""
        return self.alone[STOCK].first(95)

    @property
    def most(self) -> float:
        """Audio seconds per second of the closed loop that makes most."""
        return max(rate(self.closed, OURS, callers) for callers in CLOSED)


def case(name: str, callers: int) -> str:
    """Return the name of a closed loop."""
    return f"{name}, {callers}"


def rate(closed: Closed, name: str, callers: int) -> float:
    """Return the audio seconds per second of a closed loop."""
    return median(run.rate for run in closed[case(name, callers)])


def figures(outcome: Outcome) -> list[Figure]:
    """Return all figures."""
    rows = [*_held(outcome), *_alone(outcome)]
    for load, run in zip(LOADS, outcome.loads, strict=True):
        rows += _loaded(outcome, load, run)
    for callers, loop in CLOSED.items():
        rows += _closed_loop(outcome.closed, callers, loop)
    rows.append(_swarm(outcome))
    for ladder in (*outcome.ours, *outcome.peers):
        rows += _steps(outcome, ladder)
    return rows


def _held(outcome: Outcome) -> list[Figure]:
    held = {peer.name: peer.held(outcome.limit) for peer in outcome.peers}
    # With one caller stock sets the limit, so it holds that one.
    held[STOCK] = max(1, held[STOCK])
    best = max(held, key=lambda name: held[name])
    rows = []
    for ladder in outcome.ours:
        ours = ladder.held(outcome.limit)
        note = "as many as were tried" if ours == ladder.steps[-1].callers else ""
        name = f"callers held, {ladder.name}"
        rows.append(Figure(name, (float(ours),), "", best, (float(held[best]),), note=note))
        shares = (held[best] / max(1, ours),)
        rows.append(Figure("… the peer's for each of ours", shares, "", at_most=_PEER_HOLDS))
    rows += [Figure(f"callers held, {name}", (float(count),), "") for name, count in held.items()]
    rows += [Figure(f"peers without figures: {name}", (1.0,), "") for name in outcome.missing]
    return rows


def _alone(outcome: Outcome) -> list[Figure]:
    ours, stock = outcome.alone[OURS], outcome.alone[STOCK]

    def row(name: str, percent: float, at_most: float | None) -> Figure:
        first, theirs = (run.first(percent) for run in (ours, stock))
        return Figure(name, (first,), "s", STOCK, (theirs,), at_most, "ratio")

    return [
        row("one caller: first audio, p50", 50, _FIRST_AUDIO),
        row("… p95", 95, None),
        _gaps("… share of speeches with a gap", Step.of(ours), 0.0),
    ]


def _loaded(outcome: Outcome, load: Load, run: Run) -> list[Figure]:
    step = Step.of(run)
    what = f"{step.callers} callers, {load.share:.0%} of the closed loop's rate"
    rows = [_gaps(f"{what}: share of speeches with a gap", step, load.stuttering)]
    one = f"{STOCK}, one caller"
    rows.append(
        Figure("… first audio, p95", (step.p95,), "s", one, (outcome.limit,), load.first, "ratio")
    )
    rows.append(Figure("… failed, or refused without a type", (float(step.failed),), "", at_most=0))
    if load.share > 1:
        lost = 1 - run.delivered / outcome.most
        rows.append(Figure("… lost of the closed loop's rate", (lost,), "", at_most=_LOST))
        refused = ", ".join(f"{count} × {code}" for code, count in run.refusals.items())
        rows.append(Figure("… refused, typed", (float(step.refused),), "", note=refused))
    return rows


def _gaps(name: str, step: Step, at_most: float) -> Figure:
    return Figure(name, (step.share,), "", at_most=at_most, note=str(step))


def _closed_loop(closed: Closed, callers: int, loop: Loop) -> list[Figure]:
    ours = closed[case(OURS, callers)]
    best = max((STOCK, SINGLE), key=lambda name: rate(closed, name, callers))
    thrifty = min((STOCK, SINGLE), key=lambda name: _processor(closed[case(name, callers)])[0])
    stock = closed[case(best, callers)]
    return [
        Figure(
            f"closed loop, {_counted(callers)}: audio seconds per second",
            tuple(run.rate for run in ours),
            "",
            best,
            tuple(run.rate for run in stock),
        ),
        Figure(
            "… time of one",
            tuple(1 / run.rate for run in ours),
            "s",
            best,
            tuple(1 / run.rate for run in stock),
            loop.time,
            "ratio",
        ),
        Figure(
            "… processor time of one",
            _processor(ours),
            "s",
            thrifty,
            _processor(closed[case(thrifty, callers)]),
            None if callers == 1 else _PROCESSOR,
            "ratio",
        ),
    ]


def _processor(runs: tuple[Run, ...]) -> tuple[float, ...]:
    return tuple(run.processor_per_audio for run in runs)


def _swarm(outcome: Outcome) -> Figure:
    step = Step.of(outcome.swarm)
    name = f"{_counted(step.callers)} at one instant: first audio, p95"
    return Figure(name, (step.p95,), "s", note=str(step))


def _steps(outcome: Outcome, ladder: Ladder) -> list[Figure]:
    stock = outcome.peers[0]
    rows = []
    for number, step in enumerate(ladder.steps):
        what = "… " if number else f"{ladder.name}: first audio, p95, "
        name = f"{what}{_counted(step.callers)}"
        theirs = None if ladder is stock else stock.at(step.callers)
        peer, values = ("", ()) if theirs is None else (STOCK, (theirs.p95,))
        rows.append(Figure(name, (step.p95,), "s", peer, values, note=str(step)))
    return rows


def _counted(callers: int) -> str:
    return "one caller" if callers == 1 else f"{callers} callers"
