"""A semaphore of strict order that says when its holders keep others waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class FifoSemaphore:
    """At most `size` holders at once, first come first served; no limit where `size` is `None`.

    Unlike `asyncio.Semaphore` it can be tried without waiting, and it calls back when a caller
    begins to wait.
    """

    def __init__(self, size: int | None, on_wait: Callable[[], None]) -> None:
        """`on_wait` is called when a caller begins to wait."""
        self._free = size
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._on_wait = on_wait

    @property
    def contended(self) -> bool:
        """Whether a caller waits."""
        return any(not waiter.done() for waiter in self._waiters)

    def acquire_now(self) -> bool:
        """Acquire without waiting; false if all is taken, or others waited first."""
        if self._free is None:
            return True
        if not self._free or self._waiters:
            return False
        self._free -= 1
        return True

    async def acquire(self, limit: float) -> None:
        """Acquire in order of arrival; raises `TimeoutError` after `limit` seconds.

        Nothing is taken by an `acquire` that is cancelled or times out.
        """
        if self.acquire_now():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._on_wait()
        try:
            # `wait` rather than `wait_for`: cancelling it does not cancel the waiter, which tells
            # below whether the place had been handed over already.
            done, _ = await asyncio.wait([waiter], timeout=limit)
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        if not done:
            self._withdraw(waiter)
            raise TimeoutError

    def _withdraw(self, waiter: asyncio.Future[None]) -> None:
        if waiter.done():  # it was handed a place in the very step in which it was cancelled
            self.release()
        else:
            self._waiters.remove(waiter)

    def release(self) -> None:
        """Hand the place to the first waiter, or keep it free.

        Handed over directly, it is never free in between: no later caller can get ahead.
        """
        if self._free is None:
            return
        if self._waiters:
            self._waiters.popleft().set_result(None)
        else:
            self._free += 1
