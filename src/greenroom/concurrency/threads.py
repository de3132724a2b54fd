"""Where engines run: named lanes of daemon threads that a hanging call cannot exhaust.

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

from greenroom.untrusted.exceptions import told

T = TypeVar("T")

_RETRY_S = 0.5
"""How soon what must run is tried again when no thread can be started."""

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]

_inside: deque[None] = deque()
"""One item for each call that is inside; a deque, so that the event loop waits for no lock."""


def calls_inside() -> int:
    """Return how many calls of all lanes have been started and have not delivered their outcome."""
    return len(_inside)


class OverdueError(TimeoutError):
    """A call outlasted its limit; `.call` is done when its thread has left it."""

    def __init__(self, call: asyncio.Future[Any]) -> None:
        self.call = call
        super().__init__("the call outlasted its limit")


class LaneBusyError(TimeoutError):
    """No place in a lane came free in time."""


class NoThreadError(RuntimeError):
    """The system starts no more threads."""


class Lane:
    """At most `size` calls at once, first come first served, each on a daemon thread.

    A call that outlasts its limit is written off: its place is given to the next caller and its
    thread ends when the call does.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._places = asyncio.Semaphore(size)
        self._resting: list[_Worker] = []
        self._started = 0

    async def run(
        self,
        call: Callable[[], T],
        *,
        limit: float | None = None,
        surely: bool = False,
        given_up: asyncio.Future[None] | None = None,
    ) -> T:
        """Run `call` when there is a place and return its result.

        Cancelling ends the wait for a place at once, but not a call that runs: then this returns
        when the call has ended. Raises `LaneBusyError` when no place comes free within `limit`
        seconds, `OverdueError` when the call itself takes longer than that or `given_up` is done
        before, and `NoThreadError` when there is no thread for it, unless it shall run `surely`.
        """
        try:
            async with asyncio.timeout(limit):
                await self._places.acquire()
        except TimeoutError:
            raise LaneBusyError(f"no thread of {self.name!r} came free in time") from None
        try:
            return await self._run(call, limit, given_up, surely=surely)
        finally:
            self._places.release()

    async def _run(
        self,
        call: Callable[[], T],
        limit: float | None,
        given_up: asyncio.Future[None] | None,
        *,
        surely: bool,
    ) -> T:
        submit = self.submit_surely if surely else self.submit
        return await to_end(submit(call), limit=limit, given_up=given_up)

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Start `call` now, whatever else runs; the future is done when its thread has left it.

        Raises `NoThreadError`.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._start(call, future)
        return future

    def submit_surely(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Start `call` now, or as soon as a thread is to be had: for what gives something back."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._start_surely(call, future)
        return future

    def _start_surely(self, call: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        if future.done():
            return
        try:
            self._start(call, future)
        except NoThreadError:
            future.get_loop().call_later(_RETRY_S, self._start_surely, call, future)

    def _start(self, call: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        worker = self._resting.pop() if self._resting else self._new_worker()
        _inside.append(None)
        worker.jobs.put((call, future))
        future.add_done_callback(lambda _: self._rest(worker))

    def _new_worker(self) -> _Worker:
        worker = _Worker(f"greenroom-{self.name}-{self._started + 1}")
        try:
            worker.start()
        except (RuntimeError, MemoryError, OSError) as error:
            raise NoThreadError(
                f"no thread can be started ({told(error)}); "
                "raise the limit of processes, or load fewer models"
            ) from None
        self._started += 1
        return worker

    def _rest(self, worker: _Worker) -> None:
        if len(self._resting) < self.size:
            self._resting.append(worker)
        else:
            worker.jobs.put(None)

    def close(self) -> None:
        """Let the resting threads end; those inside a call end with it."""
        self.size = 0
        while self._resting:
            self._resting.pop().jobs.put(None)


async def to_end(
    call: asyncio.Future[T],
    *,
    limit: float | None = None,
    given_up: asyncio.Future[None] | None = None,
    limit_when_cancelled: float | None = None,
) -> T:
    """Wait until a thread's `call` has ended, even when cancelled; return its result.

    A thread cannot be cancelled, and what it uses may not be freed under it. So a wait that is
    cancelled goes on until the call has ended, and only then raises `CancelledError`; the call's
    outcome is dropped.

    Raises what the call raises, and `OverdueError` when the call has not ended within `limit`
    seconds, or when `given_up` is done before it. Cancelling begins a limit anew:
    `limit_when_cancelled`, or else `limit`. A wait that is cancelled twice ends at once, with
    `OverdueError` as well if the call still runs: whoever owns what it uses has to know.
    """
    waited: list[asyncio.Future[Any]] = [call] if given_up is None else [call, given_up]
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
    """One thread: takes a job, delivers its outcome to the loop, keeps no reference to either."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            _do(*job)
            _inside.pop()
            del job


def _do(call: Callable[[], Any], future: asyncio.Future[Any]) -> None:
    outcome: Any = None
    error: BaseException | None = None
    try:
        outcome = call()
    except BaseException as raised:  # noqa: BLE001 - an engine may raise anything; the caller gets it
        error = _ordinary(raised)
    with contextlib.suppress(RuntimeError):  # the loop may have been closed meanwhile
        future.get_loop().call_soon_threadsafe(_deliver, future, outcome, error)
    del future, error  # the error's traceback holds this frame


def _ordinary(error: BaseException) -> BaseException:
    """Return an error that a future can carry and that ends no loop, such as `SystemExit` would."""
    kind = type(error)
    if issubclass(kind, Exception) and not issubclass(kind, StopIteration | StopAsyncIteration):
        return error
    return RuntimeError(f"the engine raised {told(error)}")


def _deliver(future: asyncio.Future[Any], outcome: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)
