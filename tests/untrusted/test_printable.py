"""Whatever text others wrote, it can do nothing where it is shown."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from greenroom.adapter import ModelSpec, Preparation
from greenroom.adapters.options import Number
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.piper.prepared.store.lookup import is_prepared
from greenroom.adapters.piper.voice_json import read_settings
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.catalog import registry
from greenroom.cli import main
from greenroom.cli.terminal import console
from greenroom.config.schema import MAX_MS, load_config
from greenroom.errors import ConfigError
from greenroom.untrusted.printable import error_message, escaped, printable, printable_repr

EVIL = "a\x1b[2J\x9b31m\u202eb\udc80\x07\rc\x00"


class UnsayableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class LeavingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(7)

    __repr__ = __str__


@given(st.text(st.characters(codec=None), max_size=50))
def test_what_is_shown_is_printable_and_can_be_encoded(text: str) -> None:
    for made in (
        printable(text),
        printable_repr(text),
        escaped(text).replace("\n", "").replace("\t", ""),
    ):
        assert made.isprintable()
        made.encode()


def test_what_is_printable_stays_as_it_is() -> None:
    assert escaped("Grüße,\n\tשלום") == "Grüße,\n\tשלום"
    assert printable("x" * 1_000, 20) == "x" * 10 + "…" + "x" * 10


@pytest.mark.parametrize(
    "thing", [UnsayableError(), LeavingError(), 10**5_000], ids=["unsayable", "leaving", "long"]
)
def test_what_cannot_be_said_is_named_by_its_type(thing: Any) -> None:
    assert printable_repr(thing).startswith("<")
    assert printable(thing)
    assert error_message(UnsayableError()).startswith("UnsayableError")
    assert error_message(LeavingError()).startswith("LeavingError")


def shows(kind: str) -> Any:
    """Return what shows a text, one of the ways that commands have."""
    return {
        "tell": console.print_text,
        "note": console.print_note,
        "error": console.print_error,
        "table": lambda text: console.print_table(("A",), [(text,)]),
        "json": lambda text: console.print_json({"a": [text]}),
    }[kind]


@pytest.mark.parametrize("kind", ["tell", "note", "error", "table", "json"])
def test_no_text_reaches_a_terminal_as_a_command(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    shows(kind)(EVIL)
    told = "".join(capfd.readouterr())
    assert told.replace("\n", "").isprintable()
    assert "[2J" in told
    if kind == "json":
        assert json.loads(told) == {"a": [EVIL]}


def test_a_log_line_reaches_no_terminal_as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    err = Console(width=200, color_system=None)
    monkeypatch.setattr(console, "err", err)
    with console.logging_restored(), err.capture() as captured:
        console.configure_logging(logging.INFO)
        logging.getLogger("greenroom.test").warning("model %s", EVIL)
    assert captured.get().rstrip("\n").isprintable()


def test_json_of_plain_text_is_left_readable(capfd: pytest.CaptureFixture[str]) -> None:
    console.print_json({"a": "Grüße"})
    assert capfd.readouterr().out == '{\n  "a": "Grüße"\n}\n'


# Options and settings


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), True, "1"])
def test_a_number_no_engine_can_take_is_refused_and_never_raises(value: Any) -> None:
    assert Number(0.0, 4.0).problem(value) == "must be a number from 0 to 4"


HUGE = str(10**400)


@pytest.mark.parametrize(
    "key",
    [
        "model_manager.ttl_ms",
        "model_manager.min_residency_ms",
        "model_manager.evict_check_interval_ms",
        "model_manager.resident_cap",
        "model_manager.max_parallel_loads",
        "model_manager.load_timeout_ms",
        "model_manager.acquire_timeout_ms",
        "model_manager.synthesis_timeout_ms",
        "model_manager.memory_budget_mb",
        "worker.max_sessions",
        "worker.max_streams",
        "worker.session_idle_ms",
        "worker.drain_timeout_ms",
    ],
)
@pytest.mark.parametrize(
    "value", [HUGE, "9" * 5_000, "1e999", ".inf", ".nan", "inf", "nan", "9" * 18, "2024-01-01"]
)
def test_a_number_that_cannot_work_is_refused_with_its_key(
    key: str, value: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    section, name = key.split(".")
    file = tmp_path / "worker.yaml"
    file.write_text(f"{section}: {{{name}: {value}}}\n")
    assert main(["config", "check", str(file)]) == 1
    assert main(["config", "check", "--set", f"{key}={value}"]) == 1
    in_file, in_flag = capfd.readouterr().err.splitlines()
    assert f"{file}: " in in_file
    assert key in in_file or "line 1: a number is too large" in in_file
    assert key in in_flag
    for told in (in_file, in_flag):
        assert "fault of greenroom" not in told
        assert len(told) < 700


def test_a_hundred_years_are_not_too_long() -> None:
    given = {"ttl_ms": MAX_MS, "load_timeout_ms": MAX_MS}
    assert load_config(overrides={"model_manager": given}).model_manager.ttl_ms == MAX_MS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("worker: " + "[" * 5_000, "inside each other"),
        ("a: &a [x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(3)), "is not a key"),
        ("worker: {listen: 2024-01-01}", "worker.listen: must be HOST:PORT"),
        ("worker: {listen: '127.0.0.1:" + "9" * 5_000 + "'}", "worker.listen: must be HOST:PORT"),
        ('worker: {listen: "a\\e[2J:1"}', "worker.listen: must be HOST:PORT"),
        ("model_manager: 2024-01-01", "model_manager: must be a mapping"),
        ("2024-13-45: 1", "2024-13-45: is not a key"),
        ('"\\e[2J": 1', "is not a key"),
        ("voices: {directories: ['a\\\\0', \"b\\0\"]}", "directories[1]: must be a path"),
        ("voices: {packages: [__main__]}", "is not installed"),
        ('models: [{model_id: x, adapter: tone, tags: ["\\e"]}]', "tags[0]: must be printable"),
        ("models: [{model_id: x, adapter: tone, options: {speed: .nan}}]", "finite numbers"),
        ("models: [{model_id: x, adapter: 2024-01-01}]", "no adapter is registered"),
        ("models: [" + "1, " * 300 + "]", "problems more"),
        (
            "models:\n- {model_id: a, adapter: tone, aliases: [x]}\n"
            "- {model_id: b, adapter: tone, aliases: [x]}",
            "models.b.aliases: alias 'x' of 'b' already means 'a'; choose another",
        ),
    ],
)
def test_an_odd_configuration_is_told_in_sentences(
    content: str, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(content)
    assert main(["config", "check", str(file)]) == 1
    told = capfd.readouterr().err
    assert words in told
    assert "fault of greenroom" not in told
    assert len(told.splitlines()) <= 102
    assert all(
        line.isprintable() and line.startswith(f"error: {file}: ") for line in told.splitlines()
    )


def test_a_configuration_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="is larger than 2 MiB"):
        load_config(Path("/dev/zero"))


def test_a_setting_of_any_depth_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "check", "--set", ".".join(["a"] * 5_000) + "=1"]) == 1
    monkeypatch.setenv("GREENROOM_" + "__".join(["A"] * 5_000), "1")
    assert main(["config", "check"]) == 1
    for told in capfd.readouterr().err.splitlines():
        assert "no key is that deep" in told


def test_a_setting_that_is_no_utf_8_is_refused_in_a_sentence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["config", "check", "--set", "voices.directories=['a\udcff']"]) == 1
    told = capfd.readouterr().err
    assert "voices.directories" in told
    assert "fault of greenroom" not in told


@pytest.mark.parametrize("value", ["[" * 5_000, "{a: " * 5_000, '"' + "x" * 3_000_000])
def test_a_variable_of_any_depth_is_refused_in_a_sentence(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_MODELS", value[:100_000])
    with pytest.raises(ConfigError, match="GREENROOM_MODELS: models: must be a list"):
        load_config()


# The JSON of a voice

GOOD: dict[str, Any] = {
    "audio": {"sample_rate": 22_050},
    "espeak": {"voice": "en"},
    "phoneme_id_map": {"_": [0]},
    "num_symbols": 256,
    "num_speakers": 1,
}


def put_voice(tmp_path: Path, settings: str) -> Path:
    model = tmp_path / "voice.onnx"
    model.write_bytes(b"")
    Path(f"{model}.json").write_text(settings)
    return model


@pytest.mark.parametrize(
    "changed",
    [
        {"phoneme_id_map": [1]},
        {"phoneme_id_map": {"_": 0}},
        {"phoneme_id_map": {"_": ["a"]}},
        {"phoneme_id_map": {"_": [True]}},
        {"phoneme_id_map": {"_": [2**40]}},
        {"num_speakers": "2"},
        {"num_speakers": 0},
        {"num_speakers": None},
        {"num_speakers": 10**300},
        {"num_symbols": []},
        {"speaker_id_map": {"a": "b"}},
        {"speaker_id_map": [1]},
        {"espeak": {"voice": 7}},
        {"inference": 7},
        {"inference": {"length_scale": 0}},
        {"inference": {"noise_scale": float("nan")}},
        {"inference": {"noise_w": "much"}},
        {"inference": {"noise_w": 10**400}},
        {"default_speaker_id": "a"},
        {"phoneme_type": 3},
        {"audio": {"sample_rate": 10**400}},
        {"audio": {"sample_rate": True}},
    ],
    ids=lambda each: str(each)[:50],
)
def test_a_voices_json_that_would_fail_later_is_refused(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    assert read_settings(put_voice(tmp_path, json.dumps(GOOD)))
    model = put_voice(tmp_path, json.dumps(GOOD | changed))
    with pytest.raises(ValueError, match=r"voice\.onnx\.json") as caught:
        read_settings(model)
    assert next(iter(changed)) in str(caught.value) or "sample_rate" in str(caught.value)
    with pytest.raises(ConfigError, match=r"voice\.onnx\.json"):
        PiperTTSAdapter.check_spec(ModelSpec("a", "piper", model))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' * 100_000, "1" * 10_000, "\ufeff{}", "", "\0", "x" * 5_000_000]
)
def test_a_voices_json_is_read_within_bounds(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"voice\.onnx\.json") as caught:
        read_settings(put_voice(tmp_path, text))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("settings", [None, "{", json.dumps(GOOD | {"num_speakers": 0})])
def test_a_file_with_any_name_is_told_of_on_one_line(tmp_path: Path, settings: str | None) -> None:
    model = tmp_path / "\x1b[2J\n.onnx"
    for path in (model, *([Path(f"{model}.json")] if settings else ())):
        with pytest.raises(ConfigError) as caught:
            PiperTTSAdapter.check_spec(ModelSpec("a", "piper", model))
        assert str(caught.value).isprintable()
        path.write_text(settings or "")
    with pytest.raises(ConfigError) as caught:
        PiperTTSAdapter.check_spec(ModelSpec("a", "piper", model))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("end", ["", ".json"])
def test_a_pipe_in_the_place_of_a_voices_file_is_not_opened(tmp_path: Path, end: str) -> None:
    model = put_voice(tmp_path, json.dumps(GOOD))
    path = Path(f"{model}{end}")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises((OSError, ValueError)):
        read_settings(model)
    assert end or not is_prepared(model)


def test_an_adapter_whose_is_prepared_raises_does_not_end_the_list(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Raising(Preparation):
        def is_prepared(self, spec: ModelSpec) -> bool | None:
            raise UnsayableError

        def command(self, spec: ModelSpec) -> Sequence[str]:
            raise NotImplementedError

    monkeypatch.setattr(ToneTTSAdapter, "preparation", Raising())
    assert registry.resolve("tone") is ToneTTSAdapter
    assert main(["ls", "--set", "model_manager.default_model_id=tone-440"]) == 0
    assert "tone-440" in capfd.readouterr().out
