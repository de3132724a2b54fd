"""The figures of a worker's last ten minutes, step by step, within bounds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from greenroom import CapacityError, ModelManager
from greenroom.concurrency.cpu_time import CpuTime
from greenroom.statistics import ProcessMemoryStatistics, ProcessStatistics
from greenroom.testing import Stage, VirtualTimeLoop
from greenroom.worker.history import STEP_S, STEPS, History, Step
from greenroom.worker.speech import Timing
from greenroom.worker.speech_log import SpeechLog

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def manager(stage: Stage) -> ModelManager:
    return ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        resident_cap=1,
        cap_policy="hard",
        acquire_timeout_ms=100,
    )


@pytest.fixture
def stage() -> Stage:
    return Stage("a", "b")


class Day:
    """A history, what it is made of, and a clock of its own."""

    def __init__(self, manager: ModelManager) -> None:
        self.now = 0.0
        self.manager = manager
        self.log = SpeechLog(0.0)
        self.history = History(manager, self.log, lambda: self.now)

    def speech(
        self, first_audio_s: float | None = None, gaps: int = 0, late_s: float = 0.0
    ) -> None:
        """Have a speech that began end."""
        timing = Timing()
        timing.first_audio_s, timing.gaps, timing.late_s = first_audio_s, gaps, late_s
        self.history.speech_ends()
        self.log.end("a", "finished", timing, self.now)

    def end_step(self) -> Step:
        self.now += STEP_S
        self.history.end_step(self.manager.statistics(), 0.5)
        return self.history.steps()[-1]


@pytest.fixture
def day(manager: ModelManager) -> Day:
    return Day(manager)


async def test_a_step_has_what_happened_in_it_and_the_next_one_does_not(day: Day) -> None:
    for _ in range(3):
        day.history.speech_begins()
    day.speech(0.2, gaps=2, late_s=0.3)
    day.speech(None)
    day.log.refused["overload"] += 1
    step = day.end_step()
    assert (step.number, step.streams, step.speeches, step.gaps) == (1, 3, 2, 2)
    assert (step.late_s, step.refused, step.cores_busy) == (0.3, {"overload": 1}, 0.5)
    after = day.end_step()
    assert (after.number, after.streams, after.speeches, after.gaps) == (2, 1, 0, 0)
    assert (after.late_s, after.refused) == (0.0, {})


async def test_what_the_manager_refused_counts_once_beside_the_workers_limits(
    day: Day, manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    await manager.initialize()
    refusals = [manager.load("b") for _ in range(2)]
    for each in refusals:
        with pytest.raises(CapacityError):
            await each
    day.log.refused["streams"] += 1
    step = day.end_step()
    assert sum(step.refused.values()) == 3
    assert step.refused["streams"] == 1
    assert day.end_step().refused == {}
    await manager.shutdown()


async def test_percentiles_are_those_of_the_last_minute(day: Day) -> None:
    for hundredths in range(1, 101):
        day.history.speech_begins()
        day.speech(hundredths / 100)
    step = day.end_step()
    assert (step.first_audio_p50_s, step.first_audio_p95_s) == (0.5, 0.95)
    for _ in range(11):
        step = day.end_step()
    assert step.first_audio_p95_s == 0.95
    step = day.end_step()
    assert (step.first_audio_p50_s, step.first_audio_p95_s) == (None, None)


async def test_ten_minutes_are_kept_however_much_happens(day: Day) -> None:
    for _ in range(2 * STEPS):
        day.end_step()
    steps = day.history.steps()
    assert len(steps) == STEPS
    assert STEPS * STEP_S == 600
    assert [step.number for step in day.history.steps(2 * STEPS - 2)] == [2 * STEPS - 1, 2 * STEPS]
    assert day.history.steps(2 * STEPS) == ()


async def test_steps_end_by_the_clock_and_say_what_the_process_takes(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    history = History(manager, SpeechLog(0.0))
    following = clock.create_task(history.follow())
    await clock.advance(0.1)
    assert history.steps() == ()
    await clock.advance(2 * STEP_S)
    first, second = history.steps()
    assert (first.number, second.number) == (1, 2)
    assert first.memory is None  # the manager has not looked yet
    await manager.initialize()
    await clock.advance(STEP_S)
    third = history.steps()[-1]
    assert third.memory == manager.statistics().process_memory
    assert third.memory is not None
    assert third.memory.anonymous_mb > 1
    following.cancel()
    await manager.shutdown()


async def test_a_step_says_what_the_process_and_those_of_engines_take(
    manager: ModelManager,
) -> None:
    history = History(manager, SpeechLog(0.0))
    own = ProcessMemoryStatistics(3.0, 4.0, 5.0)
    engines = (
        ProcessStatistics("one", 1, age_s=1.0, memory_mb=20.0, restarts=0),
        ProcessStatistics("two", 2, age_s=1.0, memory_mb=None, restarts=0),
        ProcessStatistics("three", 3, age_s=1.0, memory_mb=30.0, restarts=0),
    )
    found = replace(manager.statistics(), process_memory=own, processes=engines)
    history.end_step(found, 0.5)
    (step,) = history.steps()
    assert (step.memory, step.engines_mb) == (own, 50.0)


async def test_where_no_thread_can_be_had_engines_count_in_the_next_step(
    manager: ModelManager, clock: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ProcessStatistics("one", 77, age_s=1.0, memory_mb=None, restarts=0)
    found = replace(manager.statistics(), processes=(engine,))
    monkeypatch.setattr(manager, "statistics", lambda: found)
    looks: list[CpuTime | None] = [CpuTime(0.0, {77: 1.0}), None, CpuTime(10.0, {77: 9.0})]

    async def thread(*_: object) -> CpuTime:
        look = looks.pop(0)
        if look is None:
            raise RuntimeError("can't start new thread")
        return look

    monkeypatch.setattr(asyncio, "to_thread", thread)
    history = History(manager, SpeechLog(0.0))
    following = clock.create_task(history.follow())
    await clock.advance(2 * STEP_S + 0.1)
    assert [step.cores_busy for step in history.steps()] == [0.0, 0.8]
    following.cancel()
