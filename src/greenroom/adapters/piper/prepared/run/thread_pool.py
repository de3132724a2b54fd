"""A thread pool that decodes pieces ahead, each on a core that was idle and is borrowed for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from greenroom.concurrency.cores import CORES, Cores
from greenroom.speech.pace import Pace

T = TypeVar("T")

_SECOND_SHARE = 0.5
"""Of a run with two threads, for how much of its time the second one computes: measured 0.45."""

_MOST_THREADS = 1024
"""More than any process is given cores."""


class DecodePool:
    """Threads for pieces that are decoded beside the thread of their stream.

    A stream whose listener waits goes first: a core is borrowed only while nobody waits for one.
    So one stream alone has them all, and with as many streams as cores each decodes in its own
    thread: nothing is handed over, most is done.
    """

    def __init__(self, cores: Cores, *, threads: int = _MOST_THREADS) -> None:
        self.cores = cores
        # Threads start as they are needed, and each call has a core, so there are never more of
        # them than cores.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="greenroom-decode")

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T] | None:
        """Call in a thread of the pool; `None` if no core is idle or no thread can be started."""
        if not self.cores.borrow():
            return None
        called: Future[T] = Future()
        try:
            self._pool.submit(self._run, called, call, arguments)
        except RuntimeError:  # the system starts no more threads, or the interpreter ends
            # The pool may have kept the call for a thread that it has.
            return None if self.cancel(called) else called
        return called

    @contextlib.contextmanager
    def second_core(self, pace: Pace, *, wanted: bool = True) -> Iterator[bool]:
        """Borrow a core inside the block, for a run with two threads; yields whether there is one.

        What the second thread computes is counted as help: about half of the time.
        """
        if not wanted or not self.cores.borrow():
            yield False
            return
        began = time.perf_counter()
        try:
            yield True
        finally:
            self.cores.give_back()
            pace.count_help(_SECOND_SHARE * (time.perf_counter() - began))

    def cancel(self, called: Future[Any]) -> bool:
        """Take back what was submitted, once; false if it has begun."""
        taken_back = called.cancel()
        if taken_back:
            self.cores.give_back()
        return taken_back

    def _run(self, called: Future[T], call: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        if not called.set_running_or_notify_cancel():
            return
        try:
            try:
                result = call(*arguments)
            finally:
                self.cores.give_back()  # before anyone can know that it is done
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            called.set_exception(error)
            del called  # the error's traceback has this frame, which would keep both alive
        else:
            called.set_result(result)


DECODE_POOL = DecodePool(CORES)
"""The one of this process."""
