"""`greenroom cluster up`: many workers on this machine, on Ray Serve, behind one address."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import threading
from typing import Annotated

import typer

from greenroom.cli.shared_options import ConfigFile, Settings, configuration, prefixing_problems
from greenroom.cli.terminal.console import CommandError, print_text, spinner
from greenroom.config.schema import Config
from greenroom.errors import ConfigError

_NO_RAY = "this needs Ray Serve; `pip install 'greenroom[ray]'` brings it."


def up(
    config: ConfigFile = None,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=256, help="How many workers.")
    ] = 2,
    most: Annotated[
        int | None,
        typer.Option(
            "--most",
            min=1,
            max=256,
            metavar="NUMBER",
            help="Above `--replicas`: workers come and go between the two, as callers wait.",
        ),
    ] = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Serve gRPC too, at all addresses.")] = False,
    settings: Settings = None,
) -> None:
    """Start a cluster on this machine.

    Each worker has the whole configuration, and its own places; a request goes to the one that has
    its voice, or has it soonest. HTTP is served at `worker.http_listen`. With `--grpc`, gRPC is
    served at the port of `worker.listen`, to whoever reaches this machine, so it needs
    `worker.api_keys`. Ends at Ctrl-C or SIGTERM, after what is being said.
    """
    if importlib.util.find_spec("ray") is None:
        raise CommandError(_NO_RAY)
    found = configuration(config, settings)
    with prefixing_problems(config):
        found = _checked(found, grpc=grpc)
    _serve(found, replicas, max(replicas, most or 0), grpc=grpc)


def _checked(config: Config, *, grpc: bool) -> Config:
    """Return the configuration with its default voice; raises `ConfigError`."""
    from greenroom.catalog.catalog import Catalog
    from greenroom.catalog.default_voice import check_ids, with_default
    from greenroom.worker.settings_check import worker_problems

    catalog = Catalog.from_config(config)
    config = with_default(config, catalog)
    check_ids(config.model_manager, catalog)
    problems = tuple(worker_problems(config.worker, catalog))
    if problems:
        raise ConfigError(problems[0], problems=problems)
    if grpc and not (config.worker.api_keys or config.worker.allow_unauthenticated):
        raise ConfigError(
            "gRPC of a cluster can be reached by others and there are no keys; add "
            "worker.api_keys, leave --grpc out, or set worker.allow_unauthenticated."
        )
    return config


def _serve(config: Config, least: int, most: int, *, grpc: bool) -> None:
    from greenroom.cluster.ray_serve.local_cluster import local_cluster

    over = threading.Event()
    with contextlib.ExitStack() as stack:
        with spinner("starting Ray, then the workers …"):
            stack.enter_context(local_cluster(config, least, most, speaks_grpc=grpc))
        # Ray's own handler of SIGTERM would end this process at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: over.set())
        print_text(f"ready: {_described(config, least, most, grpc=grpc)}; Ctrl-C ends it")
        over.wait()


def _described(config: Config, least: int, most: int, *, grpc: bool) -> str:
    address = config.worker.http_listen
    assert address is not None
    count = f"{least}" if least == most else f"{least} to {most}"
    also = f", gRPC at port {config.worker.listen.port}" if grpc else ""
    return f"{count} workers at {address.url}{also}"
