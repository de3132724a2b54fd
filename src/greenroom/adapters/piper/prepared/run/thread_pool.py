"""A thread pool that decodes pieces ahead, while there are more cores than streams that speak."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from greenroom.concurrency.cores import cores

T = TypeVar("T")


class DecodePool:
    """As many threads as there are cores, shared by all streams that speak.

    One stream alone gets all of them: its next audio comes soonest. As soon as there are as many
    streams as cores, each decodes in its own thread: nothing is handed over, most is done.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._streams = 0
        # Adding is a read and a write, between which another thread may come. Reading takes no
        # lock: with a count that is a moment old a stream has a piece more or less under way.
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="greenroom-decode")

    @contextlib.contextmanager
    def working(self) -> Iterator[Callable[[], int]]:
        """Count as a stream that decodes now; yields how many pieces it may have under way."""
        with self._lock:
            self._streams += 1
        try:
            yield lambda: max(1, self.cores // self._streams)
        finally:
            with self._lock:
                self._streams -= 1

    @property
    def has_idle_cores(self) -> bool:
        """Whether fewer streams decode than there are cores."""
        return self._streams < self.cores

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Call in a thread of the pool."""
        return self._pool.submit(call, *arguments)


DECODE_POOL = DecodePool(cores())
"""The one of this process."""
