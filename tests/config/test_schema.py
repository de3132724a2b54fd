"""Where settings come from, which of them wins, and what is refused with which words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from greenroom.config.address import Address
from greenroom.config.schema import (
    Config,
    ManagerSettings,
    VoiceSettings,
    load_config,
    voice_directories,
)
from greenroom.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GREENROOM_")]:
        if name != "GREENROOM_CACHE_DIR":
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "worker.yaml"


def refused(file: Path, content: str, **overrides: Any) -> str:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{file}: ", "FILE: ")


def test_without_a_file_everything_has_its_default() -> None:
    assert load_config() == Config()


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert load_config(file) == Config()


def test_the_environment_wins_over_the_file_and_flags_win_over_both(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("model_manager: {ttl_ms: 1, min_residency_ms: 1, resident_cap: 5}")
    monkeypatch.setenv("GREENROOM_MODEL_MANAGER__TTL_MS", "2")
    monkeypatch.setenv("GREENROOM_MODEL_MANAGER__MIN_RESIDENCY_MS", "2")
    settings = load_config(file, {"model_manager": {"ttl_ms": 3}}).model_manager
    assert (settings.ttl_ms, settings.min_residency_ms, settings.resident_cap) == (3, 2, 5)


@pytest.mark.parametrize(
    ("variable", "text", "section", "key", "value"),
    [
        ("MODEL_MANAGER__TTL_MS", "-1", "model_manager", "ttl_ms", -1),
        ("MODEL_MANAGER__PIN_DEFAULT", "false", "model_manager", "pin_default", False),
        ("MODEL_MANAGER__MEMORY_BUDGET_MB", "512.5", "model_manager", "memory_budget_mb", 512.5),
        ("MODEL_MANAGER__MEMORY_BUDGET_MB", "null", "model_manager", "memory_budget_mb", None),
        (
            "MODEL_MANAGER__PRELOAD_MODEL_IDS",
            "[a, b]",
            "model_manager",
            "preload_model_ids",
            ("a", "b"),
        ),
        ("MODEL_MANAGER__WARMUP_TEXT", "yes", "model_manager", "warmup_text", "yes"),
        ("MODEL_MANAGER__WARMUP_TEXT", "", "model_manager", "warmup_text", ""),
        ("MODEL_MANAGER__WARMUP_TEXT", "'null'", "model_manager", "warmup_text", "null"),
        ("MODEL_MANAGER__DEFAULT_MODEL_ID", "1234", "model_manager", "default_model_id", "1234"),
        ("WORKER__LISTEN", "[::1]:9", "worker", "listen", Address("::1", 9)),
        ("VOICES__PACKAGES", "[]", "voices", "packages", ()),
    ],
)
def test_a_variable_is_read_as_the_kind_of_value_its_key_has(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, section: str, key: str, value: Any
) -> None:
    monkeypatch.setenv(f"GREENROOM_{variable}", text)
    assert getattr(getattr(load_config(), section), key) == value


def test_a_whole_section_can_come_from_a_variable_and_a_key_of_it_from_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GREENROOM_WORKER", "{max_sessions: 7, max_streams: 8}")
    monkeypatch.setenv("GREENROOM_WORKER__MAX_STREAMS", "9")
    worker = load_config().worker
    assert (worker.max_sessions, worker.max_streams) == (7, 9)


def test_models_of_the_environment_replace_those_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("models: [{model_id: one, adapter: tone}]")
    monkeypatch.setenv("GREENROOM_MODELS", '[{"model_id": "two", "adapter": "tone"}]')
    assert [model.model_id for model in load_config(file).models] == ["two"]


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "SERVER", "CACHE_DIR", "SOMETHING"):
        monkeypatch.setenv(f"GREENROOM_{name}", "x")
    assert load_config() == Config()


def test_a_misspelt_variable_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_MODEL_MANGER__TTL_MS", "0")
    with pytest.raises(ConfigError, match="did you mean `model_manager`"):
        load_config()


def test_a_wrong_value_is_blamed_on_who_said_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_MODEL_MANAGER__TTL_MS", "soon")
    assert refused(file, "worker: {}").startswith(
        "GREENROOM_MODEL_MANAGER__TTL_MS: model_manager.ttl_ms: must be a valid integer"
    )
    monkeypatch.delenv("GREENROOM_MODEL_MANAGER__TTL_MS")
    assert refused(file, "worker: {}", model_manager={"ttl_ms": "soon"}).startswith(
        "the command line: model_manager.ttl_ms:"
    )
    assert refused(file, "model_manager: {ttl_ms: soon}").startswith("FILE: model_manager.ttl_ms:")


def test_every_problem_is_kept_and_the_first_is_the_message(file: Path) -> None:
    file.write_text("model_manager: {ttl_ms: soon, resident_cap: 0}\nvoice: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert len(caught.value.problems) == 3
    assert str(caught.value).endswith("(and 2 more problems).")
    file.write_text("model_manager: {ttl_ms: soon, resident_cap: 0}\n")
    with pytest.raises(ConfigError, match=r"\(and one more problem\)\.$"):
        load_config(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model_manager: {ttl: 5}", "model_manager.ttl: is not a key that Greenroom knows; "),
        ("model_manager: {residentcap: 5}", "did you mean `resident_cap`?"),
        ("modelmanager: {}", "did you mean `model_manager`?"),
        ("zzz: 1", "zzz: is not a key that Greenroom knows; remove it."),
        ("1: 2", "1: is not a key that Greenroom knows"),
        ("model_manager: [1]", "model_manager: must be a mapping"),
        ("model_manager: {preload_model_ids: amy}", "must be a list, such as [a, b]"),
        ("model_manager: {resident_cap: 0}", "must be greater than or equal to 1 (it is 0)."),
        ("model_manager: {cap_policy: maybe}", "must be 'soft' or 'hard' (it is 'maybe')."),
        ("model_manager: {memory_budget_mb: .inf}", "must be a finite number"),
        ("model_manager: {memory_budget_mb: .nan}", "memory_budget_mb: must be"),
        ("model_manager: {memory_budget_mb: 0}", "must be greater than 0"),
        ("model_manager: {min_residency_ms: -1}", "must be greater than or equal to 0"),
        ("worker: {max_text_chars: 20001}", "must be less than or equal to 20000"),
        ("models: [{adapter: tone}]", "models[0].model_id: is missing; add it."),
        ("models: [{model_id: x}]", "needs either `adapter` (and `path`) or `variant_of`"),
        ("models: [{model_id: x, adapter: a, variant_of: b}]", "needs either"),
        ("models: [{model_id: x, variant_of: b, path: c}]", "remove `path`"),
        ("models: [{model_id: 'a b', adapter: tone}]", "printable and without spaces"),
        ('models: [{model_id: "a\\e[31m", adapter: tone}]', "printable and without spaces"),
        ("models: [{model_id: '', adapter: tone}]", "models[0].model_id"),
        ("models: [{model_id: x, adapter: tone, aliases: ['']}]", "models[0].aliases[0]"),
        ("models: [{model_id: x, adapter: tone, aliases: y}]", "must be a list"),
        ("- a", "must be a mapping"),
        ("just words", "must be a mapping"),
        ("a: [", "line 1: is not YAML"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is there twice; keep one."),
        ("model_manager: {ttl_ms: 1, ttl_ms: 2}", "the key 'ttl_ms' is there twice"),
        (
            "model_manager: {default_model_id: a, default_model_id: b}",
            "the key 'default_model_id' is there twice",
        ),
        ("model_manager: {default_model_id: [a, b]}", "model_manager.default_model_id: must be"),
        ("? [a]\n: b\n", "line 1: a key must be text"),
    ],
)
def test_what_cannot_work_is_refused_with_the_file_the_key_and_the_fix(
    file: Path, content: str, words: str
) -> None:
    message = refused(file, content)
    assert message.startswith("FILE: ")
    assert words in message


def test_a_merge_key_of_yaml_is_not_taken_for_a_repetition(file: Path) -> None:
    file.write_text("x: &x {max_sessions: 3}\nworker: {<<: *x, max_streams: 4}\n")
    with pytest.raises(ConfigError, match="x: is not a key"):
        load_config(file)


@pytest.mark.parametrize(
    "address", ["here", "localhost:", ":50051", "127.0.0.1:99999", "host:-1", "unix:", "a:1²"]
)
def test_an_address_that_is_none_is_refused(file: Path, address: str) -> None:
    assert "must be HOST:PORT" in refused(file, f"worker: {{listen: '{address}'}}")


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:50051", "host:0", "unix:/run/x", "unix:x"])
def test_an_address_may_be_a_host_and_port_or_a_unix_socket(address: str) -> None:
    assert str(load_config(overrides={"worker": {"listen": address}}).worker.listen) == address


def test_a_cap_smaller_than_what_is_always_loaded_is_refused(file: Path) -> None:
    message = refused(
        file, "model_manager: {default_model_id: a, preload_model_ids: [b, c, a], resident_cap: 2}"
    )
    assert "resident_cap 2 is smaller than the 3 models" in message
    assert "raise resident_cap or preload fewer" in message


def test_a_cap_that_just_fits_is_accepted() -> None:
    settings = ManagerSettings(
        default_model_id="a", preload_model_ids=("b", "a", "b"), resident_cap=2
    )
    assert settings.resident_cap == 2


@pytest.mark.parametrize("kind", ["absent", "folder", "latin-1"])
def test_a_file_that_cannot_be_read_is_an_error_of_one_line(file: Path, kind: str) -> None:
    if kind == "folder":
        file.mkdir()
    if kind == "latin-1":
        file.write_bytes("# grün".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_paths_of_a_file_are_relative_to_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file.write_text(
        "voices: {directories: [here, /there, ~/home]}\n"
        "models: [{model_id: x, adapter: piper, path: v/x.onnx}, {model_id: t, adapter: tone}]\n"
    )
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("HOME", "/users/me")
    config = load_config(file)
    assert config.voices.directories == (f"{file.parent}/here", "/there", "/users/me/home")
    assert [model.path for model in config.models] == [f"{file.parent}/v/x.onnx", None]


def test_paths_of_flags_and_of_the_environment_are_relative_to_where_we_are(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("voices: {directories: [mine]}")
    monkeypatch.setenv("GREENROOM_MODELS", "[{model_id: x, adapter: piper, path: x.onnx}]")
    config = load_config(file, {"voices": {"directories": ["yours"]}})
    assert config.voices.directories == ("yours",)
    assert config.models[0].path == "x.onnx"


def test_paths_are_relative_to_the_name_of_the_file_not_to_what_it_links_to(
    tmp_path: Path,
) -> None:
    real = tmp_path / "..data" / "worker.yaml"
    real.parent.mkdir()
    real.write_text("voices: {directories: [voices]}")
    link = tmp_path / "worker.yaml"
    link.symlink_to(real)
    assert load_config(link).voices.directories == (f"{tmp_path}/voices",)


def test_without_directories_the_usual_places_are_searched() -> None:
    places = voice_directories()
    assert places[0] == Path("voicepacks")
    assert places[1].parts[-2:] == ("greenroom", "voices")


def test_an_installed_voice_package_is_a_place_to_search() -> None:
    (place,) = voice_directories(VoiceSettings(directories=()))
    assert list(place.rglob("*.onnx"))


@pytest.mark.parametrize("package", ["no_such_package_here", "os.path", "../x", "", "json.tool"])
def test_a_package_that_is_absent_or_no_name_is_skipped(package: str) -> None:
    assert voice_directories(VoiceSettings(directories=(), packages=(package,))) == []


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().model_manager.ttl_ms = 5  # type: ignore[misc]


SECRET = "very-secret-1"


@pytest.mark.parametrize(
    "keys",
    [
        f"[{{key: {SECRET}, role: king}}]",
        f"[{{key: {SECRET} with-spaces}}]",
        f"[{{key: {SECRET}, max_streams: 0}}]",
        f"[{{key: [{SECRET}]}}]",
        f"[{SECRET}]",
        f"{SECRET}",
        "[{key: short}]",
    ],
)
def test_no_refusal_shows_a_key(file: Path, keys: str) -> None:
    told = refused(file, f"worker: {{api_keys: {keys}}}")
    assert "worker.api_keys" in told
    assert SECRET not in told
    assert "short'" not in told


def test_keys_come_from_the_environment_and_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GREENROOM_WORKER__API_KEYS", f'[{{key: "{SECRET}", role: admin}}]')
    settings = load_config().worker
    (key,) = settings.api_keys
    assert (key.key.get_secret_value(), key.role) == (SECRET, "admin")
    assert SECRET not in repr(settings)


def test_aliases_are_added_to_those_of_openai(file: Path) -> None:
    file.write_text("worker: {aliases: {nova: my-voice, house: null}}")
    aliases = load_config(file).worker.aliases
    assert (aliases["nova"], aliases["house"], aliases["alloy"]) == ("my-voice", None, None)


def test_http_may_be_off(file: Path) -> None:
    file.write_text("worker: {http_listen: null}")
    assert load_config(file).worker.http_listen is None
    assert "must be HOST:PORT" in refused(file, "worker: {http_listen: '8880'}")


def test_a_key_that_belongs_elsewhere_is_not_suggested_in_its_own_place(tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text("name: kitchen\n")
    with pytest.raises(ConfigError, match="name: is not a key that Greenroom knows") as refusal:
        load_config(file)
    assert "did you mean `name`" not in str(refusal.value)
