"""What a task makes, handed over as it is made."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from greenroom.cluster.handover import Give, made_by
from tests.waiting import until


async def test_what_is_given_comes_in_order_then_the_work_is_over() -> None:
    async def count(give: Give[int]) -> None:
        for number in range(20):
            await give(number)

    batches = [numbers async for numbers in made_by(count)]
    assert [number for numbers in batches for number in numbers] == list(range(20))


async def test_the_work_waits_for_who_takes() -> None:
    given: list[int] = []

    async def count(give: Give[int]) -> None:
        for number in range(20):
            await give(number)
            given.append(number)

    async with contextlib.aclosing(made_by(count, ahead=3, most=1)) as numbers:
        assert await anext(numbers) == (0,)
        await until(lambda: len(given) == 4)
        for _ in range(20):
            await asyncio.sleep(0)
        assert given == [0, 1, 2, 3]


async def test_what_was_made_meanwhile_comes_together_in_bounds() -> None:
    async def count(give: Give[int]) -> None:
        for number in range(7):
            await give(number)

    async with contextlib.aclosing(made_by(count, ahead=7, most=3)) as numbers:
        assert len(await anext(numbers)) <= 3
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(await anext(numbers)) == 3


async def test_an_error_follows_what_was_given_before() -> None:
    async def fail(give: Give[int]) -> None:
        await give(1)
        raise LookupError("no more")

    numbers = made_by(fail)
    assert await anext(numbers) == (1,)
    with pytest.raises(LookupError, match="no more"):
        await anext(numbers)


async def test_who_stops_taking_ends_the_work_and_waits_for_its_end() -> None:
    ended: list[str] = []

    async def go_on(give: Give[int]) -> None:
        try:
            while True:
                await give(1)
        finally:
            await asyncio.sleep(0)
            ended.append("yes")

    async with contextlib.aclosing(made_by(go_on)) as numbers:
        await anext(numbers)
    assert ended == ["yes"]
