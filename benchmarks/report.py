"""Showing figures: a table for people at a terminal, Markdown for files and pipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from benchmarks.figures import Figure, amount, shown

Sections = Mapping[str, Sequence[Figure]]
"""What each benchmark is about, and its figures."""

_COLUMNS = ("figure", "peer", "theirs", "ours", "ratio", "at most", "ok")
_HEADING = "\n\n## "
_HOW = (
    "Medians over rounds in which peer and ours take turns, ± half the distance of the quartiles.",
    "The ratio is the median of the rounds' ratios.",
    "A figure with a bound must keep it, the others inform.",
    "Ratios carry over to other machines, absolute times do not.",
)


def table(sections: Sections) -> Table:
    """Return all figures as one table."""
    drawn = Table(*_COLUMNS, title="Greenroom, measured", title_justify="left")
    for number in range(2, 6):
        drawn.columns[number].justify = "right"
    for about, figures in sections.items():
        drawn.add_section()
        drawn.add_row(Text(about, style="bold"))
        for figure in figures:
            style = "red" if figure.holds is False else None
            drawn.add_row(*_cells(figure), style=style)
    return drawn


def markdown(
    sections: Sections, preface: Sequence[str], plots: Mapping[str, str] | None = None
) -> str:
    """Return all figures as a Markdown page, with the file of a plot where a section has one."""
    lines = ["# Measured", "", *preface, "", *_HOW]
    for about, figures in sections.items():
        heading = f"{about[:1].upper()}{about[1:]}"
        lines += ["", f"## {heading}", ""]
        if plots and about in plots:
            lines += [f"![{heading}]({plots[about]})", ""]
        lines += [_row(_COLUMNS), _row(["---", "---", *["---:"] * 4, "---"])]
        lines += [_row(_cells(figure)) for figure in figures]
    return "\n".join(lines) + "\n"


def updated(page: str, fresh: str, preface: Sequence[str]) -> str:
    """Return a page with the sections of a fresh one in the place of its own.

    Each of them says under what it was measured, because the page's preface is about the others.
    """
    start, *there = _parts(page)
    sections = {section.partition("\n")[0]: section for section in there}
    for section in _parts(fresh)[1:]:
        title, _, rest = section.partition("\n")
        sections[title] = "\n".join((title, "", *preface, rest))
    return _HEADING.join((start, *sections.values())) + "\n"


def _parts(page: str) -> list[str]:
    """Return what is before the first section, and the sections."""
    return page.rstrip("\n").split(_HEADING)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(figure: Figure) -> list[str]:
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    return [
        name,
        figure.peer,
        shown(figure.theirs, figure.unit),
        shown(figure.ours, figure.unit),
        _ratio(figure.ratio),
        _bound(figure),
        {True: "yes", False: "NO", None: ""}[figure.holds],
    ]


def _ratio(ratio: float | None) -> str:
    """Return two decimals, or three of what would lose its first digits."""
    if ratio is None:
        return ""
    return f"{ratio:.3f}" if abs(ratio) < 0.095 else f"{ratio:.2f}"


def _bound(figure: Figure) -> str:
    if figure.at_most is None:
        return ""
    if figure.bounds == "ratio":
        return f"{figure.at_most:.2g} ×"
    return amount(figure.at_most, figure.unit)
