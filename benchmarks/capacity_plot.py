"""The plot of the benchmark `capacity`, as SVG: first audio and gaps against the number of callers.

Drawn by hand, because it has to be legible on a white page and on a dark one: the colours follow
the reader's scheme, which a picture by a plotting library does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.ladder import Ladder, Step

_WIDTH, _HEIGHT = 900, 480
_TOP, _BOTTOM = 134, 394
_PANELS = ((70, 430), (525, 885))
"""Left and right of each."""
_CHARACTER = 7.0
"""Pixels of the widest that a character of a label is on average, at 13 pixels of height."""
_ROW = 22
_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

_NOTE = (
    "A peer's line ends where its first audio takes more than four times as long as that of stock "
    "with one caller."
)

_STYLE = """
text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 14px }
.page { fill: #ffffff } .grid { stroke: #d1d9e0 } .limit { stroke: #59636e }
.line { fill: none; stroke-width: 2 }
.c0 { stroke: #0969da; fill: #0969da } .c1 { stroke: #1a7f37; fill: #1a7f37 }
.c2 { stroke: #cf222e; fill: #cf222e } .c3 { stroke: #9a6700; fill: #9a6700 }
.c4 { stroke: #8250df; fill: #8250df }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .page { fill: #0d1117 } .grid { stroke: #3d444d } .limit { stroke: #9198a1 }
.c0 { stroke: #4493f8; fill: #4493f8 } .c1 { stroke: #3fb950; fill: #3fb950 }
.c2 { stroke: #f85149; fill: #f85149 } .c3 { stroke: #d29922; fill: #d29922 }
.c4 { stroke: #ab7df8; fill: #ab7df8 }
}
.line { fill: none }
"""


@dataclass(frozen=True, slots=True)
class _Line:
    """How a ladder is drawn."""

    ladder: Ladder
    colour: int
    dash: str


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of the two diagrams."""

    title: str
    left: float
    right: float
    most: int
    """Callers at the right end."""
    height: Callable[[float], float]
    """Where a value lies, from 0 at the bottom to 1."""
    ticks: Sequence[tuple[float, str]]

    def x(self, callers: float) -> float:
        return self.left + (self.right - self.left) * callers / self.most

    def y(self, value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * self.height(value)


def draw(ours: Sequence[Ladder], peers: Sequence[Ladder], limit: float) -> str:
    """Return the SVG; `limit` is the first audio (s) up to which callers count as held."""
    lines = [
        *(_Line(each, number // 2, ("", "7 4")[number % 2]) for number, each in enumerate(ours)),
        *(_Line(each, 2 + number % 3, "") for number, each in enumerate(peers)),
    ]
    steps = [step for line in lines for step in line.ladder.steps]
    most = max(step.callers for step in steps)
    first, gaps = _panels(steps, most, limit)
    marks = sorted({step.callers for step in steps})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<title>First audio and speeches with a gap, by callers who play at real time</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        *_legend(lines, len(ours), limit),
        *_axes(first, marks),
        *_axes(gaps, marks),
        _text(first.left, _HEIGHT - 16, _NOTE, "start"),
        _limit(first.left, first.y(limit), first.right - first.left),
    ]
    for line in lines:
        parts += _drawn(first, line, lambda step: step.p95)
        parts += _drawn(gaps, line, lambda step: step.share)
    return "\n".join((*parts, "</svg>", ""))


def _panels(steps: Sequence[Step], most: int, limit: float) -> tuple[_Panel, _Panel]:
    values = [step.p95 for step in steps if math.isfinite(step.p95)] + [limit]
    low = max([tick for tick in _SECONDS if tick <= min(values)], default=_SECONDS[0])
    high = min([tick for tick in _SECONDS if tick >= max(values)], default=_SECONDS[-1])
    span = math.log(high / low) or 1.0

    def logarithmic(value: float) -> float:
        return min(1.0, max(0.0, math.log(max(value, low) / low) / span))

    seconds = [(tick, f"{tick:g} s") for tick in _SECONDS if low <= tick <= high]
    shares = [(share, f"{share:.0%}") for share in _SHARES]
    return (
        _Panel("First audio, 95th percentile", *_PANELS[0], most, logarithmic, seconds),
        _Panel("Speeches with a gap over 20 ms", *_PANELS[1], most, float, shares),
    )


def _axes(panel: _Panel, marks: Sequence[int]) -> list[str]:
    parts = [_text(panel.left, _TOP - 16, panel.title, "start", "title")]
    for value, label in panel.ticks:
        y = panel.y(value)
        parts.append(f'<path class="grid" d="M{panel.left},{y:.1f}H{panel.right}"/>')
        parts.append(_text(panel.left - 8, y + 4.5, label, "end"))
    free = panel.left
    for callers in marks:
        x = panel.x(callers)
        half = len(str(callers)) * _CHARACTER / 2
        if x - half >= free:
            parts.append(_text(x, _BOTTOM + 20, str(callers), "middle"))
            free = x + half + 2
    middle = (panel.left + panel.right) / 2
    parts.append(_text(middle, _BOTTOM + 44, "callers who play at real time", "middle"))
    return parts


def _drawn(panel: _Panel, line: _Line, value: Callable[[Step], float]) -> list[str]:
    points = [
        (panel.x(step.callers), panel.y(value(step)))
        for step in line.ladder.steps
        if math.isfinite(value(step))
    ]
    if not points:
        return []
    path = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [
        f'<path class="c{line.colour} line" stroke-dasharray="{line.dash}" d="M{path}"/>',
        *(f'<circle class="c{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points),
    ]


def _legend(lines: Sequence[_Line], ours: int, limit: float) -> list[str]:
    """Return the names beside a piece of their line: a row for ours, one for peers, the limit."""
    parts = []
    for row, (lead, named) in enumerate((("Greenroom", lines[:ours]), ("Peers", lines[ours:]))):
        x, y = 116.0, 28.0 + _ROW * row
        parts.append(_text(20, y + 4.5, lead, "start", "title"))
        for line in named:
            parts.append(
                f'<path class="c{line.colour} line" stroke-dasharray="{line.dash}" '
                f'd="M{x:.0f},{y:.0f}h28"/>'
            )
            parts.append(_text(x + 36, y + 4.5, line.ladder.name, "start"))
            x += 36 + len(line.ladder.name) * _CHARACTER + 20
    y = 28.0 + _ROW * 2
    held = f"Held is what is below {limit:.2f} s, which stock takes for one caller, and has no gaps"
    return [*parts, _limit(116, y, 28), _text(152, y + 4.5, held, "start")]


def _limit(x: float, y: float, length: float) -> str:
    return f'<path class="limit" stroke-dasharray="2 4" d="M{x:.0f},{y:.1f}h{length:.0f}"/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
