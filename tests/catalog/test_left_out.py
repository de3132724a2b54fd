"""What is left out of the catalog is reported: in the log, by `ls` and by `config check`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from greenroom.catalog import catalog as catalog_module
from greenroom.cli import main
from tests.catalog.pack_files import BOMB, found, put_pack


def test_each_thing_that_is_left_out_is_one_line_and_the_lines_are_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        put_pack(tmp_path, f"bad-{number}", "a: [")
    assert len(found(tmp_path)[1]) == 30
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == catalog_module._MAX_LOG_LINES + 1
    assert told[-1] == "10 more are left out; `greenroom config check` names them."


@pytest.fixture
def odd_place(tmp_path: Path) -> Path:
    """A configuration whose voices are one that is good, and odd ones of every kind."""
    voices = tmp_path / "voices"
    put_pack(voices, "good")
    put_pack(voices, "dated", "footprint_mb: 2024-01-01")
    put_pack(voices, "deep", "tags: " + "[" * 5_000)
    put_pack(voices, "bomb", BOMB)
    put_pack(voices, b"caf\xe9")
    put_pack(voices, "esc\x1b[2J\x9b31m")
    os.mkfifo(put_pack(voices, "pipe") / "metadata.yaml")
    (voices / "fifo").mkdir()
    os.mkfifo(voices / "fifo" / "en_US-fifo-low.onnx")
    (voices / "fifo" / "en_US-fifo-low.onnx.json").write_text("{}")
    file = tmp_path / "worker.yaml"
    file.write_text(
        "voices: {directories: [voices], packages: []}\n"
        "model_manager: {default_model_id: tone-440}\n"
    )
    return file


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_ls_lists_the_others(
    odd_place: Path, capfd: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(["ls", "--config", str(odd_place), *more]) == 0
    out, err = capfd.readouterr()
    assert "piper-good" in out
    for text in (out, err):
        assert all(line.isprintable() for line in text.splitlines())
    assert len(err.splitlines()) == 7
    assert "fault of greenroom" not in err


def test_config_check_reports_each_as_a_problem(
    odd_place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "check", str(odd_place), "--json"]) == 1
    problems = json.loads(capfd.readouterr().out)["problems"]
    left_out = [each for each in problems if "is left out: " in each]
    assert len(left_out) == 7
    assert all(each.startswith(f"{odd_place}: ") for each in left_out)
