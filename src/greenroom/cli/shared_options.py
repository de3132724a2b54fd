"""The options and arguments that several commands share, and the configuration they select."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenroom.config.address import DEFAULT_LISTEN, Address
from greenroom.config.api_key import is_sendable
from greenroom.errors import ConfigError
from greenroom.untrusted.printable import printable_repr

if TYPE_CHECKING:
    from greenroom.config.schema import Config

DEFAULT_SERVER = DEFAULT_LISTEN

_HTTP = "http://"

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
        help="Override a key of the configuration, such as `model_manager.ttl_ms=0`. Repeatable.",
    ),
]


def _address(server: str | None) -> str | None:
    """Return an address as gRPC takes it; refuse what is none, also from the environment.

    Of the URL of a worker's page it is the address: the worker says which port is the right one.
    """
    if server is not None and server.startswith(_HTTP):
        server = server.removeprefix(_HTTP).rstrip("/")
    try:
        return None if server is None else str(Address.parse_target(server))
    except ValueError as error:
        raise typer.BadParameter(f"{error}, not {printable_repr(server)}.") from None


def _http_address(server: str | None) -> str | None:
    """Return an address, or the URL below which a worker is reached, as through a proxy."""
    if server is not None and server.startswith(("https://", _HTTP)) and server.isprintable():
        return server.rstrip("/")
    return _address(server)


_VARIABLE = "GREENROOM_ADDRESS"

Server = Annotated[
    str,
    typer.Option(
        "--address",
        envvar=[_VARIABLE, "GREENROOM_SERVER"],
        metavar="HOST:PORT",
        callback=_address,
        help="The worker to ask.",
    ),
]
HttpServer = Annotated[
    str,
    typer.Option(
        "--address",
        envvar=[_VARIABLE, "GREENROOM_URL", "GREENROOM_HTTP_SERVER"],
        metavar="HOST:PORT",
        callback=_http_address,
        help="The worker to ask, over HTTP: where that is served, or where gRPC is.",
    ),
]
MaybeServer = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar=[_VARIABLE, "GREENROOM_SERVER"],
        metavar="HOST:PORT",
        callback=_address,
        help="Ask this worker; without one, do it in this process.",
    ),
]

_FORMER_NAMES = dict.fromkeys(("server", "http-server", "url"), "address")


def current_name(option: str) -> str:
    """Return an option's name for one that it had before, which goes on to work unmentioned."""
    return _FORMER_NAMES.get(option, option)


def _addresses(servers: str | None) -> str | None:
    """Return addresses as gRPC takes them; refuse what is none."""
    if servers is None:
        return None
    return ",".join(str(_address(each.strip())) for each in servers.split(","))


Servers = Annotated[
    str | None,
    typer.Option(
        "--servers",
        metavar="HOST:PORT,...",
        callback=_addresses,
        help="Ask these workers instead of one: to speak, the one that has the voice, or has it "
        "soonest.",
    ),
]


Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="URL",
        help="Ask the cluster at this address instead of one worker, such as http://host:8880.",
    ),
]


def _sendable(key: str | None) -> str | None:
    """Return a key without the end of line that it has in a file; a wrong one is not shown."""
    key = None if key is None else key.strip()
    if key is not None and not is_sendable(key):
        raise typer.BadParameter("an API key has printable ASCII characters and no spaces.")
    return key


Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="GREENROOM_API_KEY",
        metavar="KEY",
        callback=_sendable,
        help="One of the worker's keys, where it has some: with the role `admin` to change what is "
        "in memory. Better in the environment.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def configuration(path: Path | None, settings: Sequence[str] | None = None) -> Config:
    """Return the configuration of `--config` and `--set`; raises `ConfigError`."""
    # Commands that ask a worker read no configuration: they are spared Pydantic and NumPy.
    from greenroom.config.schema import load_config

    return load_config(path, overrides_of(settings or ()))


@contextlib.contextmanager
def prefixing_problems(path: Path | None) -> Iterator[None]:
    """Put the name of the configuration before each problem that the block raises about it."""
    try:
        yield
    except ConfigError as error:
        name = display_name(path)
        problems = [f"{name}: {problem}" for problem in error.problems]
        raise ConfigError(f"{name}: {error}", problems=problems) from error


def display_name(path: Path | None) -> str:
    """Return the name of a configuration in messages: its path, if it is a file."""
    return "the configuration" if path is None else str(path)


def overrides_of(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values of `--set`, nested like the file."""
    from greenroom.config.sources import nested  # with YAML, as in `configuration`

    return nested((key.split("."), value) for key, value in map(pair_of, settings))


def options_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return the values of `--option`, by key."""
    return dict(map(pair_of, pairs))


def pair_of(text: str) -> tuple[str, str]:
    """Return the key and the value of `KEY=VALUE`."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise typer.BadParameter(f"{text!r} must be KEY=VALUE.")
    return key.strip(), value


def as_dict(value: Any) -> dict[str, Any]:
    """Return a dataclass as a dictionary, for JSON."""
    return dataclasses.asdict(value)
