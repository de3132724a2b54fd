"""The tree of commands, and the options of `greenroom` itself."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.main import get_command

from greenroom.cli.cluster_up import up
from greenroom.cli.config_check import check
from greenroom.cli.demo.command import demo
from greenroom.cli.explain import explain
from greenroom.cli.footprints import footprints
from greenroom.cli.init import init
from greenroom.cli.load import load, unload
from greenroom.cli.ls import ls
from greenroom.cli.pin import pin, unpin
from greenroom.cli.prepare import prepare
from greenroom.cli.ps import ps
from greenroom.cli.pull import pull
from greenroom.cli.record import record
from greenroom.cli.rm import rm
from greenroom.cli.say import say
from greenroom.cli.search import search, show
from greenroom.cli.serve import serve
from greenroom.cli.service import install
from greenroom.cli.shared_options import current_name
from greenroom.cli.simulate import simulate
from greenroom.cli.terminal.console import configure_logging, print_text
from greenroom.cli.top import top

app = typer.Typer(
    name="greenroom",
    context_settings={"token_normalize_func": current_name},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
config = typer.Typer(rich_markup_mode="markdown")
service = typer.Typer(rich_markup_mode="markdown")
cluster = typer.Typer(rich_markup_mode="markdown")


def command() -> Any:
    """Return the whole command line as a command of click, with all others below it."""
    return get_command(app)


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


_COMMANDS = (
    init,
    serve,
    say,
    ls,
    ps,
    top,
    search,
    show,
    pull,
    rm,
    prepare,
    load,
    unload,
    pin,
    unpin,
    explain,
    footprints,
    record,
    simulate,
    demo,
)
for each in _COMMANDS:
    app.command()(each)
app.add_typer(config, name="config")
config.command()(check)
app.add_typer(service, name="service")
service.command()(install)
app.add_typer(cluster, name="cluster")
cluster.command()(up)
