"""Simpler inputs than a given one: the same text or list with a part left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

Whole = TypeVar("Whole", bytes, str)
Part = TypeVar("Part")


def parts_left_out(whole: Whole) -> Iterator[Whole]:
    """Yield the text without its halves, quarters, eighths … down to single lines and bytes."""
    size = len(whole)
    step = size // 2
    while step:
        for start in range(0, size, step):
            yield whole[:start] + whole[start + step :]
        if size // step > 64:
            return
        step //= 2


def one_left_out(parts: tuple[Part, ...]) -> Iterator[tuple[Part, ...]]:
    """Yield the list without its halves, then without one each."""
    if len(parts) > 2:
        half = len(parts) // 2
        yield parts[:half]
        yield parts[half:]
    if len(parts) > 1:
        for number in range(len(parts)):
            yield (*parts[:number], *parts[number + 1 :])
