"""Messages of a call that follow one by one."""

from __future__ import annotations

import asyncio

from greenroom.cluster.pushed_text import PushedTexts
from tests.waiting import until


async def test_what_is_pushed_follows_what_was_there() -> None:
    texts = PushedTexts()
    with texts.open("x", (b"1",)) as messages:
        assert await texts.push("x", (b"2", b"3"), last=False)
        assert not await texts.push("x", (b"4",), last=True)
        assert [message async for message in messages] == [b"1", b"2", b"3", b"4"]


async def test_a_call_without_an_id_is_whole() -> None:
    with PushedTexts().open("", (b"1", b"2")) as messages:
        assert [message async for message in messages] == [b"1", b"2"]


async def test_who_takes_waits_for_who_pushes() -> None:
    texts = PushedTexts()
    with texts.open("x", ()) as messages:
        taking = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        assert not taking.done()
        await texts.push("x", (b"1",), last=False)
        assert await taking == b"1"


async def test_who_pushes_waits_while_nothing_is_taken() -> None:
    texts = PushedTexts()
    with texts.open("x", tuple(b"%d" % n for n in range(64))) as messages:
        pushing = asyncio.ensure_future(texts.push("x", (b"last",), last=False))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not pushing.done()
        await anext(messages)
        assert await pushing


async def test_a_call_that_is_over_keeps_nobody_waiting_and_wants_no_more() -> None:
    texts = PushedTexts()
    with texts.open("x", tuple(b"%d" % n for n in range(64))):
        pushing = asyncio.ensure_future(texts.push("x", (b"last",), last=False))
        await asyncio.sleep(0)
    await until(pushing.done)
    assert not pushing.result()
    assert not await texts.push("x", (b"more",), last=False)
    assert len(texts) == 0
