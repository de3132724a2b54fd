"""The comparison of settings as a picture: a row for each of them, a bar for each figure.

SVG by hand, in colours that follow the reader's scheme, as in the benchmarks' plots: it is legible
on a white page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from greenroom.simulation.comparison import Column

_ROW = 24
_TOP = 64
_CHARACTER = 7.2
"""Pixels of width of a character, on average, at 13 pixels of height."""
_BAR = 130
_PANEL = 240
"""Width of a panel: its longest bar, and room for the figure behind it."""

_STYLE = """
text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .page { fill: #ffffff } .bar { fill: #0969da }
.best { stroke: #cf222e; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .page { fill: #0d1117 } .bar { fill: #4493f8 } .best { stroke: #f85149 }
}
"""


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    value: Callable[[Column], float]
    shown: Callable[[float], str]


_PANELS = (
    _Panel("Requests that waited", lambda c: c.outcome.cold_share, "{:.2%}".format),
    _Panel("Wait, 99th percentile", lambda c: c.outcome.wait_p99, "{:.3f} s".format),
    _Panel("Refused", lambda c: c.outcome.refusals, "{:,.0f}".format),
    _Panel("Loads, and the optimum (|)", lambda c: c.outcome.loads, "{:,.0f}".format),
    _Panel("Memory, mean", lambda c: c.outcome.mean_bytes / 1024**2, "{:,.0f} MB".format),
)
_LOADS = 3


def draw(columns: Sequence[Column], title: str) -> str:
    """Return the SVG."""
    label = max(len(column.name) for column in columns) * _CHARACTER + 36
    width = label + _PANEL * len(_PANELS)
    height = _TOP + _ROW * len(columns) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{width:.0f}" height="{height}" rx="6"/>',
        _text(20, 24, title, "title"),
        *(_text(20, _TOP + _ROW * row + 14, each.name) for row, each in enumerate(columns)),
    ]
    for number, panel in enumerate(_PANELS):
        best = [each.fewest_loads if number == _LOADS else None for each in columns]
        parts += _bars(panel, columns, label + _PANEL * number, best)
    return "\n".join((*parts, "</svg>", ""))


def _bars(
    panel: _Panel, columns: Sequence[Column], left: float, best: Sequence[int | None]
) -> list[str]:
    values = [panel.value(column) for column in columns]
    scale = _BAR / (max([*values, *(each or 0 for each in best)]) or 1.0)
    parts = [_text(left, _TOP - 10, panel.title, "title")]
    for row, (value, mark) in enumerate(zip(values, best, strict=True)):
        y, length = _TOP + _ROW * row, value * scale
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{y + 2}" width="{length:.1f}" height="16"/>'
        )
        end = max(length, (mark or 0) * scale)
        parts.append(_text(left + end + 6, y + 14, panel.shown(value)))
        if mark is not None:
            x = left + mark * scale
            parts.append(f'<path class="best" d="M{x:.1f},{y}v20"/>')
    return parts


def _text(x: float, y: float, text: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{x:.1f}" y="{y}">{escape(text)}</text>'
