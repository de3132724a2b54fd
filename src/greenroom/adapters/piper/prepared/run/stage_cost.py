"""What a run of a stage costs on this machine, learned from the runs themselves."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial

_REMEMBERED = 8
"""Runs that count. A machine that becomes slower is noticed with the second slow run, one that
becomes faster after so many."""


class StageCost:
    """Seconds of a run as `frame_s * (frames + run_frames)`; any number of threads may use it.

    How much a run costs beside its frames follows from the graph, and is given; how fast the
    machine is at it changes, and is learned. The second slowest of the last runs counts: a single
    slow one, as the first after memory was given back, tells nothing, and to expect too much only
    makes smaller pieces.
    """

    def __init__(self, frame_s: float, run_frames: float) -> None:
        """`frame_s` is expected until two runs were seen."""
        self._run_frames = run_frames
        self._lock = threading.Lock()
        self._seen = deque([frame_s] * 2, maxlen=_REMEMBERED)
        self._frame_s = frame_s

    def add(self, frames: int, seconds: float) -> None:
        """Learn from a run that worked on `frames`, those of its neighbours included."""
        with self._lock:
            self._seen.append(seconds / (frames + self._run_frames))
            self._frame_s = sorted(self._seen)[-2]

    def seconds(self, frames: int) -> float:
        """Return what a run of so many frames is expected to take on one core."""
        return self._frame_s * (frames + self._run_frames)


@dataclass(frozen=True, slots=True)
class Costs:
    """What the runs of a graph cost, which all its voices share."""

    flow: StageCost = field(default_factory=partial(StageCost, 0.2e-3, run_frames=8))
    """Expected at first is twice what a voice of medium quality takes on a core of 2023."""
    decoder: StageCost = field(default_factory=partial(StageCost, 1.0e-3, run_frames=4))
