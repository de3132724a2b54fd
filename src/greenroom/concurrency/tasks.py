"""The tasks of one manager: owned from begin to end, and ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from greenroom.untrusted.exceptions import trace
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

T = TypeVar("T")


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
            logger.critical("%s failed: %s", task.get_name(), trace(error))

    async def end(self, limit: float) -> None:
        """Cancel all, and wait up to `limit` seconds until they are over."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=limit)
        for task in self._running:
            logger.error("%s is left behind: it does not end", task.get_name())
