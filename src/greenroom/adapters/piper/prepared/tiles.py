"""Cover columns with tiles of a few lengths, for a runtime to which each new length is dear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    """Columns `first` to `last` are worked on, and `start` to `end` of them are wanted."""

    first: int
    last: int
    start: int
    end: int


def tiles(columns: int, lengths: Sequence[int], left: int, right: int) -> Iterator[Tile]:
    """Cover `columns` with tiles that are each as long as one of `lengths`.

    What is wanted of a tile has `left` and `right` columns beside it, but at the two ends, where
    there are none. All lengths are more than `left + right`, and the least is at most `columns`.
    """
    fitting = sorted(length for length in lengths if length <= columns)
    start = 0
    while start < columns:
        first = max(0, start - left)
        rest = columns - first
        last_ones = [length for length in fitting if length >= rest]
        if last_ones:
            yield Tile(columns - last_ones[0], columns, start, columns)
            return
        last = first + fitting[-1]
        yield Tile(first, last, start, last - right)
        start = last - right
