"""The processor's cores as places to compute in: whoever computes has one, idle ones are lent.

More threads than cores that compute at once do no more; each takes longer, and the one whose audio
is due first waits for all of them. So there is one count for the whole process.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from greenroom.concurrency.cpu_quota import cpu_quota


def cores() -> int:
    """Return on how many processors this process may compute at once, at least 1.

    As many as its affinity has, and no more than its control groups let it keep busy: their quota,
    rounded. Where that is 1.5 cores two threads are throttled for 25 ms of each 100 ms at most,
    which what is made ahead covers, and one wastes a third. Measured there with a prepared voice,
    two made 45 % more audio, with no gap and a sooner start; at 1.2 cores two won nothing.

    The first call in the life of the process reads files: a manager makes it off the loop, at its
    start.
    """
    affinity = hasattr(os, "sched_getaffinity")
    processors = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    quota = quota_of_process()
    return processors if math.isinf(quota) else max(1, min(processors, math.floor(quota + 0.5)))


@functools.cache
def quota_of_process() -> float:
    """Return the seconds that this process may compute each second, as read once in its life."""
    return cpu_quota()


class CoreLender(Protocol):
    """Another process, whose cores are shared with this one."""

    @property
    def idle(self) -> int:
        """How many could be borrowed, as far as this process was told."""

    def borrow(self) -> bool:
        """Lend a core if one is idle that nobody waits for."""

    def give_back(self) -> None:
        """Take it back."""

    def give_back_unused(self) -> None:
        """Take back what was lent for the call that this thread answers, and is not in use."""


class Loan:
    """A core that computes for this process in another one, until `Cores.end_loan`."""

    __slots__ = ("overdue_at",)

    def __init__(self, overdue_at: float) -> None:
        self.overdue_at = overdue_at
        """When others may have it, though nobody has given it back."""


class Cores:
    """Counts who computes. All methods may be called from any thread, and none of them waits."""

    def __init__(
        self, count: Callable[[], int] = cores, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`count` is asked each time: cores may be taken away from a process, and given back."""
        self._count = count
        self._clock = clock
        # Taking is a read and a write, between which another thread may come.
        self._lock = threading.Lock()
        self._lender: CoreLender | None = None
        self._taken = 0
        self._loans: set[Loan] = set()
        self._waiting: dict[Callable[[], None], None] = {}

    def defer_to(self, lender: CoreLender) -> None:
        """Have all cores counted by another process from now on: this one only borrows."""
        self._lender = lender

    @property
    def count(self) -> int:
        """How many there are, at least one."""
        return max(1, self._count())

    @property
    def idle(self) -> int:
        """How many nobody computes on."""
        if self._lender is not None:
            return self._lender.idle
        return max(0, self.count - self._taken)

    @property
    def lendable(self) -> int:
        """How many nobody computes on or waits for."""
        return 0 if self._waiting else self.idle

    def take(self) -> bool:
        """Take a core; false if there is none."""
        count = self.count
        with self._lock:
            if not self._has_idle(count):
                return False
            self._taken += 1
            return True

    def _has_idle(self, count: int) -> bool:
        """Whether there is a core to take; takes back the loans that are overdue for it."""
        if self._taken < count or not self._loans:
            return self._taken < count
        now = self._clock()
        overdue = [loan for loan in self._loans if loan.overdue_at <= now]
        self._loans.difference_update(overdue)
        self._taken -= len(overdue)
        return self._taken < count

    def borrow(self) -> bool:
        """Take a core that nobody waits for, to help along what runs already; false if none is."""
        if self._lender is not None:
            return self._lender.borrow()
        count = self.count
        with self._lock:
            if self._waiting or not self._has_idle(count):
                return False
            self._taken += 1
            return True

    def lend(self, limit: float) -> Loan | None:
        """Lend another process a core that nobody waits for; `None` if there is none.

        It is followed by one `end_loan`. After `limit` seconds it goes to whoever asks for a core,
        like that of a step that hangs.
        """
        if not self.borrow():
            return None
        loan = Loan(self._clock() + limit)
        with self._lock:
            self._loans.add(loan)
        return loan

    def end_loan(self, loan: Loan) -> None:
        """Take back what was lent, unless others have it already."""
        with self._lock:
            if loan not in self._loans:
                return
            self._loans.remove(loan)
        self.give_back()

    def give_back_unused(self) -> None:
        """Give back, now, what another process has lent for a call and the engine does not use.

        To be called as soon as it will not; at the end of the call it is given back anyhow. In the
        process that counts the cores there is none.
        """
        if self._lender is not None:
            self._lender.give_back_unused()

    def give_back(self) -> bool:
        """Give back a core that was taken or borrowed, and tell those who wait for one.

        Returns whether anyone does.
        """
        if self._lender is not None:
            self._lender.give_back()
            return False
        with self._lock:
            self._taken -= 1
            waiting, self._waiting = self._waiting, {}
        for freed in waiting:
            freed()
        return bool(waiting)

    def wait(self, freed: Callable[[], None]) -> None:
        """Have `freed` called once, in any thread, when a core is given back.

        Until then nobody borrows one.
        """
        with self._lock:
            self._waiting[freed] = None

    def wait_no_more(self, freed: Callable[[], None]) -> None:
        """Take back a `wait`."""
        with self._lock:
            self._waiting.pop(freed, None)


CORES = Cores()
"""The ones of this process."""
