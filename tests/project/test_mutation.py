"""`make mutants`: which faults are found, what is judged again, and what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.mutation import __main__ as command
from benchmarks.mutation import parts
from benchmarks.mutation.faults import faulty
from benchmarks.mutation.judge import Outcome, Plan
from benchmarks.mutation.parts import Part
from benchmarks.mutation.record import Outcomes, Result, harmless, keep, recorded, result
from benchmarks.mutation.report import report

SOURCE = """\
def least(numbers: list[int]) -> int:
    found = numbers[0]
    while numbers:
        found = min(found, numbers.pop())
    return found


def unused() -> int:
    return 1
"""

TESTS = """\
from numbers_of_ours import least


def test_slow():
    import time
    time.sleep(0.5)
    assert least([4, 5]) == 4


def test_quick():
    assert least([2, 1, 3]) == 1
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one file, in the place of ours."""
    monkeypatch.setattr(parts, "ROOT", tmp_path)
    for folder in ("src", "tests/ours"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src/numbers_of_ours.py").write_text(SOURCE)
    (tmp_path / "tests/conftest.py").write_text("")
    (tmp_path / "tests/ours/test_numbers.py").write_text(TESTS)
    return tmp_path


PART = Part("ours", sources=("src",), tests=("tests/ours",), promise=0.5)


def test_a_fault_is_shown_as_the_line_before_and_after() -> None:
    changes = [fault.change for fault in faulty("src/greenroom/a.py", SOURCE).faults]
    assert "a.py least: found = numbers[0] → found = numbers[1]" in changes
    assert "a.py unused: return 1 → return 2" in changes


def judge(tree: Path, patience_s: float = 2.0) -> dict[str, Outcome]:
    file = "src/numbers_of_ours.py"
    made = faulty(file, SOURCE.replace("numbers.pop()", "numbers.pop(0)"))
    (tree / file).write_text(made.code)
    plan = Plan(made.faults, PART.selection(), {}, 2, patience_s=patience_s)
    outcomes = {o.fault: o for o in command.judged(plan, tree, tree / "log.txt")}
    assert outcomes.keys() == {fault.key for fault in made.faults}
    return {fault.change.partition(": ")[2]: outcomes[fault.key] for fault in made.faults}


def test_a_fault_is_found_by_the_quickest_test_that_reaches_it(tree: Path) -> None:
    outcomes = judge(tree)
    found = outcomes["found = numbers[0] → found = None"]
    assert (found.kind, found.test) == ("found", "tests/ours/test_numbers.py::test_quick")
    assert outcomes["found = numbers[0] → found = numbers[1]"].kind == "survived"
    assert outcomes["return 1 → return 2"].kind == "unreached"


def test_a_fault_that_hangs_is_given_up_soon(tree: Path) -> None:
    tests = tree / "tests/ours/test_numbers.py"
    tests.write_text(TESTS.replace("[2, 1, 3]", "Endless([2, 1, 3])") + ENDLESS)
    hung = [outcome for outcome in judge(tree, 1.0).values() if outcome.kind == "hung"]
    assert hung
    assert all(outcome.test.endswith("test_quick") for outcome in hung)


ENDLESS = """

class Endless(list):
    def pop(self, index):
        if index != 0:
            while True:
                pass
        return super().pop(index)
"""


def test_nothing_is_judged_when_a_test_fails_without_a_fault(tree: Path) -> None:
    tests = tree / "tests/ours/test_numbers.py"
    tests.write_text(TESTS.replace("== 4", "== 5"))
    with pytest.raises(command.TestsFailError, match="test_slow"):
        judge(tree)


def test_a_file_is_judged_again_when_it_or_a_test_of_its_part_changes(tree: Path) -> None:
    (file,) = PART.files()
    digests = {PART.digest(file)}
    for path in (file, "tests/ours/test_numbers.py", "tests/conftest.py"):
        (tree / path).write_text((tree / path).read_text() + "\n")
        digests.add(PART.digest(file))
    assert len(digests) == 4
    (tree / "src/another.py").write_text("")
    assert PART.digest(file) in digests


def test_an_interrupted_run_goes_on_after_the_last_outcome_that_was_written(tmp_path: Path) -> None:
    outcomes = Outcomes.of("src/a.py", "now", tmp_path)
    outcomes.add(Outcome("one", "found", "test_one"))
    outcomes.add(Outcome("two", "survived", "test_two"))
    with outcomes.path.open("a") as file:
        file.write('\n["now", {"fault": "thr')
    again = Outcomes.of("src/a.py", "now", tmp_path)
    assert set(again.by_fault) == {"one", "two"}
    again.add(Outcome("three", "hung", "test_two"))
    assert set(Outcomes.of("src/a.py", "now", tmp_path).by_fault) == {"one", "two", "three"}


@pytest.mark.parametrize("how", ["another digest", "forgotten"])
def test_what_is_out_of_date_only_says_which_test_to_try_first(tmp_path: Path, how: str) -> None:
    outcomes = Outcomes.of("src/a.py", "then", tmp_path)
    outcomes.add(Outcome("one", "found", "test_one"))
    outcomes.add(Outcome("two", "survived", "test_two"))
    if how == "forgotten":
        outcomes.forget()
    again = Outcomes.of("src/a.py", "then" if how == "forgotten" else "now", tmp_path)
    assert again.by_fault == {}
    assert again.last_time == {"one": "test_one"}
    again.add(Outcome("two", "found", "test_two"))
    assert set(Outcomes.of("src/a.py", again.digest, tmp_path).by_fault) == {"two"}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = faulty("src/greenroom/a.py", SOURCE).faults
    kinds = ["survived", "hung", "unreached", *["found"] * len(made)]
    outcomes = {f.key: Outcome(f.key, kind) for f, kind in zip(made, kinds, strict=False)}
    found = result("digest", made, outcomes)
    assert found == Result("digest", len(made), 1, (made[0].change, made[2].change))
    assert found.found == len(made) - 2
    keep({"src/greenroom/a.py": found}, tmp_path / "record.json")
    assert recorded(tmp_path / "record.json") == {"src/greenroom/a.py": found}
    assert recorded(tmp_path / "none.json") == {}


def test_only_survivors_that_are_not_known_to_be_harmless_stand_out(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tree / "harmless.toml"
    changes = json.dumps(["src/numbers_of_ours.py f: a → b", "src/numbers_of_ours.py f: c → d"])
    listed.write_text(f'[[harmless]]\nreason = "nobody asks"\nchanges = {changes}\n')
    survivors = ("src/numbers_of_ours.py f: a → b", "src/numbers_of_ours.py f: x → y")
    results = {"src/numbers_of_ours.py": Result("", 4, 0, survivors)}
    console = Console(highlight=False)
    assert report([PART], results, harmless(listed), console)
    printed = capsys.readouterr().out
    assert "survived: src/numbers_of_ours.py f: x → y" in printed
    assert "survived: src/numbers_of_ours.py f: a → b" not in printed
    assert "listed, but no survivor: src/numbers_of_ours.py f: c → d" in printed
    assert "2 survived, 1 of them listed as harmless" in printed
    assert not report([PART], {"src/numbers_of_ours.py": Result("", 3, 0, survivors)}, {}, console)
