"""How many deliberate faults in the ledger and the manager the tests find (`make mutants`).

mutmut makes the faults and runs the tests; this reads what it found and holds it against the
promise: 90 % for the ledger, 80 % for the manager. Survivors are listed by name; those that are
no faults are explained in CONTRIBUTING.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutmut.stats import status_by_exit_code
from rich.console import Console
from rich.table import Table

PROMISES = {"residency.py": 0.90, "model_manager.py": 0.80}
FOUND = {"killed", "timeout", "segfault", "caught by type check"}
SURVIVED = {"survived", "no tests", "suspicious"}


@dataclass(frozen=True, slots=True)
class Score:
    """The faults made in one file."""

    file: str
    found: int
    survivors: tuple[str, ...]

    @property
    def share(self) -> float:
        """The part of the faults that the tests found."""
        made = self.found + len(self.survivors)
        return self.found / made if made else 0.0


def scores(folder: Path = Path("mutants")) -> Iterator[Score]:
    """Yield what mutmut found, file by file."""
    for meta in sorted(folder.rglob("*.meta")):
        outcomes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
        status = {name: status_by_exit_code[code] for name, code in outcomes.items()}
        survivors = tuple(name for name, kind in status.items() if kind in SURVIVED)
        found = sum(kind in FOUND for kind in status.values())
        if found or survivors:
            yield Score(meta.name.removesuffix(".meta"), found, survivors)


def main() -> int:
    """Run mutmut, print the table and the survivors; 1 when a promise is not kept."""
    children = os.environ.get("MUTANTS_AT_ONCE", str(os.cpu_count() or 1))
    ran = subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children", children])
    if ran.returncode != 0:
        return ran.returncode
    console = Console()
    table = Table("file", "faults", "found", "share", "promised", title="Deliberate faults")
    kept = True
    for score in scores():
        promise = PROMISES.get(score.file)
        kept = kept and (promise is None or score.share >= promise)
        table.add_row(
            score.file,
            str(score.found + len(score.survivors)),
            str(score.found),
            f"{score.share:.1%}",
            "" if promise is None else f"{promise:.0%}",
        )
        for name in score.survivors:
            console.print(f"survived: {name}", highlight=False)
    console.print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
