"""What a task makes, handed over to an iterator as it is made: bounded, and ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

Give = Callable[[T], Awaitable[None]]
"""Hands over one thing; waits while as many as are allowed were not taken yet."""

AHEAD = 8
"""What may be made before it is taken."""


async def made_by(
    work: Callable[[Give[T]], Awaitable[None]], *, ahead: int = AHEAD
) -> AsyncGenerator[T, None]:
    """Yield what `work` gives to the function that it is called with, in a task of its own.

    Closing the iterator cancels the work and waits for its end. Raises what the work raises, once
    all that it gave before was taken.
    """
    made: asyncio.Queue[tuple[T, ...]] = asyncio.Queue()
    room = asyncio.Semaphore(ahead)

    async def give(item: T) -> None:
        await room.acquire()
        made.put_nowait((item,))

    async def run() -> None:
        await work(give)

    running = asyncio.create_task(run(), name="greenroom handover")
    # The end needs no room, and follows all that was given.
    running.add_done_callback(lambda _: made.put_nowait(()))
    try:
        while given := await made.get():
            room.release()
            yield given[0]
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # it was raised above, or nobody asks any more
