"""Cores for the steps of streams: in the scheduler's order, given back on every path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from greenroom.concurrency.cores import Cores
from greenroom.speech.dispatcher import Dispatcher
from greenroom.speech.scheduler import StreamState
from greenroom.testing import VirtualTimeLoop
from tests.speech.simulation import KnownCost

pytestmark = pytest.mark.virtual_time

COST = KnownCost(rate=0.05, step_s=0.03, first_s=0.05)


@pytest.fixture
def cores() -> Cores:
    return Cores(lambda: 2)


@pytest.fixture
async def dispatcher(cores: Cores) -> Dispatcher:
    return Dispatcher(cores)


def stream(due: float, cost: KnownCost = COST) -> StreamState:
    now = asyncio.get_running_loop().time()
    return StreamState(cost, now, heard=True, due=now + due, begins=False, left_s=5.0)


async def test_as_many_steps_run_as_there_are_cores_and_the_most_urgent_is_next(
    dispatcher: Dispatcher, clock: VirtualTimeLoop
) -> None:
    first, second = [await dispatcher.enter(stream(9.0), 1.0) for _ in range(2)]
    waiting = {
        due: asyncio.create_task(dispatcher.enter(stream(due), 10.0)) for due in (3.0, 1.0, 2.0)
    }
    await clock.settle()
    assert dispatcher.is_contended
    dispatcher.leave(first)
    await clock.settle()
    assert [due for due, task in waiting.items() if task.done()] == [1.0]
    dispatcher.leave(second)
    await clock.settle()
    assert [due for due, task in waiting.items() if task.done()] == [1.0, 2.0]
    dispatcher.leave(waiting[1.0].result())
    dispatcher.leave(waiting[2.0].result())
    dispatcher.leave(await waiting[3.0])
    assert not dispatcher.is_contended


async def test_a_wait_that_is_cancelled_or_too_long_takes_nothing(
    dispatcher: Dispatcher, cores: Cores, clock: VirtualTimeLoop
) -> None:
    places = [await dispatcher.enter(stream(9.0), 1.0) for _ in range(2)]
    waiting = asyncio.create_task(dispatcher.enter(stream(1.0), 0.5))
    await clock.advance(0.5)
    with pytest.raises(TimeoutError):
        await waiting
    cancelled = asyncio.create_task(dispatcher.enter(stream(1.0), 10.0))
    await clock.settle()
    cancelled.cancel()
    dispatcher.leave(places[0])
    await clock.settle()
    assert cancelled.cancelled()
    dispatcher.leave(places[1])
    await clock.settle()
    assert cores.idle == 2
    assert cores.borrow(), "nobody waits any more"
    cores.give_back()


async def test_a_core_that_is_handed_over_in_the_step_of_the_cancelling_is_given_back(
    dispatcher: Dispatcher, cores: Cores, clock: VirtualTimeLoop
) -> None:
    places = [await dispatcher.enter(stream(9.0), 1.0) for _ in range(2)]
    waiting = asyncio.create_task(dispatcher.enter(stream(1.0), 10.0))
    await clock.settle()
    dispatcher.leave(places[0])
    waiting.cancel()
    await clock.settle()
    assert waiting.cancelled()
    dispatcher.leave(places[1])
    assert cores.idle == 2


async def test_the_core_of_a_step_that_hangs_is_lent_to_others(
    dispatcher: Dispatcher, cores: Cores, clock: VirtualTimeLoop
) -> None:
    hanging = [await dispatcher.enter(stream(9.0), 1.0) for _ in range(2)]
    waiting = asyncio.create_task(dispatcher.enter(stream(1.0), 60.0))
    await clock.advance(0.9)
    assert not waiting.done()
    await clock.advance(0.2)
    place = await waiting
    for each in (*hanging, place):
        dispatcher.leave(each)
    assert cores.idle == 2, "each core is given back once"


async def test_the_core_of_a_prefetch_that_hangs_is_lent_to_others_and_the_streams_step_runs_on(
    dispatcher: Dispatcher, cores: Cores, clock: VirtualTimeLoop
) -> None:
    speaks = stream(9.0, KnownCost(rate=0.05, step_s=0.03, first_s=0.05))
    own = await dispatcher.enter(speaks, 1.0)
    prefetch = dispatcher.borrow(speaks)
    assert prefetch is not None
    assert dispatcher.borrow(speaks) is None, "all compute"
    waiting = asyncio.create_task(dispatcher.enter(stream(1.0), 60.0))
    await clock.advance(0.9)
    dispatcher.leave(own)
    other = await waiting
    again = asyncio.create_task(dispatcher.enter(speaks, 60.0))
    await clock.settle()
    assert not again.done()
    await clock.advance(0.2)
    own = await again
    assert speaks.cost.overdue == 1
    dispatcher.leave(prefetch)
    assert speaks.is_running, "the prefetch was another step"
    dispatcher.leave(own)
    dispatcher.leave(other)
    assert (cores.idle, speaks.cost.overdue) == (2, 0)


async def test_a_step_that_always_takes_long_keeps_its_core_for_four_times_as_long(
    dispatcher: Dispatcher, clock: VirtualTimeLoop
) -> None:
    slow = KnownCost(rate=0.3, step_s=2.0, first_s=2.0)
    for _ in range(2):
        await dispatcher.enter(stream(9.0, slow), 1.0)
    waiting = asyncio.create_task(dispatcher.enter(stream(9.0, slow), 60.0))
    await clock.advance(7.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()


async def test_a_core_that_others_in_the_process_give_back_is_taken(
    dispatcher: Dispatcher, cores: Cores, clock: VirtualTimeLoop
) -> None:
    assert cores.borrow()
    assert cores.take()
    waiting = asyncio.create_task(dispatcher.enter(stream(1.0), 60.0))
    await clock.settle()
    assert not cores.borrow(), "a step waits for it"
    await asyncio.to_thread(cores.give_back)
    dispatcher.leave(await waiting)
    cores.give_back()
    assert cores.idle == 2


async def test_streams_begin_in_order_when_they_can_be_kept_up(
    dispatcher: Dispatcher, clock: VirtualTimeLoop
) -> None:
    loop = asyncio.get_running_loop()

    def talk() -> StreamState:
        return StreamState(COST, loop.time())  # of a text without an end: 36 fit on two cores

    begun = [talk() for _ in range(36)]
    for each in begun:
        await dispatcher.begin(each, 1.0)
    assert dispatcher.used == pytest.approx(1.0)
    assert dispatcher.sharers(begun[0]) == 18.0
    begun[0].heard = begun[1].heard = begun[2].heard = True
    assert dispatcher.sharers(begun[0]) == 1.5, "the others can wait"
    begun[2].resting = True
    assert dispatcher.sharers(begun[0]) == 1.0
    begun[0].heard = begun[1].heard = begun[2].heard = begun[2].resting = False
    line = [asyncio.create_task(dispatcher.begin(talk(), 60.0)) for _ in range(3)]
    impatient = asyncio.create_task(dispatcher.begin(talk(), 0.5))
    await clock.advance(1.0)
    assert dispatcher.waiting == 3
    with pytest.raises(TimeoutError):
        await impatient
    line[1].cancel()
    await clock.settle()
    dispatcher.end(begun[0])
    await clock.settle()
    assert [task.done() for task in line] == [True, True, False]
    dispatcher.end(begun[1])
    await line[2]
    assert dispatcher.waiting == 0


async def test_one_that_is_cancelled_as_it_may_begin_counts_no_more(
    dispatcher: Dispatcher, clock: VirtualTimeLoop
) -> None:
    loop = asyncio.get_running_loop()
    begun = [StreamState(COST, loop.time()) for _ in range(36)]
    for each in begun:
        await dispatcher.begin(each, 1.0)
    next_one = asyncio.create_task(dispatcher.begin(StreamState(COST, loop.time()), 60.0))
    await clock.settle()
    dispatcher.end(begun[0])
    next_one.cancel()
    await clock.settle()
    assert next_one.cancelled()
    assert len(dispatcher.scheduler.streams) == 35


async def test_a_core_that_is_given_back_while_nobody_is_told_is_not_missed(
    clock: VirtualTimeLoop,
) -> None:
    class Hasty(Cores):
        """Has a thread give its core back between the look for one and the wait."""

        borrowed = False

        def wait(self, freed: Callable[[], None]) -> None:
            if self.borrowed:
                self.borrowed = False
                self.give_back()
            super().wait(freed)

    cores = Hasty(lambda: 1)
    cores.borrowed = cores.borrow()
    dispatcher = Dispatcher(cores)
    waiting = asyncio.create_task(dispatcher.enter(stream(1.0), 60.0))
    await clock.settle()
    assert waiting.done()
    dispatcher.leave(await waiting)
    assert cores.borrow(), "nobody waits any more"


async def test_a_model_whose_steps_hang_gets_one_core_after_another_and_others_theirs(
    dispatcher: Dispatcher, cores: Cores, clock: VirtualTimeLoop
) -> None:
    hanging = KnownCost(rate=0.05, step_s=0.03, first_s=0.05)
    streams = [stream(9.0, hanging) for _ in range(5)]
    for each in streams:
        dispatcher.scheduler.enter(each)
    hung = [asyncio.create_task(dispatcher.enter(each, 60.0)) for each in streams]
    began = []
    for _ in range(5):
        await clock.advance(0.5)
        began.append(sum(task.done() for task in hung))
    assert began == [2, 3, 3, 4, 4], "two at once, then one in a second"
    dispatcher.leave(await dispatcher.enter(stream(1.0), 0.01))
    await clock.advance(5.0)
    for task in hung:
        dispatcher.leave(await task)
    assert cores.idle == 2
    assert hanging.overdue == 0


async def test_a_core_that_was_kept_for_a_listener_is_given_away_when_its_stream_ends(
    dispatcher: Dispatcher, clock: VirtualTimeLoop
) -> None:
    slow = KnownCost(rate=0.3, step_s=10.0, first_s=10.0)
    talk, first, second = stream(9.0), stream(9.0, slow), stream(9.0, slow)
    for each in (talk, first, second):
        dispatcher.scheduler.enter(each)
    await dispatcher.enter(first, 1.0)
    waiting = asyncio.create_task(dispatcher.enter(second, 60.0))
    await clock.settle()
    assert not waiting.done()
    dispatcher.end(talk)
    await clock.settle()
    assert waiting.done()


async def test_a_step_that_hangs_after_a_long_one_is_lent_as_soon_as_any_other(
    dispatcher: Dispatcher, clock: VirtualTimeLoop
) -> None:
    slow = KnownCost(rate=0.3, step_s=10.0, first_s=10.0)  # overdue after 40 s
    long = [await dispatcher.enter(stream(9.0, slow), 1.0) for _ in range(2)]
    hanging = [asyncio.create_task(dispatcher.enter(stream(9.0), 60.0)) for _ in range(2)]
    await clock.settle()
    for each in long:
        dispatcher.leave(each)
    await clock.settle()
    assert all(task.done() for task in hanging)
    waiting = asyncio.create_task(dispatcher.enter(stream(1.0), 60.0))
    await clock.advance(1.1)
    assert waiting.done()


async def test_two_managers_of_one_process_have_a_core_by_turns(
    cores: Cores, clock: VirtualTimeLoop
) -> None:
    async def work(dispatcher: Dispatcher, steps: list[None]) -> None:
        talk = stream(1.0)
        while True:
            place = await dispatcher.enter(talk, 60.0)
            try:
                await asyncio.sleep(0.1)
            finally:
                dispatcher.leave(place)
            steps.append(None)

    made: list[list[None]] = [[], []]
    tasks = []
    for steps in made:
        dispatcher = Dispatcher(cores)
        tasks += [asyncio.create_task(work(dispatcher, steps)) for _ in range(4)]
        await clock.settle()
    await clock.advance(10.0)
    assert [len(steps) for steps in made] == [pytest.approx(100, abs=5)] * 2
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert cores.idle == 2


@pytest.mark.parametrize("step_s", [0.31, 0.32, 0.33, 0.34, 0.35, 0.36, 0.37, 0.38, 0.39])
async def test_a_step_is_overdue_when_its_timer_rings_however_the_sum_is_rounded(
    clock: VirtualTimeLoop, step_s: float
) -> None:
    class Counting(Cores):
        """Counts who looks for a core."""

        looks = 0

        def take(self) -> bool:
            self.looks += 1
            assert self.looks < 20, "the timer rings again and again"
            return super().take()

    cores = Counting(lambda: 1)
    dispatcher = Dispatcher(cores)
    slow = KnownCost(rate=0.3, step_s=step_s, first_s=step_s)
    await dispatcher.enter(stream(9.0, slow), 1.0)
    waiting = asyncio.create_task(dispatcher.enter(stream(1.0), 60.0))
    await clock.advance(2.0)
    assert waiting.done()
