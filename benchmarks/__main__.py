"""`python -m benchmarks [name…]`: measure, show, and fail when a figure misses its bound."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from rich.console import Console

from benchmarks import machine, plots, report
from benchmarks.figures import FULL, Figure
from benchmarks.registry import BENCHMARKS, measure_apart
from benchmarks.voice_files import prepare_real_voice

RESULTS = Path(__file__).with_name("RESULTS.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all; return 1 when a bound is missed."""
    chosen = _parser().parse_args(arguments)
    before = machine.load_average()
    sections: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as cache:
        os.environ["GREENROOM_CACHE_DIR"] = cache
        console = Console(stderr=True)
        with console.status("preparing the real voice …"):
            prepare_real_voice()
        for name in chosen.names or BENCHMARKS:
            with console.status(f"measuring {name}: {BENCHMARKS[name]} …"):
                sections[BENCHMARKS[name]] = measure_apart(name, FULL)
        drawn = plots.kept()
    after = machine.load_average()
    preface = [
        *machine.described(),
        f"{date.today()}, load average {before:.1f} before and {after:.1f} after, ours included",
    ]
    _show(sections, preface)
    if chosen.write:
        _write(sections, preface, drawn, update=bool(chosen.names))
    missed = [f.name for figures in sections.values() for f in figures if f.holds is False]
    for figure in missed:
        print(f"missed its bound: {figure}", file=sys.stderr)
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(f"  {name:9} {about}" for name, about in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure Greenroom against its peers.\n\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", type=_benchmark, help="without one, all are run"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"also write {RESULTS.name} and plots; of named ones, only their sections",
    )
    return parser


def _benchmark(name: str) -> str:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of: {', '.join(BENCHMARKS)}")
    return name


def _show(sections: report.Sections, preface: list[str]) -> None:
    console = Console()
    if not console.is_terminal:
        print(report.markdown(sections, _as_list(preface)), end="")
        return
    console.print(report.table(sections))
    for line in preface:
        console.print(line, highlight=False)


def _write(
    sections: report.Sections, preface: list[str], drawn: Mapping[str, str], *, update: bool
) -> None:
    """Write the page, or `update` its sections, and beside it the plots that it shows."""
    for name, svg in drawn.items():
        RESULTS.with_name(f"{name}.svg").write_text(svg, encoding="utf-8")
    shown = {BENCHMARKS[name]: f"{name}.svg" for name in drawn}
    page = report.markdown(sections, _as_list(preface), shown)
    if update and RESULTS.exists():
        page = report.updated(RESULTS.read_text(encoding="utf-8"), page, _as_list(preface))
    RESULTS.write_text(page, encoding="utf-8")


def _as_list(lines: list[str]) -> list[str]:
    return [f"- {line}" for line in lines]


if __name__ == "__main__":
    sys.exit(main())
