"""A limit for each of many waits that follow one another, with one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class StallTimeout:
    """An `async with` block that ends with `TimeoutError` when one `wait` in it takes too long.

    `asyncio.timeout` around each wait would set a timer for each and take it back, though nearly
    all are over at once. Here a timer that fires looks for how long the present wait has lasted,
    and is set anew for what is left of it.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long each wait may take."""
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._block: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits_since: float | None = None

    async def __aenter__(self) -> Self:
        self._block = await asyncio.timeout(None).__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        block, self._block = self._block, None
        assert block is not None
        try:
            await block.__aexit__(kind, error, at)
        finally:
            # It knows its task, which keeps its error, and that this frame: they would be a cycle.
            del block, error, at

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Return what `awaitable` returns; it is cancelled, and the block with it, when it is late.

        One at a time, in the task that entered the block.
        """
        self._waits_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)
        try:
            return await awaitable
        finally:
            self._waits_since = None

    def _look(self) -> None:
        self._timer = None
        if self._waits_since is None or self._block is None:
            return
        late_at = self._waits_since + self._seconds
        if late_at > self._loop.time():
            self._timer = self._loop.call_at(late_at, self._look)
        else:
            self._block.reschedule(late_at)
