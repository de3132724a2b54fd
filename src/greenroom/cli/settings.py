"""The options that several commands share, and the configuration they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from greenroom.config import DEFAULT_LISTEN, Config, load_config
from greenroom.overlay import assigned

DEFAULT_SERVER = DEFAULT_LISTEN

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="GREENROOM_CONFIG",
        metavar="FILE",
        help="Configuration file; without one, the defaults.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the configuration, such as model_manager.ttl_ms=0. Repeatable.",
    ),
]
Server = Annotated[
    str,
    typer.Option(
        "--server", envvar="GREENROOM_SERVER", metavar="HOST:PORT", help="The worker to ask."
    ),
]
MaybeServer = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="GREENROOM_SERVER",
        metavar="HOST:PORT",
        help="Ask this worker; without one, do it in this process.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def configuration(path: Path | None, settings: Sequence[str] | None = None) -> Config:
    """Return the configuration of `--config` and `--set`; raises `ConfigError`."""
    return load_config(path, overrides_of(settings or ()))


def overrides_of(settings: Sequence[str]) -> dict[str, Any]:
    """Return what `--set` says, nested like the file."""
    return assigned((key.split("."), value) for key, value in map(_pair, settings))


def options_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Return what `--option` says; what looks like a number is one."""
    return {key: _number(value) for key, value in map(_pair, pairs)}


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise typer.BadParameter(f"{text!r} must be KEY=VALUE.")
    return key.strip(), value


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
