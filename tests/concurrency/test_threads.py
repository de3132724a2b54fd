"""Executors of daemon threads: bounded, in order, and not exhausted by calls that hang."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from functools import partial
from typing import Any

import pytest

from greenroom.concurrency.threads import DaemonExecutor, OverdueError, run_to_end, to_end
from greenroom.testing import Gate, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


def hold(gate: Gate) -> str:
    gate.go_through()
    return threading.current_thread().name


async def test_a_call_runs_on_a_named_daemon_thread_and_its_result_comes_back() -> None:
    executor = DaemonExecutor("test", 2)
    name, daemon = await executor.run(
        lambda: (threading.current_thread().name, threading.current_thread().daemon)
    )
    assert (name, daemon) == ("greenroom-test-1", True)
    assert await executor.run(lambda: threading.current_thread().name) == "greenroom-test-1"
    executor.close()


async def test_at_most_size_calls_run_and_the_rest_come_in_order(clock: VirtualTimeLoop) -> None:
    executor, gate, begun = DaemonExecutor("test", 2), Gate(), []
    gate.hold()

    def call(number: int) -> None:
        begun.append(number)
        gate.go_through()

    tasks = [asyncio.create_task(executor.run(partial(call, n))) for n in range(5)]
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
        await DaemonExecutor("test", 1).run(call)


async def test_an_overdue_call_is_abandoned_and_its_place_given_on(
    clock: VirtualTimeLoop,
) -> None:
    executor, gate = DaemonExecutor("test", 1), Gate()
    gate.hold()
    stuck = asyncio.create_task(executor.run(lambda: hold(gate), limit=5))
    await clock.advance(5.1)
    with pytest.raises(OverdueError) as raised:
        await stuck
    assert not raised.value.call.done()
    assert await executor.run(lambda: "next", limit=5) == "next"
    gate.open()
    await clock.settle()
    assert raised.value.call.done()


async def test_a_wait_for_a_place_has_a_limit(clock: VirtualTimeLoop) -> None:
    executor, gate = DaemonExecutor("test", 1), Gate()
    gate.hold()
    first = asyncio.create_task(executor.run(lambda: hold(gate)))
    await clock.settle()
    second = asyncio.create_task(executor.run(lambda: None, limit=5))
    await clock.advance(5.1)
    with pytest.raises(TimeoutError):
        await second
    gate.open()
    await first


async def test_cancelling_a_running_call_returns_when_its_thread_has_left_it(
    clock: VirtualTimeLoop,
) -> None:
    executor, gate = DaemonExecutor("test", 1), Gate()
    gate.hold()
    task = asyncio.create_task(executor.run(lambda: hold(gate)))
    await clock.settle()
    task.cancel()
    await clock.settle()
    assert not task.done()
    gate.open()
    await clock.settle()
    assert task.cancelled()
    assert await executor.run(lambda: 1) == 1


async def test_cancelling_a_call_that_hangs_ends_at_its_limit(clock: VirtualTimeLoop) -> None:
    executor, gate = DaemonExecutor("test", 1), Gate()
    gate.hold()
    task = asyncio.create_task(executor.run(lambda: hold(gate), limit=5))
    await clock.advance(1)
    task.cancel()
    await clock.advance(5.1)
    with pytest.raises(OverdueError):
        await task
    gate.open()


async def test_cancelling_a_call_that_waits_for_a_place_ends_at_once(
    clock: VirtualTimeLoop,
) -> None:
    executor, gate, ran = DaemonExecutor("test", 1), Gate(), []
    gate.hold()
    first = asyncio.create_task(executor.run(lambda: hold(gate)))
    await clock.settle()
    second = asyncio.create_task(executor.run(lambda: ran.append(1)))
    await clock.settle()
    second.cancel()
    await clock.settle()
    assert second.cancelled()
    gate.open()
    await first
    assert ran == []


async def test_an_executor_keeps_no_reference_to_what_it_ran_when_its_caller_goes_on() -> None:
    class Thing:
        def call(self) -> Thing:
            return self

        def fail(self) -> None:
            raise ValueError(self)

    gc.disable()
    try:
        executor = DaemonExecutor("test", 1)
        for _ in range(100):  # a thread that lets go too late does so now and then only
            thing = Thing()
            dead = weakref.ref(thing)
            assert await executor.run(thing.call) is thing
            del thing
            assert dead() is None
            thing = Thing()
            dead = weakref.ref(thing)
            with pytest.raises(ValueError, match="Thing"):
                await executor.run(thing.fail)
            del thing
            assert dead() is None
    finally:
        gc.enable()


async def test_a_closed_executor_ends_its_idle_threads() -> None:
    executor = DaemonExecutor("closing", 3)
    await asyncio.gather(*(executor.run(lambda: None) for _ in range(3)))
    mine = [t for t in threading.enumerate() if t.name.startswith("greenroom-closing")]
    assert mine
    executor.close()
    for thread in mine:
        await asyncio.get_running_loop().run_in_executor(None, thread.join, 5)
        assert not thread.is_alive()


class Call:
    """A thread's call as the event loop sees it: a future that a test ends."""

    def __init__(self, **options: Any) -> None:
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting = asyncio.create_task(to_end(self.future, **options))


async def test_the_outcome_of_a_call_is_that_of_the_wait_for_its_end() -> None:
    call = Call()
    call.future.set_result("done")
    assert await call.waiting == "done"
    call = Call()
    call.future.set_exception(ValueError("failed"))
    with pytest.raises(ValueError, match="failed"):
        await call.waiting


@pytest.mark.parametrize("error", [None, ValueError("nobody hears it")])
async def test_a_cancelled_wait_goes_on_to_the_end_of_the_call(
    clock: VirtualTimeLoop, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    call = Call()
    await clock.advance(1)
    call.waiting.cancel()
    await clock.advance(3_600)
    assert not call.waiting.done()
    if error is None:
        call.future.set_result("done")
    else:
        call.future.set_exception(error)
    with pytest.raises(asyncio.CancelledError):
        await call.waiting
    del call
    gc.collect()
    assert not caplog.records


async def test_a_wait_that_is_cancelled_as_its_call_ends_is_cancelled(
    clock: VirtualTimeLoop,
) -> None:
    call = Call()
    await clock.settle()
    call.future.set_result("done")
    call.waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.waiting


async def test_a_wait_that_is_cancelled_twice_ends_and_says_that_the_call_runs(
    clock: VirtualTimeLoop,
) -> None:
    call = Call(limit=60)
    await clock.settle()
    call.waiting.cancel()
    await clock.settle()
    call.waiting.cancel()
    await clock.settle()
    with pytest.raises(OverdueError) as raised:
        await call.waiting
    assert raised.value.call is call.future
    assert not call.future.done()


async def test_a_cancelled_wait_may_have_a_limit_of_its_own(clock: VirtualTimeLoop) -> None:
    call = Call(limit_when_cancelled=2)
    await clock.advance(3_600)
    call.waiting.cancel()
    await clock.advance(1.9)
    assert not call.waiting.done()
    await clock.advance(0.2)
    with pytest.raises(OverdueError):
        await call.waiting


async def test_a_wait_ends_when_it_is_given_up_unless_its_call_has_ended(
    clock: VirtualTimeLoop,
) -> None:
    abandoned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    call, ended = Call(abandoned=abandoned), Call(abandoned=abandoned)
    await clock.settle()
    ended.future.set_result("done")
    abandoned.set_result(None)
    with pytest.raises(OverdueError):
        await call.waiting
    assert await ended.waiting == "done"


async def test_a_step_runs_in_a_thread_to_its_end_even_when_cancelled(
    clock: VirtualTimeLoop,
) -> None:
    gate = Gate()
    assert await run_to_end(partial(hold, gate)) != threading.current_thread().name
    gate.hold()
    begun = threading.Event()

    def step() -> None:
        begun.set()
        gate.go_through()

    waiting = asyncio.create_task(run_to_end(step))
    await asyncio.to_thread(begun.wait)
    waiting.cancel()
    await clock.advance(60)
    assert not waiting.done()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_step_that_is_cancelled_twice_is_waited_for_no_longer(
    clock: VirtualTimeLoop,
) -> None:
    gate = Gate()
    gate.hold()
    begun = threading.Event()

    def step() -> None:
        begun.set()
        gate.go_through()

    waiting = asyncio.create_task(run_to_end(step))
    await asyncio.to_thread(begun.wait)
    waiting.cancel()
    await clock.settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_wait_for_a_failed_call_keeps_nothing_alive(cancelled: bool) -> None:
    class Engine:
        def fail(self) -> None:
            raise ValueError("failed")

    gc.collect()
    gc.disable()
    try:
        engine = Engine()
        waiting = asyncio.create_task(run_to_end(engine.fail))
        await asyncio.sleep(0)
        if cancelled:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else ValueError):
            await waiting
        dead = weakref.ref(engine)
        del engine, waiting
        for _ in range(1_000):  # the thread lets go of its step a moment after it said the outcome
            await asyncio.to_thread(int)
            if dead() is None:
                break
        assert dead() is None
    finally:
        gc.enable()
