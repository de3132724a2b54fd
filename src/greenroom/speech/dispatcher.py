"""Gives cores to the steps of streams, in the scheduler's order: as many run as there are cores."""

from __future__ import annotations

import asyncio
import contextlib
import math

from greenroom.concurrency.condition import Timer
from greenroom.concurrency.cores import CORES, Cores
from greenroom.concurrency.tasks import handed_over
from greenroom.speech.scheduler import Scheduler, StreamState

_OVERDUE_S = 1.0
_OVERDUE_TIMES = 4.0
"""A step that takes longer than a second, and four times what such steps take, is overdue: its core
is lent to others while it runs on. So one that hangs, or waits for a network, keeps nobody waiting
until it is abandoned."""

_LINE_S = 0.1
"""How often the line of those who wait to begin is looked at, besides whenever a stream ends."""


class Place:
    """The right of one step to compute, from when it begins until `Dispatcher.leave`."""

    __slots__ = ("due", "has_core", "is_prefetch", "stream")

    def __init__(self, stream: StreamState, begun: float, *, is_prefetch: bool = False) -> None:
        self.stream = stream
        self.is_prefetch = is_prefetch
        """Whether it begins the stream's next sentence, perhaps beside a step of the present."""
        takes = stream.cost.first_s if is_prefetch else stream.next_step_s
        # One sum for the timer and the look: else rounding may have the one never reach the other.
        self.due = begun + max(_OVERDUE_S, _OVERDUE_TIMES * takes)
        """When it is overdue, so that its core may be lent to others."""
        self.has_core = True


class Dispatcher:
    """The steps of one manager's streams; all methods on its event loop."""

    def __init__(self, cores: Cores = CORES) -> None:
        self.scheduler = Scheduler()
        self.cores = cores
        self._ready: dict[asyncio.Future[Place], StreamState] = {}
        """Steps that wait for a core, in the order of arrival."""
        self._line: dict[asyncio.Future[None], StreamState] = {}
        """Streams that wait to begin, in the order of arrival."""
        self._running: set[Place] = set()
        self._gives_way = False
        """Whether others in the process who waited for the core that was given back go first."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer = Timer(self._dispatch)
        """Rings when a step that runs is overdue."""
        self._line_timer: asyncio.TimerHandle | None = None

    # Streams

    async def begin(self, stream: StreamState, limit: float) -> None:
        """Wait until one more stream can be kept up; raises `TimeoutError` after `limit` seconds.

        With a limit of 0 it does not wait. First come, first served, where the scheduler lets none
        pass. Each `begin` that returns is
        followed by one `end`.
        """
        loop = self._loop = asyncio.get_running_loop()
        line = (*self._line.values(), stream)
        if self.scheduler.next_to_begin(line, self.cores.count, loop.time()) is stream:
            self.scheduler.enter(stream)
            return
        if limit <= 0.0:
            raise TimeoutError
        waiter: asyncio.Future[None] = loop.create_future()
        self._line[waiter] = stream
        self._look_at_line_later()
        await handed_over(waiter, limit, lambda: self._leave_line(waiter, stream))

    def _leave_line(self, waiter: asyncio.Future[None], stream: StreamState) -> None:
        if self._line.pop(waiter, None) is None:  # it had begun in this very step
            self.end(stream)

    def end(self, stream: StreamState) -> None:
        """Count a stream no longer: it is made to its end, or nobody wants it any more."""
        self.scheduler.leave(stream)
        self.look_at_line()
        if self._loop is not None:
            self._dispatch()  # a core may have been kept for it

    def look_at_line(self) -> None:
        """Let those begin that can be kept up, in the scheduler's order."""
        while self._line and self._loop is not None:
            line, now = self._line.values(), self._loop.time()
            stream = self.scheduler.next_to_begin(line, self.cores.count, now)
            if stream is None:
                self._look_at_line_later()
                return
            waiter = next(each for each, waits in self._line.items() if waits is stream)
            del self._line[waiter]
            self.scheduler.enter(stream)
            waiter.set_result(None)

    def _look_at_line_later(self) -> None:
        if self._line_timer is None and self._loop is not None:
            self._line_timer = self._loop.call_later(_LINE_S, self._line_is_due)

    def _line_is_due(self) -> None:
        self._line_timer = None
        self.look_at_line()

    def may_be_heard(self, stream: StreamState, made_s: float) -> bool:
        """Whether `made_s` seconds of audio last until more is made, beside all other streams."""
        if self._loop is None:
            return True
        return self.scheduler.may_be_heard(stream, made_s, self.cores.count, self._loop.time())

    def sharers(self, stream: StreamState) -> float:
        """Return how many streams there are for each core, at least 1; may be asked in any thread.

        For a stream that is heard those count that are: the others can wait.
        """
        return max(1.0, self.scheduler.sharers(stream) / self.cores.count)

    def spare_s(self, stream: StreamState) -> float:
        """Return how many seconds a step of `stream` may take before another falls silent."""
        if self._loop is None or len(self.scheduler.streams) < 2:
            return math.inf
        spare = self.scheduler.slack(self.cores.count, self._loop.time(), but=stream)
        return max(0.0, spare)

    @property
    def is_contended(self) -> bool:
        """Whether a step waits for a core; may be asked from any thread."""
        return bool(self._ready)

    def why_silent(self) -> str:
        """Return what the cores had to do, as the reason of a gap."""
        streams, cores = len(self.scheduler.streams), self.cores.count
        return f"{streams} streams need {self.used:.0%} of what {cores} cores can do"

    @property
    def used(self) -> float:
        """The share of the cores that all who speak need to be kept up; above 1 it is too much."""
        return self.scheduler.used(self.cores.count)

    @property
    def retry_after(self) -> float:
        """In how many seconds one of those that speak has been made, at the latest."""
        return self.scheduler.retry_after(0.0 if self._loop is None else self._loop.time())

    @property
    def waiting(self) -> int:
        """How many streams wait to begin."""
        return len(self._line)

    # Steps

    async def enter(self, stream: StreamState, limit: float) -> Place:
        """Wait for a core, in the scheduler's order; raises `TimeoutError` after `limit` seconds.

        Nothing is taken by an `enter` that is cancelled or times out.
        """
        loop = self._loop = asyncio.get_running_loop()
        others_first = bool(self._ready) or self._gives_way
        may_run = not others_first and self.scheduler.may_run(stream, self.cores.count)
        if may_run and self.cores.take():
            return self._granted(stream, loop.time())
        waiter: asyncio.Future[Place] = loop.create_future()
        self._ready[waiter] = stream
        self._dispatch()
        return await handed_over(waiter, limit, lambda: self._withdraw(waiter))

    def borrow(self, stream: StreamState) -> Place | None:
        """Take a core that nobody waits for, to begin the next sentence of `stream`, if one is.

        Followed by one `leave`, as `enter` is.
        """
        if not self.cores.borrow():
            return None
        loop = self._loop = asyncio.get_running_loop()
        place = Place(stream, loop.time(), is_prefetch=True)
        self._running.add(place)
        return place

    def _granted(self, stream: StreamState, now: float) -> Place:
        place = Place(stream, now)
        stream.running_since = now
        self._running.add(place)
        return place

    def _withdraw(self, waiter: asyncio.Future[Place]) -> None:
        if self._ready.pop(waiter, None) is None:  # a core was handed over in this very step
            self.leave(waiter.result())
        elif not self._ready:
            self.cores.wait_no_more(self._freed)

    def leave(self, place: Place) -> None:
        """Give the core of a step back; once for each `enter` and each `borrow`."""
        assert self._loop is not None
        if not place.is_prefetch:
            place.stream.running_since = None
            place.stream.served = self._loop.time()
        self._running.discard(place)
        if not place.has_core:
            place.stream.cost.overdue -= 1
        elif self._give_back(place) and not self._gives_way:
            # Another manager's steps wait as well: they would never have a core if those of this
            # one, which are told of it at once, always took it.
            self._gives_way = True
            self._loop.call_soon(self._dispatch_after_others)
        self._dispatch()

    def _give_back(self, place: Place) -> bool:
        place.has_core = False
        self.cores.wait_no_more(self._freed)  # the dispatch that follows needs no telling
        return self.cores.give_back()

    def _dispatch_after_others(self) -> None:
        self._gives_way = False
        self._dispatch()

    def _freed(self) -> None:
        """Look again; called in any thread, perhaps after the loop."""
        with contextlib.suppress(RuntimeError):
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._dispatch)

    def _dispatch(self) -> None:
        """Give what cores there are to the most urgent steps."""
        assert self._loop is not None
        now = self._loop.time()
        while self._ready and not self._gives_way:
            if not self._take_or_be_told(now):
                return
            chosen = self.scheduler.next(list(self._ready.values()), self.cores.count, now)
            if chosen is None:  # those that wait take long, and one core is kept from them
                self.cores.give_back()
                if self._lend_overdue(now):
                    continue
                return
            waiter = next(each for each, stream in self._ready.items() if stream is chosen)
            del self._ready[waiter]
            waiter.set_result(self._granted(chosen, now))

    def _take_or_be_told(self, now: float) -> bool:
        """Take a core, or be told when one is given back, or when a step that runs is overdue."""
        if self.cores.take():
            return True
        self.cores.wait(self._freed)
        if self.cores.take():  # a thread gave one back in between, and told nobody
            self.cores.wait_no_more(self._freed)
            return True
        self._lend_overdue(now)
        return False

    def _lend_overdue(self, now: float) -> bool:
        """Lend the cores of steps that are overdue, and look again when the next one is.

        Returns whether there were any.
        """
        overdue = [each for each in self._running if each.has_core and now >= each.due]
        for place in overdue:
            self._lend(place)
        due = min((p.due for p in self._running if p.has_core), default=None)
        if due is not None:
            self._timer.set(due)
        return bool(overdue)

    def _lend(self, place: Place) -> None:
        """Give the core of an overdue step to those who wait."""
        place.has_core = False
        if not place.is_prefetch:
            place.stream.running_since = None
        place.stream.cost.overdue += 1
        self.cores.give_back()
