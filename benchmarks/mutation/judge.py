"""Judge faults: run by pytest's own loop, in a process that has collected the tests once.

A fault costs a fork, and the tests that reach its function until one fails. Starting pytest and
collecting for each, as mutmut does, costs more than the tests themselves.

Reads a `Plan` from standard input and writes outcomes to standard output, each as a line of JSON;
what pytest says goes to standard error.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import mmap
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO, TypeVar

import pytest
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.utils.format_utils import mangled_name_from_mutant_name

from benchmarks.mutation.faults import Fault

if TYPE_CHECKING:
    from _typeshed import TraceFunction

SURVIVED, HUNG, FOUND, BROKEN = 0, 1, 10, 11
"""Exit statuses of a child; 1 is what `faulthandler` ends a process with."""

OPTIONS = (
    *("-q", "-s", "--tb=native"),  # a traceback with its source costs more than the test
    *("-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:xdist", "-o", "timeout=0"),
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be judged."""

    faults: tuple[Fault, ...]
    tests: tuple[str, ...]
    first: dict[str, str]
    """The test that found a fault the last time."""
    children: int
    patience_s: float = 2.0
    """How long a test may take beyond five times what it takes while its lines are noted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fault."""

    fault: str
    kind: str
    """found, hung or died (which are found, too), survived or unreached."""
    test: str = ""
    """The test that was running in the end."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Broken:
    """A test that fails without any fault: nothing can be judged."""

    test: str


class Judge:
    """Takes the place of pytest's loop over the collected tests."""

    def __init__(self, plan: Plan, out: TextIO) -> None:
        self._plan = plan
        self._out = out

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge the faults of the plan; the tests are not run otherwise."""
        if session.testsfailed:
            self._say(Broken("(while collecting)"))
            return True
        gc.freeze()  # a collection in a child would copy every page of the parent
        with tempfile.TemporaryDirectory(prefix="greenroom-mutants-") as scratch:
            self._judge(session, Path(scratch))
        return True

    def _judge(self, session: pytest.Session, scratch: Path) -> None:
        files = {fault.file for fault in self._plan.faults}
        normal = reach(session.items, files, self._plan.children, scratch)
        broken = [test for test in normal.seconds if test in normal.failed]
        if broken:
            self._say(Broken(broken[0]))
            return
        items = {item.nodeid: item for item in session.items}
        found_by: defaultdict[str, Counter[str]] = defaultdict(Counter)

        def quickest_first(fault: Fault) -> list[str]:
            """The test of last time, then those that find faults in this function, then others."""
            first = self._plan.first.get(fault.key)
            finders = found_by[mangled_name_from_mutant_name(fault.key)]
            return sorted(
                normal.tests(fault),
                key=lambda test: (test != first, -finders[test], normal.seconds[test]),
            )

        def trials() -> Iterator[Trial]:
            for fault in self._plan.faults:
                if tests := quickest_first(fault):
                    yield Trial(fault.key, tests)
                else:
                    self._say(Outcome(fault.key, "unreached"))

        def run(trial: Trial) -> int:
            set_mutant_under_test(trial.fault)
            for number, test in enumerate(trial.tests):
                trial.at[:8] = number.to_bytes(8)
                limit_s = self._plan.patience_s + 5 * normal.seconds[test]
                faulthandler.dump_traceback_later(limit_s, exit=True)
                if fails(session, items[test]):
                    return FOUND
            return SURVIVED

        for trial, status in forked(trials(), run, self._plan.children, scratch):
            if status == BROKEN:
                raise RuntimeError(f"{trial.fault} could not be judged")
            last = trial.tests[int.from_bytes(trial.at[:8])]
            kind = {FOUND: "found", SURVIVED: "survived", HUNG: "hung"}.get(status, "died")
            if kind != "survived":
                found_by[mangled_name_from_mutant_name(trial.fault)][last] += 1
            self._say(Outcome(trial.fault, kind, last, time.monotonic() - trial.since))

    def _say(self, said: Outcome | Broken) -> None:
        print(json.dumps(asdict(said)), file=self._out, flush=True)


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault before its tests."""

    fault: str
    tests: list[str]
    at: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 8))
    """The number of the test that runs, shared with the child: a killed one cannot tell."""
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Normal:
    """How the tests go without a fault."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    tests_at: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    """The tests that execute a line of a file."""

    def tests(self, fault: Fault) -> set[str]:
        """The tests that execute the statement that `fault` changes; others cannot tell."""
        lines = range(fault.first_line, fault.last_line + 1)
        return set().union(*(self.tests_at.get((fault.file, line), ()) for line in lines))


def reach(items: list[pytest.Item], files: set[str], children: int, scratch: Path) -> Normal:
    """Run all tests without a fault, and note which lines each executes and how long it takes."""
    normal = Normal()

    def run(share: int) -> int:
        set_mutant_under_test("")
        executed: set[tuple[str, int]] = set()
        trace = noting(files, executed)
        threading.settrace(trace)
        sys.settrace(trace)
        noted = []
        for item in items[share::children]:
            executed.clear()
            since = time.monotonic()
            failed = fails(item.session, item)
            noted.append((item.nodeid, time.monotonic() - since, failed, sorted(executed)))
        sys.settrace(None)
        (scratch / f"normal-{share}").write_text(json.dumps(noted), encoding="utf-8")
        return SURVIVED

    for share, status in forked(range(children), run, children, scratch):
        noted = scratch / f"normal-{share}"
        if status != SURVIVED or not noted.exists():
            raise RuntimeError(f"the tests ended with status {status} without a fault")
        for test, seconds, failed, lines in json.loads(noted.read_text(encoding="utf-8")):
            normal.seconds[test] = seconds
            if failed:
                normal.failed.add(test)
            for file, line in lines:
                normal.tests_at[file, line].add(test)
    return normal


def noting(files: set[str], executed: set[tuple[str, int]]) -> TraceFunction:
    """Make a trace function that notes which lines of some files are executed."""
    names = {str(Path(file).absolute()): file for file in files}

    def note(frame: FrameType, event: str, arg: object) -> TraceFunction:
        executed.add((names[frame.f_code.co_filename], frame.f_lineno))
        return note

    def trace(frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        return note if frame.f_code.co_filename in names else None

    return trace


def fails(session: pytest.Session, item: pytest.Item) -> bool:
    """Run one test, with its fixtures, and say whether it failed."""
    before = session.testsfailed
    try:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    except BaseException:  # noqa: BLE001 - a fault may raise anything, even through pytest
        return True
    return session.testsfailed > before


def forked(
    jobs: Iterable[T], run: Callable[[T], int], children: int, scratch: Path
) -> Iterator[tuple[T, int]]:
    """Run each job in a child of its own, so many at a time, and yield its exit status."""
    running: dict[int, T] = {}

    def one_ends() -> tuple[T, int]:
        pid, status = os.wait()
        shutil.rmtree(scratch / str(pid), ignore_errors=True)
        return running.pop(pid), os.waitstatus_to_exitcode(status)

    for job in jobs:
        pid = os.fork()
        if not pid:
            _become(run, job, scratch)
        running[pid] = job
        if len(running) == children:
            yield one_ends()
    while running:
        yield one_ends()


def _become(run: Callable[[T], int], job: T, scratch: Path) -> NoReturn:
    """Be the child, to its end."""
    status = BROKEN
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test would take it for its own end only
    try:
        temporary = scratch / str(os.getpid())
        temporary.mkdir()
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(temporary)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        status = run(job)
    finally:  # the child must never return into the parent's loop
        os._exit(status)


def main() -> int:
    """Judge what standard input says."""
    asked = json.load(sys.stdin)
    faults = tuple(Fault(**fields) for fields in asked.pop("faults"))
    plan = Plan(faults, **asked)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pytest.main([*OPTIONS, *plan.tests], plugins=[Judge(plan, out)])


if __name__ == "__main__":
    sys.exit(main())
