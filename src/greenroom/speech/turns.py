"""Turns inside an engine: so many sentences at once, first come first served.

A turn lasts from the first step of a sentence to its end, so that an engine made for one sentence
at a time never sees the steps of two. Whoever holds one is told when somebody waits, and then
finishes its sentence without waiting for its listener.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """The turns of one model; `size` is `None` where any number may be taken."""

    def __init__(self, size: int | None, wanted: Callable[[], None]) -> None:
        """`wanted` is called when somebody begins to wait."""
        self._free = size
        self._line: deque[asyncio.Future[None]] = deque()
        self._wanted = wanted

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a turn."""
        return any(not waiter.done() for waiter in self._line)

    def take_now(self) -> bool:
        """Take a turn if one is free that nobody waits for; whether there was one."""
        if self._free is None:
            return True
        if not self._free or self._line:
            return False
        self._free -= 1
        return True

    async def take(self, limit: float) -> None:
        """Take a turn; raises `TimeoutError` when none comes within `limit` seconds."""
        if self.take_now():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(waiter)
        self._wanted()
        try:
            done, _ = await asyncio.wait([waiter], timeout=limit)
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise
        if not done:
            self._give_up(waiter)
            raise TimeoutError

    def _give_up(self, waiter: asyncio.Future[None]) -> None:
        """Leave the line; a turn that was handed over in the same step goes to the next."""
        if waiter.done():
            self.give_back()
        else:
            self._line.remove(waiter)

    def give_back(self) -> None:
        """Hand a turn to the first in the line, or keep it free."""
        if self._free is None:
            return
        if self._line:
            self._line.popleft().set_result(None)
        else:
            self._free += 1
