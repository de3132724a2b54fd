"""What is left out of the catalog is reported: in the log, by `ls` and by `config check`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from greenroom import Catalog, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
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
    lines = [line for line in err.splitlines() if not line.startswith("model piper-good: ")]
    assert len(lines) == 7
    assert "fault of greenroom" not in err


def test_config_check_reports_each_as_a_problem(
    odd_place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "check", str(odd_place), "--json"]) == 1
    problems = json.loads(capfd.readouterr().out)["problems"]
    left_out = [each for each in problems if "is left out: " in each]
    assert len(left_out) == 7
    assert all(each.startswith(f"{odd_place}: ") for each in left_out)


@pytest.fixture
def graphs_alone(tmp_path: Path) -> Path:
    """A configuration with graphs that lack their JSON, in places of every kind."""
    voices = tmp_path / "voices"
    for name in (
        "loose.onnx",
        "amy/amy.onnx",
        "en/en_US/amy/low/en_US-amy-low.onnx",
        "kokoro/heart/model.onnx",
    ):
        (voices / name).parent.mkdir(parents=True, exist_ok=True)
        (voices / name).touch()
    file = tmp_path / "worker.yaml"
    file.write_text(
        "voices: {directories: [voices], packages: []}\n"
        "model_manager: {default_model_id: tone-440}\n"
    )
    return file


def test_a_graph_without_its_json_is_named(
    graphs_alone: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    voices = graphs_alone.parent / "voices"
    wanted = {
        f"{voices / name} is left out: it has no {Path(name).name}.json beside it; copy it there."
        for name in ("loose.onnx", "amy/amy.onnx", "en/en_US/amy/low/en_US-amy-low.onnx")
    }
    assert main(["ls", "--config", str(graphs_alone)]) == 0
    assert set(capsys.readouterr().err.splitlines()) == wanted
    assert caplog.records == []  # a log line could come amid the list
    assert main(["config", "check", str(graphs_alone)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert set(said) == {f"error: {graphs_alone}: {problem}" for problem in wanted}


def test_a_graph_that_is_another_engines_model_is_not_left_out(tmp_path: Path) -> None:
    class Other(ToneTTSAdapter):
        @classmethod
        def discover(cls, directories: Sequence[Path]) -> list[ModelSpec]:
            return [
                ModelSpec("one", cls, tmp_path / "one.onnx"),
                ModelSpec("two", cls, tmp_path / "two"),
            ]

    (tmp_path / "two").mkdir()
    for name in ("one.onnx", "two/model.onnx", "three.onnx"):
        (tmp_path / name).touch()
    found_there = Catalog.discover(tmp_path, adapters=["piper", Other])
    assert [spec.model_id for spec in found_there] == ["one", "two"]
    (problem,) = found_there.problems
    assert problem.startswith(f"{tmp_path}/three.onnx is left out")
