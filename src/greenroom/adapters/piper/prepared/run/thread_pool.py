"""Threads that decode pieces ahead, as long as there are more cores than speakers."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Crew:
    """A pool of as many threads as there are cores, shared by all who speak.

    One speaker alone gets all of them: its next audio comes soonest. As soon as there are as many
    speakers as cores, each works in its own thread: nothing is handed over, most is done.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._speakers = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="greenroom-decode")

    @contextlib.contextmanager
    def speaking(self) -> Iterator[Callable[[], int]]:
        """Count as a speaker who works now; yields how many pieces it may have under way."""
        with self._lock:
            self._speakers += 1
        try:
            yield lambda: max(1, self.cores // self._speakers)
        finally:
            with self._lock:
                self._speakers -= 1

    @property
    def has_room(self) -> bool:
        """Whether fewer than all cores have a speaker."""
        return self._speakers < self.cores

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have a thread of the crew do it."""
        return self._pool.submit(call, *arguments)


def cores() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


CREW = Crew(cores())
"""That of this process."""
