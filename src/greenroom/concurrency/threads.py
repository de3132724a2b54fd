"""Where engines run: executors of daemon threads that a hanging call cannot exhaust.

The standard executor does not fit: its threads are joined at exit, so one hung engine would keep
the process from ending, and a hung call would hold its place in the pool for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from greenroom.untrusted.exceptions import describe_error

T = TypeVar("T")

_RETRY_S = 0.5
"""How soon a call that must run is tried again when no thread can be started."""

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]
_Delivery = list[tuple["asyncio.Future[Any]", Any, BaseException | None]]

_running: deque[None] = deque()
"""One item for each running call; a deque, as adding and removing take no lock, which the event
loop would have to wait for."""


def running_calls() -> int:
    """Return how many calls of all executors have begun and have not delivered their outcome."""
    return len(_running)


class OverdueError(TimeoutError):
    """A call outlasted its limit; `.call` is done when its thread has left it."""

    def __init__(self, call: asyncio.Future[Any]) -> None:
        self.call = call
        super().__init__("the call outlasted its limit")


class ExecutorBusyError(TimeoutError):
    """No thread of an executor came free in time."""


class NoThreadError(RuntimeError):
    """The system starts no more threads."""


class DaemonExecutor:
    """Runs at most `size` calls at once, in order of arrival, each on a daemon thread.

    A call that outlasts its limit is abandoned: its place is given to the next caller, and its
    thread ends when the call does. So there may be more threads than `size`, but no more than
    `size` whose callers wait.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._places = asyncio.Semaphore(size)
        self._idle: list[_Worker] = []
        self._started = 0

    async def run(
        self,
        call: Callable[[], T],
        *,
        limit: float | None = None,
        must_run: bool = False,
        abandoned: asyncio.Future[None] | None = None,
    ) -> T:
        """Run `call` when there is a place and return its result.

        Cancelling ends the wait for a place at once, but not a call that runs: then this returns
        when the call has ended, as `to_end` does. Raises `ExecutorBusyError` when no place comes
        free within `limit` seconds, `OverdueError` when the call itself takes longer than that or
        `abandoned` is done before, and `NoThreadError` when no thread can be started for it,
        unless it `must_run`: then that is tried until one can.
        """
        try:
            async with asyncio.timeout(limit):
                await self._places.acquire()
        except TimeoutError:
            raise ExecutorBusyError(f"no thread of {self.name!r} came free in time") from None
        try:
            return await to_end(
                self.submit(call, must_run=must_run), limit=limit, abandoned=abandoned
            )
        finally:
            # Also for a call that runs on, abandoned: else hung calls would use up all places.
            self._places.release()

    def submit(self, call: Callable[[], T], *, must_run: bool = False) -> asyncio.Future[T]:
        """Start `call` now, whatever else runs; the future is done when its thread has left it.

        Raises `NoThreadError` when no thread can be started, unless the call `must_run`, such as
        one that frees something: then that is tried until one can.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if must_run:
            self._start_or_retry(call, future)
        else:
            self._start(call, future)
        return future

    def _start_or_retry(self, call: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        if future.done():
            return
        try:
            self._start(call, future)
        except NoThreadError:
            future.get_loop().call_later(_RETRY_S, self._start_or_retry, call, future)

    def _start(self, call: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        worker = self._idle.pop() if self._idle else self._new_worker()
        _running.append(None)
        worker.jobs.put((call, future))
        future.add_done_callback(lambda _: self._keep_or_end(worker))

    def _new_worker(self) -> _Worker:
        worker = _Worker(f"greenroom-{self.name}-{self._started + 1}")
        try:
            worker.start()
        except (RuntimeError, MemoryError, OSError) as error:
            raise NoThreadError(
                f"no thread can be started ({describe_error(error)}); "
                "raise the limit of processes, or load fewer models"
            ) from None
        self._started += 1
        return worker

    def _keep_or_end(self, worker: _Worker) -> None:
        # After calls that were abandoned there may be more than `size`.
        if len(self._idle) < self.size:
            self._idle.append(worker)
        else:
            worker.jobs.put(None)

    def close(self) -> None:
        """Let the idle threads end; those inside a call end with it."""
        self.size = 0  # so that none is kept that comes back
        while self._idle:
            self._idle.pop().jobs.put(None)


async def to_end(
    call: asyncio.Future[T],
    *,
    limit: float | None = None,
    abandoned: asyncio.Future[None] | None = None,
    limit_when_cancelled: float | None = None,
) -> T:
    """Wait until a thread's `call` has ended, even when cancelled; return its result.

    A thread cannot be cancelled, and what it uses may not be freed under it. So a wait that is
    cancelled goes on until the call has ended, and only then raises `CancelledError`; the call's
    outcome is dropped.

    Raises what the call raises, and `OverdueError` when the call has not ended within `limit`
    seconds, or when `abandoned` is done before it. Cancelling begins a limit anew:
    `limit_when_cancelled`, or else `limit`. A wait that is cancelled twice ends at once, with
    `OverdueError` as well if the call still runs: whoever owns what it uses has to know.
    """
    waited: list[asyncio.Future[Any]] = [call] if abandoned is None else [call, abandoned]
    cancelled = False
    try:
        try:
            await asyncio.wait(waited, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            cancelled = True
            rest = limit if limit_when_cancelled is None else limit_when_cancelled
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(waited, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            raise OverdueError(call)
        if cancelled:
            if not call.cancelled():
                call.exception()  # asked for, so that asyncio does not report that nobody did
            raise asyncio.CancelledError
        return call.result()
    finally:
        # The call keeps its error, and that this frame: without these they would be a cycle.
        del call, waited


async def run_to_end(step: Callable[[], T]) -> T:
    """Run `step` in a thread of the event loop's default executor, to its end even when cancelled.

    For short steps that cannot hang: it has no limit, and the process waits for it at exit. As
    with `to_end`, cancelling goes on waiting, and cancelling twice ends the wait at once.
    """
    try:
        return await to_end(asyncio.ensure_future(asyncio.to_thread(step)))
    except OverdueError:  # without a limit, this comes of cancelling twice
        raise asyncio.CancelledError from None


class _Worker(threading.Thread):
    """One thread: takes calls one at a time, and delivers the outcome of each to its loop."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            call, future = job
            loop = future.get_loop()
            delivery: _Delivery = [(future, *_outcome_of(call))]
            # The loop may go on before this thread does. By then nothing here may refer to the
            # call, to its future or to its outcome: each keeps a model alive that is unloaded.
            del job, call, future
            with contextlib.suppress(RuntimeError):  # the loop may have been closed meanwhile
                loop.call_soon_threadsafe(_deliver, delivery)
            del loop, delivery
            # Last, so that whoever sees no running call finds all outcomes delivered.
            _running.pop()


def _outcome_of(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - an engine may raise anything; the caller gets it
        return None, _ordinary(error)


def _ordinary(error: BaseException) -> BaseException:
    """Return an error that a future can carry and that ends no loop, such as `SystemExit` would."""
    kind = type(error)
    if issubclass(kind, Exception) and not issubclass(kind, StopIteration | StopAsyncIteration):
        return error
    return RuntimeError(f"the engine raised {describe_error(error)}")


def _deliver(delivery: _Delivery) -> None:
    future, result, error = delivery.pop()  # so that the thread's list is empty from here on
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
