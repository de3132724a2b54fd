"""Run the flow: the decoder's frames of one sentence, in blocks, each when it is first needed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.prepared.run.stage import BoundStage

_SMALLEST, _LARGEST = 256, 512
"""Frames of a block: with fewer, most of the work is overlap; with more, the next piece waits."""


@dataclass(slots=True, eq=False)
class _Block:
    start: int
    end: int
    made: bool = False
    making: threading.Lock = field(default_factory=threading.Lock)


class Frames:
    """The frames of one sentence, made on demand; any number of threads may ask."""

    def __init__(
        self, flow: BoundStage, edges: Mapping[str, NDArray[Any]], *, shrink: bool
    ) -> None:
        """`edges` has what enters the flow, whole; frames have the shape `(1, channels, n)`."""
        self._flow, self._edges, self._shrink = flow, edges, shrink
        self.count = edges[flow.manifest.timed[0]].shape[-1]
        self._frames: NDArray[np.float32] | None = None
        self._blocks: list[_Block] = []

    def begin(self, first: int, side_by_side: int) -> None:
        """Make the `first` frames, and cut the rest into blocks that many threads may make."""
        if first + self._flow.manifest.right >= self.count:
            first = self.count  # all are worked on anyway
        self._blocks = [_Block(0, first)]
        self._make(self._blocks[0])
        rest = self.count - first
        if rest:
            number = max(1, min(side_by_side, rest // _SMALLEST), -(-rest // _LARGEST))
            ends = [first + rest * n // number for n in range(number + 1)]
            self._blocks += [_Block(*block) for block in itertools.pairwise(ends)]

    def columns(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the frames from `first` to `last`, made now unless another thread has."""
        blocks = [b for b in self._blocks if b.start < last and first < b.end and not b.made]
        # First the blocks that no other thread is at, then a wait for the rest: two threads that
        # need the same two blocks make one each.
        for block in blocks:
            if block.making.acquire(blocking=False):
                self._make_once(block)
        for block in blocks:
            if not block.made:
                block.making.acquire()
                self._make_once(block)
        assert self._frames is not None
        return self._frames[..., first:last]

    def _make_once(self, block: _Block) -> None:
        """Make a block whose lock is held, unless another thread has, and release the lock."""
        try:
            if not block.made:
                self._make(block)
        finally:
            block.making.release()

    def _make(self, block: _Block) -> None:
        manifest = self._flow.manifest
        first = max(0, block.start - manifest.left)
        last = min(self.count, block.end + manifest.right)
        part = {name: self._edges[name][..., first:last] for name in manifest.timed}
        made = self._flow.run({**self._edges, **part}, shrink=self._shrink)[manifest.leave[0]]
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

    def begin(self, first: int, side_by_side: int) -> None:
        """Do nothing: they are there."""

    def columns(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the frames from `first` to `last`."""
        return self._frames[..., first:last]
