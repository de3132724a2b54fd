"""What was found: outcomes as they come, and the committed record of every file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.mutation.faults import Fault
from benchmarks.mutation.judge import Outcome
from benchmarks.mutation.parts import ROOT

WORK = ROOT / "mutants"
RECORD = Path(__file__).with_name("record.json")
HARMLESS = Path(__file__).with_name("harmless.toml")

NOT_FOUND = {"survived", "unreached"}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the faults of one file."""

    digest: str
    made: int
    hung: int
    survivors: tuple[str, ...]

    @property
    def found(self) -> int:
        """How many faults a test failed for."""
        return self.made - len(self.survivors)


def result(digest: str, faults: Iterable[Fault], outcomes: Mapping[str, Outcome]) -> Result:
    """Sum up the outcomes of a file whose faults have all been judged."""
    judged = [(fault, outcomes[fault.key].kind) for fault in faults]
    survivors = tuple(fault.change for fault, kind in judged if kind in NOT_FOUND)
    return Result(digest, len(judged), sum(kind == "hung" for _, kind in judged), survivors)


def recorded(path: Path = RECORD) -> dict[str, Result]:
    """The results of all files, as they were recorded the last time."""
    if not path.exists():
        return {}
    results = json.loads(path.read_text(encoding="utf-8"))
    return {
        file: Result(**{**fields, "survivors": tuple(fields["survivors"])})
        for file, fields in results.items()
    }


def keep(results: Mapping[str, Result], path: Path = RECORD) -> None:
    """Record the results of all files."""
    ordered = {file: asdict(results[file]) for file in sorted(results)}
    text = json.dumps(ordered, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def harmless(path: Path = HARMLESS) -> dict[str, str]:
    """The faults that are none, and why: changes that nobody can see from outside."""
    groups = tomllib.loads(path.read_text(encoding="utf-8")).get("harmless", [])
    return {change: group["reason"] for group in groups for change in group["changes"]}


@dataclass(slots=True)
class Outcomes:
    """The outcomes of one file, written as they come, so that an interrupted run can go on."""

    path: Path
    digest: str
    by_fault: dict[str, Outcome] = field(default_factory=dict)
    last_time: dict[str, str] = field(default_factory=dict)
    """The tests that found faults, whatever the digest was: good ones to try first."""

    @classmethod
    def of(cls, file: str, digest: str, work: Path = WORK) -> Outcomes:
        """Read what is known of `file`; what was found with another digest is out of date."""
        known = cls((work / "outcomes" / file).with_suffix(".jsonl"), digest)
        lines = known.path.read_text(encoding="utf-8").splitlines() if known.path.exists() else []
        for line in filter(None, lines):
            try:
                of_digest, fields = json.loads(line)
            except ValueError:  # it was being written when the run was cut off
                continue
            outcome = Outcome(**fields)
            if outcome.kind not in NOT_FOUND:
                known.last_time[outcome.fault] = outcome.test
            if of_digest == digest:
                known.by_fault[outcome.fault] = outcome
        return known

    def add(self, outcome: Outcome) -> None:
        """Note one more, on disk at once."""
        self.by_fault[outcome.fault] = outcome
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # The line break comes first: the line before may have been cut off.
            file.write("\n" + json.dumps([self.digest, asdict(outcome)]))

    def forget(self) -> None:
        """Take everything for out of date, but keep which tests to try first."""
        known, self.digest = list(self.by_fault.values()), "forgotten"
        self.path.unlink(missing_ok=True)
        self.by_fault.clear()
        for outcome in known:
            self.add(outcome)
