"""The windows of frames in which a sentence is decoded: small for the first audio, then growing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FIRST = 16
"""Frames of the first piece: 0.19 s of a 22.05 kHz voice, decoded in a tenth of that."""

LARGEST = 128
"""Frames of the later pieces. Smaller ones repeat more of their neighbours' work, larger ones no
longer fit the processor's cache and make `stop` wait."""

GROWTH = 3
"""How many times the one before it a piece is: it is decoded while that one is heard."""


@dataclass(frozen=True, slots=True)
class Window:
    """Frames `start` to `end` are wanted; `first` to `last` are worked on to get them right."""

    start: int
    end: int
    first: int
    last: int


def windows(frames: int, left: int, right: int) -> Iterator[Window]:
    """Cut `frames` into windows that reach `left` and `right` beyond what is wanted of them."""
    start, size = 0, FIRST
    while start < frames:
        end = min(start + size, frames)
        if frames - end < FIRST:  # a remainder so small would be mostly overlap
            end = frames
        yield Window(start, end, max(0, start - left), min(frames, end + right))
        start, size = end, min(size * GROWTH, LARGEST)
