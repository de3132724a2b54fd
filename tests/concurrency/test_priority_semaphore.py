"""Places for a few at a time: the most urgent next, none lost, none taken twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from greenroom.concurrency.priority_semaphore import PrioritySemaphore


async def test_the_most_urgent_is_next_and_among_equals_the_first_that_came() -> None:
    places = PrioritySemaphore(1, lambda: None)
    await places.acquire(5, lambda: 0.0)
    came: list[str] = []

    async def come(name: str, urgency: float) -> None:
        await places.acquire(5, lambda: urgency)
        came.append(name)
        places.release()

    names = [("late", 9.0), ("soon", 1.0), ("soon too", 1.0), ("first", 0.5)]
    tasks = [asyncio.create_task(come(*name)) for name in names]
    await asyncio.sleep(0)
    assert places.contended
    assert places.most_urgent == 0.5
    places.release()
    await asyncio.gather(*tasks)
    assert came == ["first", "soon", "soon too", "late"]
    assert places.most_urgent is None


async def test_urgency_is_asked_for_when_a_place_is_handed_over() -> None:
    places = PrioritySemaphore(1, lambda: None)
    await places.acquire(5, lambda: 0.0)
    urgency = {"a": 1.0, "b": 2.0}
    tasks = {
        name: asyncio.create_task(places.acquire(5, lambda name=name: urgency[name]))  # type: ignore[misc]
        for name in urgency
    }
    await asyncio.sleep(0)
    urgency["a"] = 3.0
    places.release()
    await tasks["b"]
    assert not tasks["a"].done()
    places.release()
    await tasks["a"]


async def test_a_waiter_that_is_cancelled_as_its_turn_comes_hands_it_on() -> None:
    turns = PrioritySemaphore(1, lambda: None)
    await turns.acquire(5, lambda: 0.0)
    first, second = (asyncio.create_task(turns.acquire(5, lambda: 0.0)) for _ in range(2))
    await asyncio.sleep(0)
    turns.release()
    first.cancel()
    await asyncio.wait([first])
    await second
    assert not turns.contended
    turns.release()
    assert turns.acquire_now()


async def test_a_wait_that_takes_too_long_takes_nothing_and_says_so() -> None:
    waits: list[None] = []
    places = PrioritySemaphore(1, lambda: waits.append(None))
    await places.acquire(5, lambda: 0.0)
    with pytest.raises(TimeoutError):
        await places.acquire(0.01, lambda: 0.0)
    assert len(waits) == 1
    places.release()
    assert places.acquire_now()
    assert not places.acquire_now()


async def test_without_a_size_any_number_may_come() -> None:
    places = PrioritySemaphore(None, lambda: None)
    for _ in range(100):
        await places.acquire(5, lambda: 0.0)
    assert places.acquire_now()
    places.release()
    assert not places.contended


async def test_a_thread_may_ask_whether_anyone_waits_as_waiters_come_and_go() -> None:
    class Changing(dict[object, object]):
        """Has a waiter come between the first and the second look of who goes through all."""

        def __iter__(self) -> Iterator[object]:
            waiters = super().__iter__()
            self[object()] = None
            return waiters

    places = PrioritySemaphore(1, lambda: None)
    await places.acquire(5, lambda: 0.0)
    waiting = asyncio.create_task(places.acquire(5, lambda: 1.0))
    await asyncio.sleep(0)
    places._waiters = Changing(places._waiters)  # type: ignore[arg-type, assignment]
    assert await asyncio.to_thread(lambda: places.contended)
    waiting.cancel()
    await asyncio.wait([waiting])
