"""`greenroom config check`: find all problems of a configuration without loading a model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import unknown_ids, with_default
from greenroom.catalog.devices import CPU
from greenroom.catalog.discovery import problem_with
from greenroom.catalog.missing_engines import missing_engines
from greenroom.cli.shared_options import (
    AsJson,
    Settings,
    configuration,
    display_name,
    prefixing_problems,
)
from greenroom.cli.terminal.console import print_error, print_json, print_table, print_text
from greenroom.concurrency.cores import cores
from greenroom.config.schema import Config, voice_directories
from greenroom.errors import ConfigError
from greenroom.memory import usage
from greenroom.memory.budget import budgets_for
from greenroom.memory.footprint_store import FootprintStore
from greenroom.untrusted.printable import printable


def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            envvar="GREENROOM_CONFIG",
            help="Configuration file; without one, the defaults and the environment.",
        ),
    ] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check a configuration and the files it names.

    Loads no model.
    Prints what was found, or one line for each problem; the exit code is 1 if there is one.
    """
    name, found, wrong = display_name(file), {}, []
    try:
        config = configuration(file, settings)
        with prefixing_problems(file):
            catalog = Catalog.from_config(config, warn=False)
        config = with_default(config, catalog)
        wrong = [f"{name}: {problem}" for problem in problems(config, catalog)]
        found = {} if wrong else dict(_found(config, catalog))
    except ConfigError as error:
        wrong = list(error.problems)
    if as_json:
        print_json({"file": name, "problems": wrong, "found": found})
    for problem in () if as_json else wrong:
        print_error(problem)
    if wrong:
        raise typer.Exit(1)
    if not as_json:
        print_text(f"{name} works.")
        print_table(("WHAT", "FOUND"), list(found.items()), wraps=("FOUND",))


def problems(config: Config, catalog: Catalog) -> Iterator[str]:
    """Yield what would fail later with a configuration that could be read; a sentence each."""
    from greenroom.worker.settings_check import worker_problems

    yield from _missing_voice_places(config)
    yield from catalog.problems
    for problem in unknown_ids(config.model_manager, catalog):
        yield f"model_manager.{problem}"
    yield from worker_problems(config.worker, catalog)
    for spec in catalog:
        if (reason := problem_with(spec)) is not None:
            yield f"model {spec.model_id}: {reason}"
    yield from missing_engines(catalog)
    yield from _unknown_adapters(config)
    yield from _over_budget(config, catalog)


def _unknown_adapters(config: Config) -> Iterator[str]:
    for name in config.model_manager.adapter_isolation:
        if name not in registry.names():
            there = ", ".join(registry.names())
            problem = f"no adapter is registered as {printable(name)!r}; there are: {there}."
            yield f"model_manager.adapter_isolation: {problem}"


def _missing_voice_places(config: Config) -> Iterator[str]:
    for place in config.voices.directories or ():
        if not Path(os.path.expanduser(place)).is_dir():
            yield f"voices.directories: there is no folder {place}; create it or remove it."
    if "packages" in config.voices.model_fields_set:
        for package in config.voices.packages:
            if not voice_directories(
                config.voices.model_copy(update={"directories": (), "packages": (package,)})
            ):
                yield f"voices.packages: {package!r} is not installed; install or remove it."


def _over_budget(config: Config, catalog: Catalog) -> Iterator[str]:
    """Compare the models that are always loaded with the budgets of their devices.

    Of measured ones the least counts that loads have proved, of others the expected footprint."""
    settings = config.model_manager
    footprints = FootprintStore()
    footprints.read()
    names = {settings.default_model_id, *settings.preload_model_ids}
    ids = {catalog.get(name).model_id for name in names if name in catalog}
    need: Counter[str] = Counter()
    for spec in map(catalog.get, ids):
        footprints.inspect(spec)
        expected = footprints.expected(spec)
        need[spec.device] += (expected.least or 0) if expected.measured else expected.footprint
    for device, budget in budgets_for(settings, need).items():
        if need[device] > budget:
            fixed = usage.gpu_budget_bytes(device) is not None
            yield (
                f"model_manager.{'preload_model_ids' if fixed else 'memory_budget_mb'}: "
                f"{_megabytes(budget)} are too little for the default and preload_model_ids, which "
                f"take about {_megabytes(need[device])}{f' of {device}' if fixed else ''}; "
                f"{'' if fixed else 'raise it or '}preload fewer."
            )


def _budgets(config: Config, catalog: Catalog) -> list[tuple[str, int]]:
    devices = {CPU: None, **dict.fromkeys(sorted(spec.device for spec in catalog))}
    return list(budgets_for(config.model_manager, devices).items())


def _megabytes(size: float) -> str:
    return f"{size / usage.MIB:,.0f} MB"


def _found(config: Config, catalog: Catalog) -> Iterator[tuple[str, str]]:
    settings = config.model_manager
    yield "default model", catalog.get(settings.default_model_id).model_id
    yield "preloaded", ", ".join(settings.preload_model_ids) or "-"
    yield "room", f"{settings.resident_cap} models ({settings.cap_policy})"
    for device, budget in _budgets(config, catalog):
        yield f"memory for models{'' if device == CPU else f' on {device}'}", _megabytes(budget)
    yield "speech on", f"{cores()} cores"
    yield "kept idle", "for ever" if settings.ttl_ms < 0 else f"{settings.ttl_ms / 1000:g} s"
    yield "catalog", f"{len(catalog)} models"
    places = voice_directories(config.voices)
    yield "voices from", "\n".join(f"{p}{'' if p.is_dir() else ' (not there)'}" for p in places)
    yield "listens at", str(config.worker.listen)
    yield "HTTP at", str(config.worker.http_listen or "-")
    yield "Wyoming at", str(config.worker.wyoming_listen or "-")
