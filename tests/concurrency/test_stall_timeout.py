"""Each wait has its own limit, and all of them one timer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from greenroom.concurrency.stall_timeout import StallTimeout
from greenroom.testing import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

Outcomes = list[tuple[str, float]]


async def run(clock: VirtualTimeLoop, *steps: tuple[str, float]) -> Outcomes:
    """Wait and work by turns, each so many seconds, with 10 s for a wait; return how it went."""
    began, outcomes = clock.time(), Outcomes()

    async def take_steps() -> None:
        try:
            async with StallTimeout(10) as stall:
                for kind, seconds in steps:
                    sleep = asyncio.sleep(seconds, "done")
                    outcomes.append(
                        (
                            await (stall.wait(sleep) if kind == "wait" else sleep),
                            clock.time() - began,
                        )
                    )
        except TimeoutError:
            outcomes.append(("late", clock.time() - began))

    task = asyncio.create_task(take_steps())
    await clock.advance(100)
    await task
    return outcomes


async def test_waits_that_end_in_time_may_take_long_together(clock: VirtualTimeLoop) -> None:
    outcomes = await run(clock, *[("wait", 9)] * 5)
    assert outcomes == [("done", 9 * number) for number in range(1, 6)]


async def test_a_wait_that_is_late_ends_the_block_when_its_own_time_is_up(
    clock: VirtualTimeLoop,
) -> None:
    assert await run(clock, ("wait", 11)) == [("late", 10)]
    assert await run(clock, ("wait", 9), ("wait", 11)) == [("done", 9), ("late", 19)]


async def test_what_is_done_between_two_waits_does_not_count(clock: VirtualTimeLoop) -> None:
    steps = ("wait", 1), ("work", 30), ("wait", 9), ("work", 5), ("wait", 50)
    outcomes = await run(clock, *steps)
    assert outcomes == [("done", 1), ("done", 31), ("done", 40), ("done", 45), ("late", 55)]


async def test_many_short_waits_set_one_timer(
    clock: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[float] = []
    true_call_at = clock.call_at

    def call_at(when: float, *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(when - clock.time())
        return true_call_at(when, *arguments, **more)

    monkeypatch.setattr(clock, "call_at", call_at)
    async with StallTimeout(10) as stall:
        for _ in range(1_000):
            await stall.wait(asyncio.sleep(0))
    assert timers == [10]


async def test_an_end_from_outside_is_no_timeout(clock: VirtualTimeLoop) -> None:
    async def wait() -> None:
        async with StallTimeout(10) as stall:
            await stall.wait(asyncio.sleep(5))

    task = asyncio.create_task(wait())
    await clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_timer_is_left_of_a_block_that_has_ended(clock: VirtualTimeLoop) -> None:
    async with StallTimeout(10) as stall:
        await stall.wait(asyncio.sleep(0))
        timer = stall._timer
    assert timer is not None
    assert timer.cancelled()
