"""A race of two tasks: one outcome, no task left running, and nothing kept alive."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator

import pytest

from greenroom.concurrency.tasks import race


class Runner:
    """A coroutine that waits until it is let go, and notes how it ended."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go = asyncio.Event()
        self.error = error
        """Raised at its end."""
        self.last_words: Exception | None = None
        """Raised when it is cancelled."""
        self.farewell = asyncio.Event()
        """Waited for when it is cancelled."""
        self.farewell.set()
        self.ended = ""

    async def run(self) -> str:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            await self.farewell.wait()
            self.ended = "cancelled"
            if self.last_words is not None:
                raise self.last_words from None
            raise
        self.ended = "finished"
        if self.error is not None:
            raise self.error
        return "finished"


@pytest.fixture(autouse=True)
async def nothing_unheard() -> AsyncIterator[None]:
    """Fail a test in which asyncio reports anything, such as an error that nobody asked for."""
    reports: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
    yield
    gc.collect()
    loop.set_exception_handler(None)
    assert not reports


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Have nothing freed but what no reference leads to, not even from itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def steps(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_first_to_end_gives_the_result_and_the_other_is_cancelled() -> None:
    for first, second in ((0, 1), (1, 0)):
        runners = [Runner(), Runner()]
        runners[first].go.set()
        assert await race(runners[0].run(), runners[1].run()) == "finished"
        assert runners[first].ended == "finished"
        assert runners[second].ended in ("cancelled", "")  # "" if it had not begun yet


async def test_the_error_of_the_first_to_end_is_raised() -> None:
    for first in (0, 1):
        runners = [Runner(ValueError("first")), Runner(ValueError("first"))]
        task = asyncio.create_task(race(runners[0].run(), runners[1].run()))
        await steps()
        runners[first].go.set()
        with pytest.raises(ValueError, match="first"):
            await task
        assert runners[1 - first].ended == "cancelled"


async def test_when_both_end_at_once_the_work_counts() -> None:
    work, rival = Runner(), Runner(ValueError("of the rival"))
    task = asyncio.create_task(race(work.run(), rival.run()))
    await steps()
    rival.go.set()
    work.go.set()
    assert await task == "finished"
    assert (work.ended, rival.ended) == ("finished", "finished")


async def test_an_error_of_the_loser_is_dropped() -> None:
    work, rival = Runner(), Runner()
    rival.last_words = ValueError("raised when cancelled")
    task = asyncio.create_task(race(work.run(), rival.run()))
    await steps()
    work.go.set()
    assert await task == "finished"
    assert rival.ended == "cancelled"


async def test_a_race_waits_until_the_loser_has_ended() -> None:
    work, rival = Runner(), Runner()
    rival.farewell.clear()
    task = asyncio.create_task(race(work.run(), rival.run()))
    await steps()
    work.go.set()
    await steps()
    assert not task.done()
    rival.farewell.set()
    assert await task == "finished"
    assert rival.ended == "cancelled"


async def test_cancelling_a_race_cancels_both_and_waits_for_both() -> None:
    work, rival = Runner(), Runner()
    work.farewell.clear()
    task = asyncio.create_task(race(work.run(), rival.run()))
    await steps()
    task.cancel()
    await steps()
    assert not task.done()
    work.farewell.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (work.ended, rival.ended) == ("cancelled", "cancelled")


async def test_cancelling_a_race_twice_ends_the_wait_for_one_that_does_not_end() -> None:
    work, rival = Runner(), Runner()
    work.farewell.clear()
    work.last_words = ValueError("long after the race")
    task = asyncio.create_task(race(work.run(), rival.run()))
    await steps()
    task.cancel()
    await steps()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended == ""
    work.farewell.set()
    await steps()
    assert work.ended == "cancelled"


@pytest.mark.usefixtures("no_collector")
async def test_an_error_that_comes_out_of_a_race_keeps_nothing_alive() -> None:
    class Engine:
        pass

    async def fail(engine: Engine) -> None:
        await asyncio.sleep(0)
        raise ValueError(engine is None)

    async def speak() -> weakref.ref[Engine]:
        engine = Engine()
        runner = Runner()
        with pytest.raises(ValueError, match="False"):
            await race(fail(engine), runner.run())
        return weakref.ref(engine)

    engine = await speak()
    await steps()
    assert engine() is None
