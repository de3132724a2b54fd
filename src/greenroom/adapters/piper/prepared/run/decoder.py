"""Decode a sentence, from the flow's frames to samples, piece by piece."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.prepared.run.flow import Frames, GivenFrames
from greenroom.adapters.piper.prepared.run.stage import BoundStage, Feeds
from greenroom.adapters.piper.prepared.run.thread_pool import DECODE_POOL
from greenroom.adapters.piper.prepared.windows import Window, windows

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Part:
    """Columns that a stage is given, and which columns of what it makes are wanted."""

    first: int
    last: int
    begin: int
    end: int


class SentenceDecoder:
    """Decodes one sentence; several threads of the pool may be at it."""

    def __init__(
        self,
        flow: BoundStage | None,
        decoders: Sequence[BoundStage],
        edges: Feeds,
        *,
        shrink: bool = False,
    ) -> None:
        """`edges` is what the text stage made, and what it was fed with."""
        self._decoders, self._edges, self._shrink = decoders, edges, shrink
        self._frames: Frames | GivenFrames
        if flow is None:
            self._frames = GivenFrames(edges[decoders[0].manifest.timed[0]])
        else:
            self._frames = Frames(flow, edges, shrink=shrink)
        self._todo = windows(self._frames.count, 0, 0)
        self._ahead: deque[Future[Samples]] = deque()

    def pieces(self) -> Iterator[Samples]:
        """Yield the pieces in order; several are worked on at once while cores are idle."""
        try:
            samples = self._first_piece()
            while samples is not None:
                yield samples
                samples = self._next_piece()
        finally:
            _cancel(self._ahead)

    def _first_piece(self) -> Samples | None:
        first = next(self._todo, None)
        if first is None:
            return None
        with DECODE_POOL.working() as share:
            self._frames.begin(self._parts(first)[0].last, DECODE_POOL.cores)
            self._run_ahead(share() - 1)
            return self._decode(first)

    def _next_piece(self) -> Samples | None:
        with DECODE_POOL.working() as share:
            self._run_ahead(share() if share() > 1 else 0)
            if self._ahead:
                samples = self._ahead.popleft().result()
                self._run_ahead(share())
                return samples
            window = next(self._todo, None)
            return None if window is None else self._decode(window)

    def _run_ahead(self, most: int) -> None:
        """Submit pieces to the pool until `most` are under way."""
        while len(self._ahead) < most and (window := next(self._todo, None)):
            self._ahead.append(DECODE_POOL.submit(self._decode, window))

    def _decode(self, window: Window) -> Samples:
        parts = self._parts(window)
        columns = self._frames.columns(parts[0].first, parts[0].last)
        for stage, part in zip(self._decoders, parts, strict=True):
            given = {**self._edges, stage.manifest.timed[0]: columns}
            made = stage.run(given, shrink=self._shrink)[stage.manifest.leave[0]]
            columns = made[..., part.begin : part.end]
        return columns.reshape(-1)

    def _parts(self, window: Window) -> list[_Part]:
        """Return what each decoder must be given, so that the last one makes the window."""
        rate = math.prod(stage.manifest.rate for stage in self._decoders)
        total, begin, end = self._frames.count * rate, window.start * rate, window.end * rate
        parts = []
        for stage in reversed(self._decoders):
            manifest = stage.manifest
            total //= manifest.rate
            first = max(0, begin // manifest.rate - manifest.left)
            last = min(total, -(-end // manifest.rate) + manifest.right)
            parts.append(
                _Part(first, last, begin - first * manifest.rate, end - first * manifest.rate)
            )
            begin, end = first, last
        return parts[::-1]


def _cancel(ahead: deque[Future[Samples]]) -> None:
    """Cancel the pieces that are not wanted any more; return when no thread works on one."""
    for future in ahead:
        future.cancel()
    for future in ahead:
        if not future.cancelled():
            future.exception()
