"""What an engine may know of its listener while it makes the next chunk.

An engine that can make small chunks soon and large ones cheaply asks `current_pace()` in the thread
that was called: a listener who hears nothing yet, or has little left to hear, is served soonest by
a small one; one who has seconds left costs least with a large one.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace


def _not_counted(_: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Pace:
    """How urgent the next chunk is."""

    ahead_s: float | None = None
    """Seconds of audio that the listener has left to hear; `None` before the first."""
    sharers: float = 1.0
    """How many streams there are for each core, at least 1: what a chunk costs, each must make good
    within the audio of one chunk."""
    spare_s: float = math.inf
    """Seconds that the chunk may take before another listener falls silent."""
    count_help: Callable[[float], object] = _not_counted
    """Takes the seconds that other threads computed for the chunk, from any of them: what speech
    costs is learned from those as well."""
    is_full: bool = True
    """Whether every core computes as the chunk is begun."""


_ALONE = Pace()
_local = threading.local()


class Asking:
    """What an engine asked and said while it made a chunk."""

    __slots__ = ("_began", "_clock", "_pace", "has_asked", "is_helpable", "is_last", "processor_s")

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self._pace = pace
        self._clock = clock
        self._began = clock()
        self.has_asked = False
        """Whether it asked how urgent the chunk is."""
        self.is_last = False
        """Whether it said that the chunk is the last of the text."""
        self.is_helpable = False
        """Whether it said that it could use another core for the next chunk of the text."""
        self.processor_s = 0.0
        """Seconds of a processor that it took elsewhere than in the thread that was called."""

    def now(self) -> Pace:
        """Return the pace by now: what the engine did first, as with the text, took of the time."""
        passed_s = self._clock() - self._began
        ahead_s = self._pace.ahead_s
        return replace(
            self._pace,
            ahead_s=None if ahead_s is None else max(0.0, ahead_s - passed_s),
            spare_s=max(0.0, self._pace.spare_s - passed_s),
        )


def current_pace() -> Pace:
    """Return the pace of the stream that this thread speaks for; outside of any, of a lone one."""
    asking: Asking | None = getattr(_local, "asking", None)
    if asking is None:
        return _ALONE
    asking.has_asked = True
    return asking.now()


def given_pace() -> Pace:
    """Return what `current_pace` returns, on behalf of an engine that may ask for it or not."""
    asking: Asking | None = getattr(_local, "asking", None)
    return _ALONE if asking is None else asking.now()


def count_processor(seconds: float) -> None:
    """Count processor time that the chunk took in another process."""
    asking: Asking | None = getattr(_local, "asking", None)
    if asking is not None:
        asking.processor_s += seconds


def mark_last(is_last: bool = True) -> None:
    """Say whether the chunk that this thread makes is the last of its text.

    Then the sentence ends at once, without waiting for a core once more only to find that out.
    """
    asking: Asking | None = getattr(_local, "asking", None)
    if asking is not None:
        asking.is_last = bool(is_last)  # numpy's is no bool, and crosses to no other process


def mark_helpable(is_helpable: bool) -> None:
    """Say whether the next chunk of the text that this thread speaks could use another core.

    An engine in a process of its own is lent one with the call then, if one is idle, and need not
    ask for it.
    """
    asking: Asking | None = getattr(_local, "asking", None)
    if asking is not None:
        asking.is_helpable = bool(is_helpable)


@contextlib.contextmanager
def paced(pace: Pace, clock: Callable[[], float] = time.perf_counter) -> Iterator[Asking]:
    """Have `current_pace` return `pace`, less the time that passes, inside the block; here only.

    That is in this thread. `clock` tells the time in seconds.
    """
    before: Asking | None = getattr(_local, "asking", None)
    _local.asking = asking = Asking(pace, clock)
    try:
        yield asking
    finally:
        _local.asking = before
