"""What an engine may know of its listener while it makes the next chunk.

An engine that can make small chunks soon and large ones cheaply asks `current_pace()` in the thread
that was called: a listener who hears nothing yet, or has little left to hear, is served soonest by
a small one; one who has seconds left costs least with a large one.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass


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


_ALONE = Pace()
_local = threading.local()


def current_pace() -> Pace:
    """Return the pace of the stream that this thread speaks for; outside of any, of a lone one."""
    pace: Pace = getattr(_local, "pace", _ALONE)
    return pace


@contextlib.contextmanager
def paced(pace: Pace) -> Iterator[None]:
    """Have `current_pace` return `pace` inside the block, in this thread."""
    before = current_pace()
    _local.pace = pace
    try:
        yield
    finally:
        _local.pace = before
