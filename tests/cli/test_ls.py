"""`greenroom ls`: the catalog, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_a_name_in_the_catalog_is_no_markup(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models: [{model_id: 'x[red]y[/red]', adapter: tone}]")
    main(["ls", "--config", str(file)])
    assert "x[red]y[/red]" in capsys.readouterr().out
