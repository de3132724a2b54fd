"""Tasks that are owned from beginning to end, a race of two, a wait for what is handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from greenroom.untrusted.exceptions import format_traceback
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

T = TypeVar("T")
U = TypeVar("U")


class Tasks:
    """Keeps the tasks it began until they are over, and reports one that failed."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called when a task begins and when one is over."""
        self._changed = changed
        self._running: set[asyncio.Task[Any]] = set()

    def begin(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run `coroutine` as a task; raises what keeps the loop from that, with nothing begun."""
        try:
            task = asyncio.create_task(coroutine, name=f"greenroom {name}")
        except BaseException:
            coroutine.close()
            raise
        self._running.add(task)
        task.add_done_callback(self._over)
        self._changed()
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._changed()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.critical("%s failed: %s", task.get_name(), format_traceback(error))

    async def end(self, limit: float) -> None:
        """Cancel all, and wait up to `limit` seconds until they are over."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=limit)
        for task in self._running:
            logger.error("%s is left behind: it does not end", task.get_name())


async def handed_over(waiter: asyncio.Future[T], limit: float, withdraw: Callable[[], None]) -> T:
    """Return what another hands over through `waiter`; raises `TimeoutError` after `limit` seconds.

    `withdraw` is called when the wait is cancelled or too long: it takes the waiter out of its line
    or, where something was handed over in that very step, gives it back.
    """
    try:
        # `wait` rather than `wait_for`: cancelling it does not cancel the waiter, which tells
        # `withdraw` whether it was handed something.
        done, _ = await asyncio.wait([waiter], timeout=limit)
    except asyncio.CancelledError:
        withdraw()
        raise
    if not done:
        withdraw()
        raise TimeoutError
    return waiter.result()


async def race(
    work: Coroutine[Any, Any, T], rival: Coroutine[Any, Any, U], *, name: str = "race"
) -> T | U:
    """Run two coroutines and return what the first to end returns, or raise what it raises.

    The other is cancelled, and has ended when this returns; what it returns or raises is dropped.
    When both end in the same step, `work` counts. Cancelling the race cancels both and waits for
    both. Neither wait has a limit: one that takes no notice of being cancelled holds up the race,
    until that is cancelled (again, if it was before); then what still runs is left to itself.
    """
    working = asyncio.create_task(work, name=f"greenroom-{name}")
    waiting = asyncio.create_task(rival, name=f"greenroom-{name}-rival")
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else waiting.result()
    finally:
        working.cancel()
        waiting.cancel()
        try:
            await asyncio.wait((working, waiting))
        finally:
            working.add_done_callback(_take_note)
            waiting.add_done_callback(_take_note)
            # A task keeps its error, and that this frame: without these they would be a cycle.
            del working, waiting


def _take_note(task: asyncio.Task[Any]) -> None:
    """Ask for a task's error, so that asyncio does not report that nobody did."""
    if not task.cancelled():
        task.exception()
