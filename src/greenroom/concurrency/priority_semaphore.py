"""A semaphore whose next holder is the most urgent waiter, and that says when others wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from greenroom.concurrency.tasks import handed_over

Urgency = Callable[[], float]
"""Returns when a waiter needs its place: the smaller, the more urgent; asked at each hand-over."""


class PrioritySemaphore:
    """At most `size` holders at once, the most urgent next; no limit where `size` is `None`.

    Among the equally urgent the first that came is first. Unlike `asyncio.Semaphore` it can be
    tried without waiting, and it calls back when a caller begins to wait.
    """

    def __init__(self, size: int | None, on_wait: Callable[[], None]) -> None:
        """`on_wait` is called when a caller begins to wait."""
        self._free = size
        self._waiters: dict[asyncio.Future[None], Urgency] = {}
        """In the order of arrival."""
        self._on_wait = on_wait

    @property
    def contended(self) -> bool:
        """Whether a caller waits; may be asked from any thread."""
        return bool(self._waiters)

    @property
    def most_urgent(self) -> float | None:
        """The urgency of the most urgent waiter; `None` when nobody waits."""
        return min((urgency() for urgency in self._waiters.values()), default=None)

    def acquire_now(self) -> bool:
        """Acquire without waiting; false if all is taken, or others waited first."""
        if self._free is None:
            return True
        if not self._free or self._waiters:
            return False
        self._free -= 1
        return True

    async def acquire(self, limit: float, urgency: Urgency) -> None:
        """Acquire in order of urgency; raises `TimeoutError` after `limit` seconds.

        Nothing is taken by an `acquire` that is cancelled or times out.
        """
        if self.acquire_now():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = urgency
        self._on_wait()
        await handed_over(waiter, limit, lambda: self._withdraw(waiter))

    def _withdraw(self, waiter: asyncio.Future[None]) -> None:
        if waiter.done():  # it was handed a place in the very step in which it was cancelled
            self.release()
        else:
            del self._waiters[waiter]

    def release(self) -> None:
        """Hand the place to the most urgent waiter, or keep it free.

        Handed over directly, it is never free in between: no later caller can get ahead.
        """
        if self._free is None:
            return
        if self._waiters:
            chosen = min(self._waiters, key=lambda waiter: self._waiters[waiter]())
            del self._waiters[chosen]
            chosen.set_result(None)
        else:
            self._free += 1
