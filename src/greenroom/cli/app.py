"""The tree of commands, and the options of `greenroom` itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

import typer

from greenroom.cli.command_tree import CommandTree, command_of, with_commands
from greenroom.cli.shared_options import current_name
from greenroom.cli.terminal.console import configure_logging, print_text

_MODULES = {
    "init": "init",
    "serve": "serve",
    "say": "say",
    "ls": "ls",
    "ps": "ps",
    "top": "top",
    "search": "search",
    "show": "search",
    "pull": "pull",
    "rm": "rm",
    "prepare": "prepare",
    "load": "load",
    "unload": "load",
    "pin": "pin",
    "unpin": "pin",
    "explain": "explain",
    "footprints": "footprints",
    "record": "record",
    "simulate": "simulate",
    "demo": "demo.command",
}
"""Where each command is: the function of its name, in this module."""

_CONFIG = {"check": "config_check"}
_SERVICE = {"install": "service"}
_CLUSTER = {"up": "cluster_up"}

app = typer.Typer(
    name="greenroom",
    cls=CommandTree,
    context_settings={"token_normalize_func": current_name},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _group(name: str) -> typer.Typer:
    return typer.Typer(
        name=name, cls=CommandTree, add_completion=False, rich_markup_mode="markdown"
    )


config = _group("config")
service = _group("service")
cluster = _group("cluster")


def command() -> Any:
    """Return the whole command line as a command of click, with all others below it."""
    groups = {
        "config": partial(with_commands, config, _makers(_CONFIG)),
        "service": partial(with_commands, service, _makers(_SERVICE)),
        "cluster": partial(with_commands, cluster, _makers(_CLUSTER)),
    }
    return with_commands(app, {**_makers(_MODULES), **groups})


def _makers(modules: Mapping[str, str]) -> dict[str, partial[Any]]:
    return {name: partial(command_of, module, name) for name, module in modules.items()}


def _print_version(wanted: bool) -> None:
    if wanted:
        print_text(f"greenroom {version('greenroom')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def greenroom(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what happens to standard error.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and tracebacks of errors.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keeps speech voices ready to speak."""
    serving = context.invoked_subcommand == "serve"
    level = logging.INFO if verbose or serving else logging.WARNING
    configure_logging(logging.DEBUG if debug else level, never_waits=serving)
    if context.invoked_subcommand is None:
        _help(context)


@config.callback(invoke_without_command=True)
def configuration(context: typer.Context) -> None:
    """Look at configuration files."""
    if context.invoked_subcommand is None:
        _help(context)


@service.callback(invoke_without_command=True)
def of_the_system(context: typer.Context) -> None:
    """Run a worker as a service of the system."""
    if context.invoked_subcommand is None:
        _help(context)


@cluster.callback(invoke_without_command=True)
def clusters(context: typer.Context) -> None:
    """Run many workers as one."""
    if context.invoked_subcommand is None:
        _help(context)


def _help(context: typer.Context) -> None:
    print_text(context.get_help())
    raise typer.Exit
