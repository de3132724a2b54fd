"""`greenroom footprints`: a record can be seen, and forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greenroom import ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.cli import main
from greenroom.memory.footprint_store import FootprintStore
from greenroom.memory.usage import MIB, Usage


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which much was measured of `amy` and little of `joe`."""
    monkeypatch.setenv("GREENROOM_CACHE_DIR", str(tmp_path))
    known = FootprintStore()
    for name, size in (("amy", 984), ("joe", 58)):
        spec = ModelSpec(name, ToneTTSAdapter)
        known.inspect(spec)
        known.add_measurement(spec, "own file", Usage(size * MIB), alone=True)
    known.set_stated(spec, "prepared", Usage(5 * MIB))
    known.write()
    return tmp_path / "footprints.json"


def test_records_are_listed_with_what_is_booked_and_why(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["footprints"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["MODEL", "FORM", "BOOKED", "SAYS", "LOADS", "TOOK", "ALONE"],
        ["amy", "own", "file", "984", "MB", "-", "984", "MB", "1"],
        ["joe", "own", "file", "58", "MB", "-", "58", "MB", "1"],
        ["joe", "prepared", "5", "MB", "5", "MB", "-", "0"],
    ]


def test_the_records_of_one_model_are_listed_alone(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["footprints", "amy", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["model_id"] == "amy"
    assert entry["booked_bytes"] == 984 * MIB
    assert entry["measured"] == [{"bytes": 984 * MIB, "alone": True}]


def test_a_record_is_forgotten_and_the_others_are_kept(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["footprints", "amy", "--forget"]) == 0
    assert capsys.readouterr().out == "1 record forgotten\n"
    assert {each["model_id"] for each in json.loads(cache.read_text())} == {"joe"}
    assert main(["footprints", "--forget", "--all"]) == 0
    assert capsys.readouterr().out == "2 records forgotten\n"
    assert main(["footprints"]) == 0
    assert "nothing was measured yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["footprints", "--forget"], 2, "--forget wants the ids of models, or --all"),
        (["footprints", "amy", "--forget", "--all"], 2, "--forget wants the ids of models, or"),
        (["footprints", "--all"], 2, "--all goes with --forget"),
        (["footprints", "kim"], 1, "nothing was measured of kim"),
        (["footprints", "kim", "--forget"], 0, "nothing was known of them"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    cache: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    before = cache.read_text()
    assert main(arguments) == code
    assert words in capsys.readouterr().err
    assert cache.read_text() == before


def test_a_folder_that_cannot_be_written_is_said_in_one_line(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert main(["footprints", "amy", "--forget"]) == 1
    assert "cannot be written: Permission denied; make its folder writable." in (
        capsys.readouterr().err
    )
