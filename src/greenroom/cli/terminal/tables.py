"""Tables of plain text: aligned, never cut off, and fitted to a width."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Collection, Iterator, Sequence

from rich.cells import cell_len

from greenroom.cli.terminal.lines import broken

_GAP = "  "
_MIN_WIDTH = 8
"""Of a column: words that are broken more often cannot be read."""


def table_lines(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    wraps: Collection[str] = (),
    right: Collection[str] = (),
    spare: Sequence[str] = (),
    width: int | None = None,
) -> list[str]:
    """Return the lines of a table, headings first; the columns in `right` are numbers.

    With a `width` the columns in `wraps` give way, the widest first; where that is not enough,
    those in `spare` are left out, one after the other until the rest fits, and then all text gives
    way. Where even that is not enough, and without a `width`, each row is one line of whatever
    length.
    """
    columns = list(zip(headings, *rows, strict=True))
    text = [heading for heading in headings if heading not in right]
    tries = [(count, wraps) for count in range(len(spare) + 1)]
    for count, flexible in () if width is None else (*tries, (len(spare), text)):
        shown = [column for column in columns if column[0] not in spare[:count]]
        if fitted := _fitted(_full_widths(shown), _positions(shown, flexible), width or 0):
            return _lines(shown, fitted, right)
    return _lines(columns, _full_widths(columns), right)


def _full_widths(columns: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(_width, column)) for column in columns]


def _positions(columns: Sequence[Sequence[str]], headings: Collection[str]) -> list[int]:
    return [place for place, column in enumerate(columns) if column[0] in headings]


def _lines(
    columns: Sequence[Sequence[str]], widths: list[int], right: Collection[str]
) -> list[str]:
    numbers = [column[0] in right for column in columns]
    rows = zip(*columns, strict=True)
    return [line for row in rows for line in _row(row, widths, numbers)]


def _width(cell: str) -> int:
    return max(map(_cells, cell.split("\n")))


def _fitted(full: list[int], flexible: list[int], width: int) -> list[int] | None:
    """Return column widths that fit, or `None` if a column would become too narrow to read."""
    widths = full[:]
    while (excess := sum(widths) + len(_GAP) * (len(widths) - 1) - width) > 0:
        widest = max(flexible, key=lambda place: widths[place], default=None)
        if widest is None or widths[widest] <= _MIN_WIDTH:
            return None
        widths[widest] -= min(excess, max(1, widths[widest] // 8))
    return widths


def _row(cells: Sequence[str], widths: list[int], numbers: list[bool]) -> Iterator[str]:
    parts = [list(_wrapped(cell, width)) for cell, width in zip(cells, widths, strict=True)]
    for line in itertools.zip_longest(*parts, fillvalue=""):
        aligned = []
        for text, width, number in zip(line, widths, numbers, strict=True):
            space = " " * (width - _cells(text))
            aligned.append(space + text if number else text + space)
        yield _GAP.join(aligned).rstrip()


def _wrapped(cell: str, width: int) -> Iterator[str]:
    for line in cell.split("\n"):
        if _cells(line) <= width:
            yield line
        else:  # `textwrap` breaks at hyphens too, but counts characters, not cells
            yield from textwrap.wrap(line, width) if line.isascii() else broken(line, width)


def _cells(text: str) -> int:
    """Return the width of a line of printable text; quickly for ASCII, as most long tables are."""
    return len(text) if text.isascii() else cell_len(text)
