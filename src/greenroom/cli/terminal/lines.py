"""Lines of text fitted to a width: broken between words, and never cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

_LEAST_WIDTH = 20
"""In cells: a narrower terminal breaks lines as it likes."""


def wrapped_lines(text: str, width: int | None) -> list[str]:
    """Return the lines of a text, each broken where a width, in cells, has no room for it.

    What is broken off stands further in than the line's beginning. Without a width all stay whole.
    """
    if width is None or width < _LEAST_WIDTH:
        return text.splitlines()
    lines = text.splitlines()
    return [part for line in lines for part in broken(line, width, _margin_below(line))]


def _margin_below(line: str) -> str:
    return " " * (6 if line.startswith(" ") else 2)


def broken(line: str, width: int, margin: str = "") -> Iterator[str]:
    """Yield the parts of a line, none wider than `width` cells; a margin is put before later ones.

    `width` has room for the margin and one character more, which may take two cells.
    """
    text = ""
    for word in re.findall(r"\s*\S+", line):
        if text and cell_len(text + word) > width:
            yield text
            text = margin + word.lstrip()
        else:
            text += word
        while cell_len(text) > width:  # one word, longer than a line
            first = chop_cells(text, width)[0]
            yield first
            text = margin + text[len(first) :]
    yield text
