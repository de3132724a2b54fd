"""A soak with processes notices what is lost and what grows; no time is asserted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import soak_processes
from benchmarks.chaos_callers import Stream
from benchmarks.soak_processes import Score, Soak, growth, report
from benchmarks.soak_rest import Rest, astray, left_behind


@pytest.mark.bench
@pytest.mark.slow  # .ci/run has a minute of it
def test_a_short_soak_loses_nothing(tmp_path: Path) -> None:
    page = tmp_path / "report.md"
    status = soak_processes.main(["--minutes", "0.1", "--callers", "7", "--report", str(page)])
    assert status == 0, page.read_text()
    assert "| broken | nothing |" in page.read_text()
    assert "session" in page.read_text()
    assert "threads at rest" in page.read_text()


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


def rest(*, memory_mb: float = 100.0, **kinds: int) -> Rest:
    """Return a rest with a pool of 16 threads that speak, of which there is one."""
    threads = Counter({"MainThread": 1, "greenroom-speak": 1})
    descriptors = Counter({"socket": 3})
    for kind, count in kinds.items():
        (descriptors if kind == "socket" else threads)[kind.replace("_", "-")] = count
    return Rest(threads, descriptors, Counter({"greenroom-speak": 16}), memory_mb)


@pytest.mark.parametrize(
    ("after", "left"),
    [
        (rest(greenroom_speak=16, memory_mb=136.0), {}),
        (rest(greenroom_speak=17), {"threads, greenroom-speak": "17, at most 16"}),
        (rest(greenroom_watch=1), {"threads, greenroom-watch": "1, at most 0"}),
        (rest(socket=4), {"descriptors, socket": "4, at most 3"}),
        (rest(memory_mb=138.0), {"memory": "138 MB, at most 137"}),
    ],
)
def test_pools_may_fill_and_nothing_else_may_be_left_behind(
    after: Rest, left: dict[str, str]
) -> None:
    assert left_behind(rest(), after) == left


def test_a_process_has_a_thread_and_a_descriptor_for_each_connection_and_its_own() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        processes = {"one": process.pid}
        threads = len(os.listdir(f"/proc/{process.pid}/task"))
        assert astray(processes, {"one": threads + 8}) == {}
        assert "threads of one" in astray(processes, {"one": threads - 2})
        process.communicate()


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
