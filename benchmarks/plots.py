"""Plots that benchmarks draw, in the run's cache until `--write` puts them beside the figures."""

from __future__ import annotations

import os
from pathlib import Path


def keep(name: str, svg: str) -> None:
    """Keep the plot of a benchmark."""
    _place().mkdir(parents=True, exist_ok=True)
    (_place() / f"{name}.svg").write_text(svg, encoding="utf-8")


def kept() -> dict[str, str]:
    """Return the plots of this run, as SVG, by their benchmark."""
    paths = sorted(_place().glob("*.svg"))
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


def _place() -> Path:
    return Path(os.environ["GREENROOM_CACHE_DIR"]) / "plots"
