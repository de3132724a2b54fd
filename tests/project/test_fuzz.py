"""The fuzz targets run, find what is there to find, and tell it with the shortest input."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuzz import __main__ as command
from fuzz.door import Door, Fault, explore, kind_of, tried
from fuzz.doors import DOORS
from fuzz.shorter import parts_left_out
from fuzz.watchdog import Watchdog


class Letters:
    """A door that breaks at an `x`, and stands still at a `z`."""

    name = "letters"
    about = "letters"

    def open(self, watchdog: Watchdog) -> None:
        self.tries = 0

    def close(self) -> None:
        self.closed = True

    def draw(self, dice: random.Random) -> str:
        return "".join(dice.choice("abcxyz") for _ in range(40))

    def attempt(self, given: str) -> list[str]:
        self.tries += 1
        while given == "z":
            time.sleep(0.01)
        if self.tries > 1_000:
            time.sleep(0.1)  # whoever tries until a time is over need not be busy
        return ["an x came through"] if "x" in given else []

    def simpler(self, given: str) -> Iterator[str]:
        yield from parts_left_out(given)

    def count(self, given: Any) -> int:
        return 1


def test_a_fault_is_told_once_with_its_shortest_input() -> None:
    told: list[Fault] = []
    outcome = explore(Letters(), seconds=20.0, seed=1, most=50, tell=told.append)
    assert [fault.shortest for fault in told] == ["x"]
    assert outcome.inputs == 50
    assert list(outcome.faults) == ["an x came through"]


def test_the_same_seed_gives_the_same_inputs() -> None:
    for door in DOORS.values():
        assert repr(door().draw(random.Random("1/2"))) == repr(door().draw(random.Random("1/2")))


def test_an_input_that_stands_still_is_interrupted_and_a_fault() -> None:
    door = Letters()
    with Watchdog(pytest.fail, interrupted_s=0.3) as watchdog:
        door.open(watchdog)
        (found,) = tried(door, "z", watchdog)
    assert found.startswith("it froze in ")


def test_numbers_and_names_do_not_make_another_kind_of_fault() -> None:
    assert kind_of("model 'a' took 3 s at 0xff00") == kind_of("model 'b' took 17 s at 0x12")


def test_a_fault_fails_the_command_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "DOORS", {"letters": Letters})
    assert command.main(["letters", "--seconds", "1", "--out", str(tmp_path)]) == 1
    (kept,) = tmp_path.iterdir()
    content = json.loads(kept.read_text())
    assert content["input"] == "'x'"
    assert "letters" in capsys.readouterr().out


@pytest.mark.parametrize("name", DOORS)
def test_a_few_inputs_of_every_door_break_no_rule(name: str) -> None:
    door: Door = DOORS[name]()
    outcome = explore(door, seconds=2.0, seed=1, most=5)
    assert outcome.inputs
    assert not outcome.faults
