"""Run the flow: the decoder's frames of one sentence, in blocks, each when it is first needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.prepared.run.stage import Stage
from greenroom.adapters.piper.prepared.run.stage_cost import StageCost


@dataclass(slots=True, eq=False)
class _Block:
    start: int
    end: int
    made: bool = False
    making: threading.Lock = field(default_factory=threading.Lock)


class Frames:
    """The frames of one sentence, made on demand; any number of threads may ask."""

    def __init__(
        self,
        flow: Stage,
        edges: Mapping[str, NDArray[Any]],
        cost: StageCost,
        *,
        shrink: bool,
    ) -> None:
        """`edges` has what enters the flow, whole; frames have the shape `(1, channels, n)`."""
        self._flow, self._edges, self._cost, self._shrink = flow, edges, cost, shrink
        self.count = edges[flow.manifest.timed[0]].shape[-1]
        self._allocating = threading.Lock()
        self._frames: NDArray[np.float32] | None = None
        self._blocks: list[_Block] = []

    @property
    def can_be_wide(self) -> bool:
        """Whether they can be made with two threads."""
        return self._flow.can_be_wide

    def seconds(self, count: int) -> float:
        """Return what a block of so many frames is expected to take on one core."""
        manifest = self._flow.manifest
        return self._cost.seconds(count + manifest.left + manifest.right) if count > 0 else 0.0

    def plan(self, end: int) -> None:
        """Have the frames up to `end` made as one block, beside those that were planned before.

        One thread plans, while others may ask for columns that are planned.
        """
        start = self._blocks[-1].end if self._blocks else 0
        if end > start:
            self._blocks.append(_Block(start, end))

    def columns(self, first: int, last: int, *, wide: bool = False) -> NDArray[np.float32]:
        """Return the frames from `first` to `last`, made now unless another thread has.

        They are made with two threads if `wide`.
        """
        blocks = [b for b in self._blocks if b.start < last and first < b.end and not b.made]
        # First the blocks that no other thread is at, then a wait for the rest: two threads that
        # need the same two blocks make one each.
        for block in blocks:
            if block.making.acquire(blocking=False):
                self._make_once(block, wide)
        for block in blocks:
            if not block.made:
                block.making.acquire()
                self._make_once(block, wide)
        assert self._frames is not None
        return self._frames[..., first:last]

    def _make_once(self, block: _Block, wide: bool) -> None:
        """Make a block whose lock is held, unless another thread has, and release the lock."""
        try:
            if not block.made:
                self._make(block, wide)
        finally:
            block.making.release()

    def _make(self, block: _Block, wide: bool) -> None:
        manifest = self._flow.manifest
        first = max(0, block.start - manifest.left)
        last = min(self.count, block.end + manifest.right)
        part = {name: self._edges[name][..., first:last] for name in manifest.timed}
        began = time.perf_counter()
        given = {**self._edges, **part}
        made = self._flow.run(given, wide=wide, shrink=self._shrink)[manifest.leave[0]]
        if not (self._shrink or wide):
            self._cost.add(last - first, time.perf_counter() - began)
        with self._allocating:
            if self._frames is None:
                self._frames = np.empty((*made.shape[:-1], self.count), np.float32)
        self._frames[..., block.start : block.end] = made[
            ..., block.start - first : block.end - first
        ]
        block.made = True


class GivenFrames:
    """Frames that the text stage made already."""

    def __init__(self, frames: NDArray[np.float32]) -> None:
        self._frames = frames
        self.count = frames.shape[-1]

    can_be_wide = False

    def seconds(self, count: int) -> float:
        """Return 0: they are there."""
        return 0.0

    def plan(self, end: int) -> None:
        """Do nothing: they are there."""

    def columns(self, first: int, last: int, *, wide: bool = False) -> NDArray[np.float32]:
        """Return the frames from `first` to `last`."""
        return self._frames[..., first:last]
