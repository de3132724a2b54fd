"""Decode a sentence, from the flow's frames to samples, piece by piece."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.prepared.run.flow import Frames, GivenFrames
from greenroom.adapters.piper.prepared.run.stage import Feeds, Stage
from greenroom.adapters.piper.prepared.run.stage_cost import Costs
from greenroom.adapters.piper.prepared.run.thread_pool import DECODE_POOL
from greenroom.adapters.piper.prepared.windows import (
    FIRST,
    Piece,
    first_size,
    least_size,
    next_piece,
    time_limit,
)
from greenroom.speech.pace import Pace, current_pace, mark_helpable, mark_last

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
        flow: Stage | None,
        decoders: Sequence[Stage],
        edges: Feeds,
        *,
        costs: Costs,
        sample_rate: int,
        shrink: bool = False,
    ) -> None:
        """`edges` is what the text stage made, and what it was fed with."""
        self._decoders, self._edges, self._shrink = decoders, edges, shrink
        self._cost, self._sample_rate = costs.decoder, sample_rate
        self._frames: Frames | GivenFrames
        if flow is None:
            self._frames = GivenFrames(edges[decoders[0].manifest.timed[0]])
        else:
            self._frames = Frames(flow, edges, costs.flow, shrink=shrink)
        self._hop = math.prod(stage.manifest.rate for stage in decoders)
        self._left, self._right = _reach(decoders)
        self._last = Piece(0, 0, 0)
        """The piece that was begun last."""
        self._heard = 0
        """Frames that were yielded."""
        self._heard_since: float | None = None
        """When the first of them were."""
        self._ahead: deque[Future[Samples]] = deque()

    def pieces(self) -> Iterator[Samples]:
        """Yield the pieces in order; several are worked on at once while cores are idle."""
        try:
            while (samples := self._next(current_pace())) is not None:
                self._heard_since = self._heard_since or time.perf_counter()
                self._heard += len(samples) // self._hop
                is_begun = self._last.end == self._frames.count
                mark_helpable(not is_begun)
                if is_begun and not self._ahead:
                    mark_last()
                yield samples
        finally:
            for called in self._ahead:
                DECODE_POOL.cancel(called)
            for called in self._ahead:
                if not called.cancelled():
                    called.exception()  # waits until no thread works on it

    def _next(self, pace: Pace) -> Samples | None:
        if self._ahead:
            self._run_ahead(pace)
            self._decode_meanwhile(pace)
            return self._ahead.popleft().result()
        if self._last.end == self._frames.count:
            return None
        is_first = pace.ahead_s is None and not self._last.end
        piece = self._plan(pace, first_size(pace.sharers) if is_first else FIRST)
        self._last = piece
        part = self._parts(piece)[0]
        # Before another core is at work: what two threads do at once takes each of them longer.
        wanted = is_first and self._frames.can_be_wide and not self._shrink
        with DECODE_POOL.second_core(pace, wanted=wanted) as wide:
            columns = self._frames.columns(part.first, part.last, wide=wide)
        self._run_ahead(pace)
        return self._decode(piece, columns)

    def _run_ahead(self, pace: Pace) -> None:
        """Have the pool decode pieces, as many as there are cores that nobody waits for."""
        cores = DECODE_POOL.cores
        while self._last.end < self._frames.count and len(self._ahead) < cores.count and cores.idle:
            piece = self._plan(pace)
            called = DECODE_POOL.submit(self._help, pace, piece)
            if called is None:
                break
            self._ahead.append(called)
            self._last = piece
        cores.give_back_unused()

    def _decode_meanwhile(self, pace: Pace) -> None:
        """Decode a piece while the next one to be heard is worked on, if there is time for both."""
        if self._ahead[0].done() or self._last.end == self._frames.count:
            return
        limit_s = time_limit(self._ahead_s(pace), pace.spare_s)
        piece = next_piece(self._last, self._frames.count, self._right, self._seconds, limit_s)
        size, flow = piece.end - piece.start, piece.flow_end - self._last.flow_end
        if self._seconds(flow, size) > limit_s:
            return
        self._frames.plan(piece.flow_end)
        self._last = piece
        decoded: Future[Samples] = Future()
        decoded.set_result(self._decode(piece))
        self._ahead.append(decoded)

    def _plan(self, pace: Pace, least: int = FIRST) -> Piece:
        """Return the next piece, as large as there is time for; the flow will be made for it."""
        waiting_s = (self._last.end - self._heard) * self._hop / self._sample_rate
        limit_s = time_limit(self._ahead_s(pace) + waiting_s, pace.spare_s)
        least = max(least, self._least(pace.sharers))
        piece = next_piece(
            self._last, self._frames.count, self._right, self._seconds, limit_s, least=least
        )
        self._frames.plan(piece.flow_end)
        return piece

    def _ahead_s(self, pace: Pace) -> float:
        """Return the seconds that the listener has left to hear of what was yielded.

        Where nobody says so, of this sentence, as if it was heard since its first piece came.
        """
        if pace.ahead_s is not None:
            return pace.ahead_s
        if self._heard_since is None:
            return 0.0
        passed_s = time.perf_counter() - self._heard_since
        return self._heard * self._hop / self._sample_rate - passed_s

    def _least(self, sharers: float) -> int:
        frame_s = self._hop / self._sample_rate
        return least_size(sharers, frame_s, lambda frames: self._seconds(frames, frames))

    def _seconds(self, flow: int, frames: int) -> float:
        decoded = self._cost.seconds(frames + self._left + self._right)
        return self._frames.seconds(flow) + decoded

    def _help(self, pace: Pace, piece: Piece) -> Samples:
        """Decode a piece in a thread of the pool, and have its time counted."""
        began = time.perf_counter()
        try:
            return self._decode(piece)
        finally:
            pace.count_help(time.perf_counter() - began)

    def _decode(self, piece: Piece, columns: Samples | None = None) -> Samples:
        parts = self._parts(piece)
        if columns is None:
            columns = self._frames.columns(parts[0].first, parts[0].last)
        began = time.perf_counter()
        for stage, part in zip(self._decoders, parts, strict=True):
            given = {**self._edges, stage.manifest.timed[0]: columns}
            made = stage.run(given, shrink=self._shrink)[stage.manifest.leave[0]]
            columns = made[..., part.begin : part.end]
        if not self._shrink:
            self._cost.add(parts[0].last - parts[0].first, time.perf_counter() - began)
        return columns.reshape(-1)

    def _parts(self, piece: Piece) -> list[_Part]:
        """Return what each decoder must be given, so that the last one makes the piece."""
        total, begin, end = (n * self._hop for n in (self._frames.count, piece.start, piece.end))
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


def _reach(decoders: Sequence[Stage]) -> tuple[int, int]:
    """Return how many frames a piece needs before and after its own."""
    left = right = 0
    for stage in reversed(decoders):
        left = -(-left // stage.manifest.rate) + stage.manifest.left
        right = -(-right // stage.manifest.rate) + stage.manifest.right
    return left, right
