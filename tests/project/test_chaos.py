"""Chaos breaks processes and notices what that must not break; no time is asserted."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import chaos, chaos_report
from benchmarks.chaos_callers import Stream
from benchmarks.chaos_report import Injection, Outcome

QUICK = ("segmentation fault", "kill -9", "standard error flooded", "fork server killed")


@pytest.mark.bench
def test_a_short_chaos_breaks_no_rule(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    named = [part for fault in QUICK for part in ("--fault", fault)]
    arguments = ["--minutes", "0.1", "--voice", "tone", "--report", str(report), *named]
    status = chaos.main(arguments)
    page = report.read_text()
    assert status == 0, page
    assert "Broken rules: none" in page
    assert any(f"| {fault}, breaking-tone |" in page for fault in QUICK)


def judged(*streams: Stream, fault: str = "abort") -> Outcome:
    """Return what is made of streams after one fault at 10 s, which took half a second."""
    made = chaos.Chaos([fault], 1, None, real=False)
    crowd: Any = SimpleNamespace(ended=list(streams))
    made._crowd = crowd
    made.outcome.injections = [Injection(fault, "breaking-tone", 10.0, 1, ended=10.5)]
    made._judge_streams()
    return made.outcome


def stream(model: str, asked: float, ended: float, *, problem: str = "cut off") -> Stream:
    return Stream(model, "http", "Hello.", asked, ended, whole=not problem, problem=problem)


def test_streams_of_the_broken_process_may_be_hurt_and_are_counted() -> None:
    outcome = judged(stream("breaking-1", 8.0, 10.4), stream("steady-1", 8.0, 12.0, problem=""))
    assert not outcome.breaches
    assert (outcome.streams, outcome.injections[0].hurt) == (2, 1)


@pytest.mark.parametrize(
    ("hurt", "fault"),
    [
        (stream("steady-1", 8.0, 10.4), "abort"),
        (stream("breaking-1", 5.0, 9.0), "abort"),
        (stream("breaking-1", 20.0, 21.0), "abort"),
        (stream("breaking-1", 8.0, 10.4), "standard error flooded"),
    ],
)
def test_any_other_stream_that_is_hurt_breaks_a_rule(hurt: Stream, fault: str) -> None:
    assert judged(hurt, fault=fault).breaches


def test_an_error_without_a_type_breaks_a_rule() -> None:
    hurt = stream("breaking-1", 8.0, 10.4)
    hurt.typed = False
    assert judged(hurt).breaches


def test_the_report_tells_what_was_missed() -> None:
    outcome = Outcome(1, memory_mb=[100.0, 106.0])
    outcome.injections = [Injection("abort", "breaking-tone", 1.0, 8, again_s=math.inf)]
    outcome.longest_gap_s = 2.0
    outcome.breaches["something"] += 1
    page = chaos_report.markdown(outcome)
    assert page.count("does not hold") == 2
    assert "later than 1 s: 1 of 1" in page
    assert "**Broken**: something (1)" in page
