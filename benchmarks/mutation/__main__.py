"""`python -m benchmarks.mutation [part…]`: judge what changed, and hold it against the promises."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.status import Status

from benchmarks.mutation.faults import Faulty, faulty
from benchmarks.mutation.judge import Outcome, Plan
from benchmarks.mutation.parts import PARTS, ROOT, Part
from benchmarks.mutation.record import (
    NOT_FOUND,
    WORK,
    Outcomes,
    harmless,
    keep,
    recorded,
    result,
)
from benchmarks.mutation.report import report

TREE = WORK / "tree"
LOG = WORK / "log.txt"


class TestsFailError(Exception):
    """A test fails without a fault, so nothing can be judged."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge and report; 1 when a promise is not kept, 2 when nothing could be judged."""
    chosen = _parser().parse_args(arguments)
    console = Console(highlight=False)
    parts = [part for part in PARTS if part.name in (chosen.parts or [p.name for p in PARTS])]
    try:
        for part in parts:
            judge(part, again=chosen.all, console=console)
    except TestsFailError as error:
        console.print(f"{error}; what the tests said is in {LOG}", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; the next run goes on from here")
        return 130
    return 0 if report(parts, recorded(), harmless(), console) else 1


def judge(part: Part, *, again: bool, console: Console) -> None:
    """Judge the files of `part` that changed since they were recorded; with `again`, all.

    A run with `again` that was interrupted is finished by the next one, whatever that asks for.
    """
    unfinished = WORK / f"unfinished-{part.name}"
    if again and not unfinished.exists():
        for file in part.files():
            Outcomes.of(file, part.digest(file)).forget()
        WORK.mkdir(exist_ok=True)
        unfinished.touch()
    before = recorded()
    digests = {file: part.digest(file) for file in part.files()}
    due = [
        file
        for file, digest in digests.items()
        if unfinished.exists() or file not in before or before[file].digest != digest
    ]
    if due:
        judge_files(part, {file: digests[file] for file in due}, console)
    unfinished.unlink(missing_ok=True)


def judge_files(part: Part, digests: dict[str, str], console: Console) -> None:
    """Judge these files; record each as soon as its last fault is judged."""
    made = {file: faulty(file, (ROOT / file).read_text(encoding="utf-8")) for file in digests}
    known = {file: Outcomes.of(file, digest) for file, digest in digests.items()}
    open_ = {
        fault.key: fault
        for file, of_file in made.items()
        for fault in of_file.faults
        if fault.key not in known[file].by_fault
    }
    waiting = Counter(fault.file for fault in open_.values())
    first = {key: test for of_file in known.values() for key, test in of_file.last_time.items()}
    # A fault that hangs needs no core until its time is over, and one in nine does.
    children = 2 * (os.cpu_count() or 1)
    plan = Plan(tuple(open_.values()), part.selection(), first, children)

    def record_if_done(file: str) -> None:
        if not waiting[file]:
            results = {f: r for f, r in recorded().items() if (ROOT / f).exists()}
            results[file] = result(digests[file], made[file].faults, known[file].by_fault)
            keep(results)

    for file in made:
        record_if_done(file)
    if not open_:
        return
    lay_out(made)
    with console.status(f"{part.name}: running the tests without a fault …") as status:
        since, survived = time.monotonic(), 0
        for done, outcome in enumerate(judged(plan), start=1):
            file = open_[outcome.fault].file
            known[file].add(outcome)
            waiting[file] -= 1
            survived += outcome.kind in NOT_FOUND
            record_if_done(file)
            _show(status, part, done, len(open_), survived, time.monotonic() - since)


def judged(plan: Plan, tree: Path = TREE, log_file: Path = LOG) -> Iterator[Outcome]:
    """Have the plan carried out in a process of its own, and yield outcomes as they come."""
    path = os.pathsep.join(map(str, (tree / "src", tree, ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "HYPOTHESIS_PROFILE": "mutants"}
    command = [sys.executable, "-m", "benchmarks.mutation.judge"]
    with (
        log_file.open("wb") as log,
        subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        ) as judge,
    ):
        assert judge.stdin
        assert judge.stdout
        json.dump(asdict(plan), judge.stdin)
        judge.stdin.close()
        left = {fault.key for fault in plan.faults}
        for line in judge.stdout:
            said = json.loads(line)
            if "fault" not in said:
                raise TestsFailError(f"a test fails without a fault: {said['test']}")
            left.discard(said["fault"])
            yield Outcome(**said)
    if left:
        raise TestsFailError(f"the tests stopped early, with status {judge.returncode}")


def lay_out(made: dict[str, Faulty]) -> None:
    """Copy the source and the tests, with the faults in them."""
    shutil.rmtree(TREE, ignore_errors=True)
    for folder in ("src", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, TREE / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", TREE)
    for file, of_file in made.items():
        (TREE / file).write_text(of_file.code, encoding="utf-8")


def _show(
    status: Status, part: Part, done: int, faults: int, survived: int, seconds: float
) -> None:
    minutes = seconds / done * (faults - done) / 60
    status.update(
        f"{part.name}: {done} of {faults} faults, {survived} survived, {minutes:.0f} min left"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutation",
        description="Judge the faults of files that changed since they were recorded.",
    )
    parser.add_argument("--all", action="store_true", help="judge every file afresh")
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{' or '.join(names)}, else all")
    return parser


if __name__ == "__main__":
    sys.exit(main())
