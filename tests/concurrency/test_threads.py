"""Lanes of threads: bounded, in order, and not exhausted by calls that hang."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from functools import partial

import pytest

from greenroom.concurrency.threads import Lane, OverdueError
from greenroom.testing import Gate, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


def hold(gate: Gate) -> str:
    gate.go_through()
    return threading.current_thread().name


async def test_a_call_runs_on_a_named_daemon_thread_and_its_result_comes_back() -> None:
    lane = Lane("test", 2)
    name, daemon = await lane.run(
        lambda: (threading.current_thread().name, threading.current_thread().daemon)
    )
    assert (name, daemon) == ("greenroom-test-1", True)
    assert await lane.run(lambda: threading.current_thread().name) == "greenroom-test-1"
    lane.close()


async def test_at_most_size_calls_run_and_the_rest_come_in_order(clock: VirtualTimeLoop) -> None:
    lane, gate, begun = Lane("test", 2), Gate(), []
    gate.hold()

    def call(number: int) -> None:
        begun.append(number)
        gate.go_through()

    tasks = [asyncio.create_task(lane.run(partial(call, n))) for n in range(5)]
    await clock.settle()
    assert gate.waiting == 2
    assert sorted(begun) == [0, 1]
    gate.open()
    await asyncio.gather(*tasks)
    assert sorted(begun) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "error", [ValueError("x"), StopIteration(), SystemExit(1), KeyboardInterrupt()]
)
async def test_whatever_a_call_raises_comes_back_as_an_ordinary_error(error: BaseException) -> None:
    def call() -> None:
        raise error

    with pytest.raises(ValueError if isinstance(error, ValueError) else RuntimeError):
        await Lane("test", 1).run(call)


async def test_an_overdue_call_is_written_off_and_its_place_given_on(
    clock: VirtualTimeLoop,
) -> None:
    lane, gate = Lane("test", 1), Gate()
    gate.hold()
    stuck = asyncio.create_task(lane.run(lambda: hold(gate), limit=5))
    await clock.advance(5.1)
    with pytest.raises(OverdueError) as raised:
        await stuck
    assert not raised.value.call.done()
    assert await lane.run(lambda: "next", limit=5) == "next"
    gate.open()
    await clock.settle()
    assert raised.value.call.done()


async def test_a_wait_for_a_place_has_a_limit(clock: VirtualTimeLoop) -> None:
    lane, gate = Lane("test", 1), Gate()
    gate.hold()
    first = asyncio.create_task(lane.run(lambda: hold(gate)))
    await clock.settle()
    second = asyncio.create_task(lane.run(lambda: None, limit=5))
    await clock.advance(5.1)
    with pytest.raises(TimeoutError):
        await second
    gate.open()
    await first


async def test_cancelling_a_running_call_returns_when_its_thread_has_left_it(
    clock: VirtualTimeLoop,
) -> None:
    lane, gate = Lane("test", 1), Gate()
    gate.hold()
    task = asyncio.create_task(lane.run(lambda: hold(gate)))
    await clock.settle()
    task.cancel()
    await clock.settle()
    assert not task.done()
    gate.open()
    await clock.settle()
    assert task.cancelled()
    assert await lane.run(lambda: 1) == 1


async def test_cancelling_a_call_that_hangs_ends_at_its_limit(clock: VirtualTimeLoop) -> None:
    lane, gate = Lane("test", 1), Gate()
    gate.hold()
    task = asyncio.create_task(lane.run(lambda: hold(gate), limit=5))
    await clock.advance(1)
    task.cancel()
    await clock.advance(5.1)
    with pytest.raises(OverdueError):
        await task
    gate.open()


async def test_cancelling_a_call_that_waits_for_a_place_ends_at_once(
    clock: VirtualTimeLoop,
) -> None:
    lane, gate, ran = Lane("test", 1), Gate(), []
    gate.hold()
    first = asyncio.create_task(lane.run(lambda: hold(gate)))
    await clock.settle()
    second = asyncio.create_task(lane.run(lambda: ran.append(1)))
    await clock.settle()
    second.cancel()
    await clock.settle()
    assert second.cancelled()
    gate.open()
    await first
    assert ran == []


async def test_a_lane_keeps_no_reference_to_what_it_ran() -> None:
    class Thing:
        def call(self) -> Thing:
            return self

        def fail(self) -> None:
            raise ValueError(self)

    gc.disable()
    try:
        lane, thing = Lane("test", 1), Thing()
        dead = weakref.ref(thing)
        assert await lane.run(thing.call) is thing
        with pytest.raises(ValueError, match="Thing"):
            await lane.run(thing.fail)
        del thing
        await lane.run(lambda: None)
        assert dead() is None
    finally:
        gc.enable()


async def test_a_closed_lane_ends_its_resting_threads() -> None:
    lane = Lane("closing", 3)
    await asyncio.gather(*(lane.run(lambda: None) for _ in range(3)))
    mine = [t for t in threading.enumerate() if t.name.startswith("greenroom-closing")]
    assert mine
    lane.close()
    for thread in mine:
        await asyncio.get_running_loop().run_in_executor(None, thread.join, 5)
        assert not thread.is_alive()
