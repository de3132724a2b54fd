"""What a run costs is learned from the runs, and a single slow one teaches nothing."""

from __future__ import annotations

import threading

import pytest

from greenroom.adapters.piper.prepared.run.stage_cost import StageCost


def learned(*frame_s: float) -> float:
    """Return what a frame costs after runs in which it took so long."""
    cost = StageCost(1e-3, run_frames=4)
    for each in frame_s:
        cost.add(96, each * 100)
    return cost.seconds(996) / 1000


def test_before_any_run_it_is_what_was_expected() -> None:
    assert learned() == pytest.approx(1e-3)


def test_a_fast_machine_is_known_after_as_many_runs_as_are_remembered() -> None:
    assert learned(*[1e-4] * 8) == pytest.approx(1e-4)


def test_a_run_costs_its_frames_and_some_on_top() -> None:
    cost = StageCost(1e-3, run_frames=4)
    assert cost.seconds(16) == pytest.approx(20e-3)
    assert cost.seconds(96) == pytest.approx(100e-3)


@pytest.mark.parametrize("at", range(8))
def test_one_slow_run_changes_nothing(at: int) -> None:
    runs = [1e-4] * 8
    runs[at] = 1.0
    assert learned(*[1e-4] * 8, *runs) == pytest.approx(1e-4)


def test_the_second_slow_run_is_believed_and_forgotten_when_the_machine_recovers() -> None:
    fast, slow = [1e-4] * 8, [1e-3] * 2
    assert learned(*fast, *slow) == pytest.approx(1e-3)
    assert learned(*fast, *slow, *fast[:6]) == pytest.approx(1e-3)
    assert learned(*fast, *slow, *fast[:7]) == pytest.approx(1e-4)


def test_any_number_of_threads_may_teach_it() -> None:
    cost = StageCost(1e-3, run_frames=4)

    def teach() -> None:
        for _ in range(500):
            cost.add(96, 1e-2)
            assert cost.seconds(96) > 0

    threads = [threading.Thread(target=teach) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert cost.seconds(96) == pytest.approx(1e-2)
