"""The table of what was found, and the survivors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.mutation.parts import Part
from benchmarks.mutation.record import Result


def report(
    parts: Sequence[Part],
    results: Mapping[str, Result],
    harmless: Mapping[str, str],
    console: Console,
) -> bool:
    """Print it; whether every promise is kept."""
    table = Table("part", "faults", "found", "hung", "share", "promised", title="Deliberate faults")
    kept = True
    survivors: list[str] = []
    for part in parts:
        of_part = {file: results[file] for file in part.files() if file in results}
        for file, found in of_part.items():
            if not found.made:
                continue
            table.add_row(file.removeprefix("src/greenroom/"), *_figures(found))
        whole = Result(
            "",
            sum(r.made for r in of_part.values()),
            sum(r.hung for r in of_part.values()),
            tuple(change for r in of_part.values() for change in r.survivors),
        )
        table.add_row(f"[b]{part.name}", *_figures(whole), f"{part.promise:.0%}", end_section=True)
        kept = kept and whole.found >= part.promise * whole.made
        survivors += whole.survivors
    new = [change for change in survivors if change not in harmless]
    for change in new:
        console.print(f"survived: {change}", markup=False, soft_wrap=True)
    judged = {file.removeprefix("src/greenroom/") for part in parts for file in part.files()}
    for change in harmless:
        if change.partition(" ")[0] in judged and change not in survivors:
            console.print(f"listed, but no survivor: {change}", markup=False, soft_wrap=True)
    console.print(table)
    console.print(
        f"{len(survivors)} survived, {len(survivors) - len(new)} of them listed as harmless"
    )
    return kept


def _figures(result: Result) -> tuple[str, str, str, str]:
    share = result.found / result.made if result.made else 0.0
    return str(result.made), str(result.found), str(result.hung), f"{share:.1%}"
