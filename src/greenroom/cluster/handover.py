"""What a task makes, handed over to an iterator as it is made: bounded, and ended with it.

To another process a few things together cost as much as one.
"""

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
    work: Callable[[Give[T]], Awaitable[None]], *, ahead: int = AHEAD, most: int = AHEAD
) -> AsyncGenerator[tuple[T, ...], None]:
    """Yield what `work` gives to the function that it is called with, in a task of its own.

    What was given meanwhile comes together, at most `most` at a time. Closing the iterator cancels
    the work and waits for its end. Raises what the work raises, once all that it gave before was
    taken.
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
        over = False
        while not over:
            given = [await made.get()]
            while not made.empty() and len(given) < most:
                given.append(made.get_nowait())
            over = not given[-1]
            together = tuple(item for each in given for item in each)
            for _ in together:
                room.release()
            if together:
                yield together
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # it was raised above, or nobody asks any more
