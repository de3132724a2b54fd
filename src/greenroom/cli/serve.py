"""`greenroom serve`: run a worker in the foreground."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import check_ids, with_default
from greenroom.cli.shared_options import ConfigFile, Settings, configuration, prefixing_problems
from greenroom.cli.terminal.console import FLUSH_S, print_text
from greenroom.cli.terminal.interrupts import end_at_once
from greenroom.cli.terminal.log_writer import LineWriter
from greenroom.errors import first_few

if TYPE_CHECKING:
    from greenroom.worker.app import Worker


def serve(
    config: ConfigFile = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 is any."),
    ] = None,
    http_listen: Annotated[
        str | None,
        typer.Option(
            "--http-listen", metavar="HOST:PORT", help="Where to serve HTTP; port 0 is any."
        ),
    ] = None,
    wyoming_listen: Annotated[
        str | None,
        typer.Option(
            "--wyoming-listen",
            metavar="HOST:PORT",
            help="Where to serve Wyoming, for Home Assistant, whose usual port is 10200; else not.",
        ),
    ] = None,
    settings: Settings = None,
) -> None:
    """Start a worker.

    It loads the default model and the preloads, and serves over gRPC and HTTP. Ends at Ctrl-C,
    SIGTERM or when its terminal closes, after what is being said; a second one ends it soon, a
    third at once. SIGHUP has it read its configuration again.
    """
    flags = list(settings or ())
    if listen is not None:
        flags.append(f"worker.listen={listen}")
    if http_listen is not None:
        flags.append(f"worker.http_listen={http_listen}")
    if wyoming_listen is not None:
        flags.append(f"worker.wyoming_listen={wyoming_listen}")
    with end_at_once():  # there is nothing to clean up until the worker takes the signals itself
        _serve(config, flags)


def _serve(config: Path | None, flags: list[str]) -> None:
    from greenroom.worker.app import logger
    from greenroom.worker.app import serve as serve_worker

    found = configuration(config, flags)
    with prefixing_problems(config):
        catalog = Catalog.from_config(found)
        found = with_default(found, catalog)
        check_ids(found.model_manager, catalog)

    lines = LineWriter(print_text)  # the event loop waits for no reader of standard output

    def ready(worker: Worker) -> None:
        logger.setLevel(logging.NOTSET)
        lines.put(_ready(worker))

    if logger.isEnabledFor(logging.INFO) and not logger.isEnabledFor(logging.DEBUG):
        logger.setLevel(logging.WARNING)  # this command prints the start itself, in plainer words
    try:
        asyncio.run(
            serve_worker(
                found,
                ready,
                listening=lambda worker: lines.put(_listening(worker)),
                catalog=catalog,
                reread=lambda: configuration(config, flags),
            )
        )
    finally:
        logger.setLevel(logging.NOTSET)
        lines.close(FLUSH_S)


def _listening(worker: Worker) -> str:
    settings = worker.manager.settings
    wanted = [settings.default_model_id, *settings.preload_model_ids]
    places = str(worker.address)
    if worker.http_address is not None:
        places += f" and {worker.http_address.url}"
    if worker.wyoming_server is not None:
        places += f" and {worker.wyoming_server.url}"
    return f"listening on {places}; loading {first_few(wanted)}"


def _ready(worker: Worker) -> str:
    residents = worker.manager.list_resident()
    ready = first_few([f"{r.model_id} ({r.load_s + r.warmup_s:.2f} s)" for r in residents])
    models = len(worker.manager.catalog)
    room = min(worker.manager.settings.resident_cap, models)
    return f"ready: {ready}; room for {room} of {models} models; Ctrl-C ends it"
