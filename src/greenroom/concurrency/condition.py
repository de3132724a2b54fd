"""A condition and a timer of the event loop, without locks: all is used from that loop only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Condition:
    """Wakes tasks that wait for a condition to hold, whenever something has changed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify_all(self) -> None:
        """Have each waiting task look again whether its condition holds."""
        self._changed.set()

    async def wait_for(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until `condition` holds; return whether it did within `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    # After the look and without an await between: no change can be missed.
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True


class Timer:
    """Calls back at the earliest moment it was set for since it last did."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, due: float) -> None:
        """Ring at `due`, a moment of the loop's time, unless it rings before that."""
        if self._handle is not None:
            if self._handle.when() <= due:
                return
            self._handle.cancel()
        self._handle = asyncio.get_running_loop().call_at(due, self._rings)

    def cancel(self) -> None:
        """Ring no more, until it is set again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _rings(self) -> None:
        self._handle = None
        self._ring()
