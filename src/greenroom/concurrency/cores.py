"""The processor's cores as places to compute in: whoever computes has one, idle ones are lent.

More threads than cores that compute at once do no more; each takes longer, and the one whose audio
is due first waits for all of them. So there is one count for the whole process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


def cores() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Cores:
    """Counts who computes. All methods may be called from any thread, and none of them waits."""

    def __init__(self, count: Callable[[], int] = cores) -> None:
        """`count` is asked each time: cores may be taken away from a process, and given back."""
        self._count = count
        # Taking is a read and a write, between which another thread may come.
        self._lock = threading.Lock()
        self._taken = 0
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def count(self) -> int:
        """How many there are, at least one."""
        return max(1, self._count())

    @property
    def idle(self) -> int:
        """How many nobody computes on."""
        return max(0, self.count - self._taken)

    def take(self) -> bool:
        """Take a core; false if there is none."""
        count = self.count
        with self._lock:
            if self._taken >= count:
                return False
            self._taken += 1
            return True

    def borrow(self) -> bool:
        """Take a core that nobody waits for, to help along what runs already; false if none is."""
        count = self.count
        with self._lock:
            if self._waiting or self._taken >= count:
                return False
            self._taken += 1
            return True

    def give_back(self) -> bool:
        """Give back a core that was taken or borrowed, and tell those who wait for one.

        Returns whether anyone does.
        """
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
