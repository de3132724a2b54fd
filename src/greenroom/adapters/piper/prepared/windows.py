"""How a sentence is cut into pieces: as large as there is time for before the listener waits.

A small piece is there soon, and repeats much of its neighbours' work; a large one is the cheapest.
So the first is small, and each later one as large as what the listener has left to hear allows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

FIRST = 16
"""Frames of a lone listener's first piece, and of the smallest: 0.19 s of a 22.05 kHz voice."""

LARGEST_FIRST = 64
"""Frames of the first piece in a crowd, where what is repeated delays everyone."""

LARGEST = 128
"""Frames of the later pieces. Smaller ones repeat more of their neighbours' work, larger ones no
longer fit the processor's cache and make `stop` wait."""

LARGEST_BLOCK = 512
"""Frames that the flow makes in one run: with more, `stop` waits for little gain."""

GROWTH = 3
"""How many times the one before it a window of `windows` is."""

SAFE = 0.5
"""Of the time that is left, how much a piece may be expected to take."""

SAFE_SHARE = 0.8
"""Of a piece's audio, how much the pieces of all who share the core may take."""

Seconds = Callable[[int, int], float]
"""What a piece takes on one core: of frames that the flow has yet to make, and to be decoded."""


@dataclass(frozen=True, slots=True)
class Window:
    """Frames `start` to `end` are wanted; `first` to `last` are worked on to get them right."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames `start` to `end` are decoded, for which the flow is made up to `flow_end`."""

    start: int
    end: int
    flow_end: int


def windows(frames: int, left: int, right: int) -> Iterator[Window]:
    """Cut `frames` into windows that reach `left` and `right` beyond what is wanted of them.

    Their sizes grow from the smallest to the largest of a piece, so that stages which are proved
    on them are proved on small and large ones.
    """
    start, size = 0, FIRST
    while start < frames:
        end = _whole_or(start + size, frames, FIRST)
        yield Window(start, end, max(0, start - left), min(frames, end + right))
        start, size = end, min(size * GROWTH, LARGEST)


def first_size(sharers: float) -> int:
    """Return the frames of the first piece where so many streams share a core."""
    return min(LARGEST_FIRST, round(FIRST * max(1.0, sharers)))


def time_limit(left_s: float, spare_s: float) -> float:
    """Return how many seconds a piece may take.

    It is to be there, with a margin, before the listener has heard the `left_s` seconds that come
    before it, and before another listener, who can wait for `spare_s` seconds, falls silent.
    """
    return max(0.0, min(left_s * SAFE, spare_s))


def least_size(sharers: float, frame_s: float, seconds: Callable[[int], float]) -> int:
    """Return the frames of the smallest piece that keeps up where streams share a core.

    A piece must be heard for longer than a piece of each of the `sharers` takes, however late its
    listener is: a smaller one repeats so much that all would be later still. A frame is `frame_s`
    seconds of audio; `seconds` says what a piece takes.
    """
    sizes = range(FIRST, LARGEST, 8)
    keep_up = (n for n in sizes if n * frame_s * SAFE_SHARE >= max(1.0, sharers) * seconds(n))
    return next(keep_up, LARGEST)


def next_piece(
    before: Piece, frames: int, right: int, seconds: Seconds, limit_s: float, *, least: int = FIRST
) -> Piece:
    """Return the largest piece that takes at most `limit_s`; of `least` frames where none does.

    It follows `before`, in a sentence of so many `frames`, and needs `right` frames of the flow
    after its own. Where the flow must be made for it and time is left, more is made at once.
    """

    def flow_of(size: int) -> int:
        return min(frames, before.end + size + right) - before.flow_end

    size = _largest(range(least, LARGEST + 1), lambda n: seconds(flow_of(n), n), limit_s)
    end = _whole_or(before.end + size, frames, FIRST)
    needed, size = flow_of(end - before.end), end - before.end
    if needed <= 0:
        return Piece(before.end, end, before.flow_end)
    blocks = range(needed, max(needed, LARGEST_BLOCK) + 1)
    block = _largest(blocks, lambda n: seconds(n, size), limit_s)
    return Piece(before.end, end, _whole_or(before.flow_end + block, frames, 2 * FIRST))


def _largest(sizes: range, seconds: Callable[[int], float], limit_s: float) -> int:
    """Return the largest of `sizes` that takes at most `limit_s`, or the smallest of all."""
    return sizes[max(0, bisect_right(sizes, limit_s, key=seconds) - 1)]


def _whole_or(end: int, frames: int, least: int) -> int:
    """Return `end`, or all `frames` where so few are left that they would be mostly overlap."""
    return frames if frames - end < least else end
