"""A soak with processes notices what is lost and what grows; no time is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import soak_processes
from benchmarks.chaos_callers import Stream
from benchmarks.soak_processes import Score, Soak, growth, report


@pytest.mark.bench
@pytest.mark.slow  # .ci/run has a minute of it
def test_a_short_soak_loses_nothing(tmp_path: Path) -> None:
    page = tmp_path / "report.md"
    status = soak_processes.main(["--minutes", "0.1", "--callers", "7", "--report", str(page)])
    assert status == 0, page.read_text()
    assert "| broken | nothing |" in page.read_text()
    assert "session" in page.read_text()


def sample(**changed: float) -> dict[str, float]:
    usual = {"memory, MB": 100.0, "descriptors": 100.0, "threads": 50.0, "processes": 4.0}
    return {**usual, **changed}


def test_what_is_greater_in_the_last_quarter_than_in_the_second_has_grown() -> None:
    steady = [sample()] * 12
    assert all(holds for _, _, holds in growth(steady).values())
    grown = growth([*[sample()] * 9, *[sample(threads=80.0)] * 3])
    assert {name for name, (_, _, holds) in grown.items() if not holds} == {"threads"}


def test_growth_before_the_second_quarter_is_a_start() -> None:
    started = growth([*[sample(threads=1.0)] * 3, *[sample()] * 9])
    assert all(holds for _, _, holds in started.values())


def test_speech_that_is_neither_whole_nor_refused_with_a_type_breaks_a_rule() -> None:
    soak = Soak(60.0, 1, 1)
    for number, (whole, typed) in enumerate([(True, True), (False, True), (False, False)]):
        stream = Stream("steady-1", "grpc", "Hello.", 1.0, 2.0, whole=whole, typed=typed)
        stream.problem = "" if whole else f"problem {number}"
        soak._judge(stream)
    assert soak.score.done == {"grpc": 1}
    assert soak.score.refused == {"grpc: problem 1": 1}
    assert soak.score.breaches == {"grpc: problem 2": 1}


def test_the_report_names_what_was_broken() -> None:
    score = Score(samples=[sample()] * 8)
    score.breaches["something"] += 2
    page = report(60.0, 1, 64, score)
    assert "| **broken**: something | 2 |" in page
    assert "| threads, second quarter and last | 50, 50 |" in page
