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

PARTS = {
    "ledger": (
        "accounts",
        "agenda",
        "backoff",
        "books",
        "residency",
        "residents",
        "room",
        "waiting",
    ),
    "manager": ("model_manager", "shell"),
}
"""What is changed; `[tool.mutmut]` names the same files."""

PROMISES = {"ledger": 0.90, "manager": 0.80}

FOUND = {"killed", "timeout", "segfault", "caught by type check"}
SURVIVED = {"survived", "no tests", "suspicious"}


@dataclass(frozen=True, slots=True)
class Score:
    """The faults made in one file."""

    file: str
    found: int
    survivors: tuple[str, ...]

    @property
    def made(self) -> int:
        """How many faults were made."""
        return self.found + len(self.survivors)

    @property
    def share(self) -> float:
        """The part of them that the tests found."""
        return self.found / self.made if self.made else 0.0


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
    """Run mutmut and report; 1 when a promise is not kept."""
    children = str(os.cpu_count() or 1)
    ran = subprocess.run(
        [sys.executable, "-m", "mutmut", "run", "--max-children", children],
        env={**os.environ, "HYPOTHESIS_PROFILE": "mutants"},
    )
    return ran.returncode or report()


def report() -> int:
    """Print the table and the survivors of the last run; 1 when a promise is not kept."""
    console = Console()
    by_file = {score.file.removesuffix(".py"): score for score in scores()}
    table = Table("part", "faults", "found", "share", "promised", title="Deliberate faults")
    kept = True
    for part, names in PARTS.items():
        files = [by_file[name] for name in names if name in by_file]
        whole = Score(part, sum(f.found for f in files), sum((f.survivors for f in files), ()))
        kept = kept and whole.share >= PROMISES[part]
        for score in (*files, whole):
            promise = f"{PROMISES[part]:.0%}" if score is whole else ""
            table.add_row(
                score.file, str(score.made), str(score.found), f"{score.share:.1%}", promise
            )
        for name in whole.survivors:
            console.print(f"survived: {name}", highlight=False)
    console.print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
