"""The figures of the benchmark `capacity`: what is good enough keeps each bound, less misses it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.capacity_figures import (
    CLOSED,
    LOADS,
    OURS,
    SINGLE,
    STOCK,
    Closed,
    Outcome,
    case,
    figures,
)
from benchmarks.ladder import Ladder, Step
from benchmarks.playback import Piece
from benchmarks.talkers import Run

from .test_capacity import run_of

STOCK_ALONE_S = 0.5


def run_with(first: float, *, stuttering: int = 0, callers: int = 1) -> Run:
    """Return a hundred speeches that begin so soon, some of them with a gap."""
    whole, broken = [Piece(first, 1.0)], [Piece(first, 1.0), Piece(first + 2.0, 1.0)]
    return run_of(*[broken] * stuttering, *[whole] * (100 - stuttering), callers=callers)


def loop_of(rate: float, processor: float) -> tuple[Run]:
    """Return a closed loop of 100 s of audio at a rate, with this processor time for one of it."""
    run = run_of(*[[Piece(0.1, 1.0)]] * 100)
    run.all_there, run.seconds, run.processor = None, 100 / rate, processor * 100
    return (run,)


def closed_loops(ours: float, processor: float) -> Closed:
    """Return closed loops in which stock makes 20 s a second, for 80 ms of one each."""
    return {
        case(name, callers): loop_of(*measured)
        for callers in CLOSED
        for name, measured in {
            OURS: (ours, processor),
            STOCK: (20.0, 0.08),
            SINGLE: (19.0, 0.09),
        }.items()
    }


def ladder_of(name: str, held: int) -> Ladder:
    """Return a ladder to 24 callers, of whom so many are held."""
    steps = [
        Step.of(run_with(0.4 if callers <= held else 0.6, callers=callers))
        for callers in (1, 2, 4, 8, 12, 16, 24)
    ]
    return Ladder(name, tuple(steps))


def overloaded(rate: float) -> Run:
    """Return a run in which this much audio came a second while all were there, heard later."""
    until = 1.0 + 100 / rate
    run = run_of(*[[Piece(until - 0.25, 1.0)]] * 100)
    run.all_there = (1.0, until)
    return run


GOOD = Outcome(
    alone={OURS: run_with(0.1), STOCK: run_with(STOCK_ALONE_S)},
    closed=closed_loops(26.0, 0.06),
    loads=[run_with(0.4), run_with(0.9), overloaded(25.0)],
    swarm=run_with(2.0),
    ours=[ladder_of("HTTP, one voice", 12)],
    peers=[ladder_of(STOCK, 0), ladder_of("another", 2)],
    missing=[],
)


def missed(outcome: Outcome) -> list[str]:
    """Return the figures that miss their bounds."""
    return [figure.name for figure in figures(outcome) if figure.holds is False]


def test_what_is_good_enough_misses_no_bound() -> None:
    bound = [figure for figure in figures(GOOD) if figure.at_most is not None]
    assert len(bound) == 17
    assert missed(GOOD) == []


def test_stock_holds_its_one_caller_and_the_best_peer_is_the_one_that_counts() -> None:
    (first, *_) = figures(GOOD)
    assert (first.ours, first.theirs, first.peer) == ((12.0,), (2.0,), "another")
    alone = replace(GOOD, peers=[ladder_of(STOCK, 0)])
    assert figures(alone)[0].theirs == (1.0,)


@pytest.mark.parametrize(
    ("worse", "names"),
    [
        (replace(GOOD, ours=[ladder_of("HTTP", 8)]), ["… the peer's for each of ours"]),
        (replace(GOOD, ours=[ladder_of("HTTP", 0)]), ["… the peer's for each of ours"]),
        (
            replace(GOOD, alone={**GOOD.alone, OURS: run_with(0.16)}),
            ["one caller: first audio, p50"],
        ),
        (
            replace(GOOD, alone={**GOOD.alone, OURS: run_with(0.1, stuttering=1)}),
            ["… share of speeches with a gap"],
        ),
    ],
)
def test_too_few_held_and_a_bad_start_alone_are_missed(worse: Outcome, names: list[str]) -> None:
    assert missed(worse) == names


@pytest.mark.parametrize(
    ("load", "run", "name"),
    [
        (0, run_with(0.4, stuttering=2), "share of speeches with a gap"),
        (0, run_with(0.6), "first audio, p95"),
        (1, run_with(0.9, stuttering=3), "share of speeches with a gap"),
        (1, run_with(1.1), "first audio, p95"),
        (2, run_with(9.0, stuttering=1), "share of speeches with a gap"),
        (2, overloaded(24.0), "lost of the closed loop's rate"),
    ],
)
def test_each_load_has_bounds_of_its_own(load: int, run: Run, name: str) -> None:
    runs = list(GOOD.loads)
    runs[load] = run
    names = missed(replace(GOOD, loads=runs))
    assert any(each.endswith(name) for each in names), names


def test_a_speech_that_fails_under_load_is_missed_and_a_typed_refusal_is_not() -> None:
    run = overloaded(25.0)
    run.refusals["503 busy"] = 7
    assert missed(replace(GOOD, loads=[*GOOD.loads[:2], run])) == []
    run.errors["500, not typed"] = 1
    assert missed(replace(GOOD, loads=[*GOOD.loads[:2], run])) == [
        "… failed, or refused without a type"
    ]


def test_closed_loops_are_held_against_the_best_of_stock() -> None:
    slow = replace(GOOD, closed=closed_loops(24.9, 0.06))
    assert missed(slow).count("… time of one") == 2
    wasteful = replace(GOOD, closed=closed_loops(26.0, 0.065))
    assert missed(wasteful) == ["… processor time of one"] * 2


def test_a_missing_peer_is_named() -> None:
    names = [figure.name for figure in figures(replace(GOOD, missing=["wyoming-piper"]))]
    assert "peers without figures: wyoming-piper" in names


def test_loads_are_those_of_the_outcome() -> None:
    assert [load.share for load in LOADS] == [0.4, 0.75, 2.0]
