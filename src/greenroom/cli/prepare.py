"""`greenroom prepare`: prepare models, so that they load fast from the first time on.

It knows no engine: what an adapter's `preparation` says is all that it asks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from rich.markup import escape

from greenroom.adapter import ModelSpec, Preparation
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.cli.model_argument import model_names
from greenroom.cli.shared_options import (
    AsJson,
    ConfigFile,
    Settings,
    as_dict,
    configuration,
    prefixing_problems,
)
from greenroom.cli.terminal.console import (
    CommandError,
    err,
    print_json,
    print_note,
    print_text,
    spinner,
)
from greenroom.concurrency.child_process import Child
from greenroom.effects.preparation import LIMIT_S
from greenroom.errors import ConfigError
from greenroom.memory.usage import MIB

logger = logging.getLogger(__name__)

_END_S = 10.0
"""A process that was asked to end may clean up for this long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one command, for all models that it prepares."""

    models: tuple[str, ...]
    """Those of them that were asked for."""
    outcome: Literal["prepared", "prepared already", "not prepared"]
    problem: str | None = None

    def __str__(self) -> str:
        said = {
            "prepared": "prepared",
            "prepared already": "was prepared already",
            "not prepared": f"cannot be prepared: {self.problem}",
        }
        return f"{', '.join(self.models)}: {said[self.outcome]}"


def prepare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Ids or aliases; else all that can be prepared.",
            autocompletion=model_names,
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Prepare nothing; remove prepared voices whose file is gone or has changed, those "
            "made for another runtime or processor, and the least recently used over the limit.",
        ),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="With `--prune`: remove every prepared voice.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prepare voices, so that they load fast from the first time on.

    A worker prepares each voice after its first load; this does it ahead. It takes some seconds,
    and several times the voice's size in memory, for each. A voice that cannot be prepared is
    loaded from its own file, as ever. The exit code is 1 if one that was named is not prepared.
    """
    if everything and not prune:
        raise typer.BadParameter("--all goes with --prune.")
    if prune and models:
        raise typer.BadParameter("--prune is for the whole store; name no models with it.")
    if prune:
        _prune(everything=everything, as_json=as_json)
        return
    reasons = [preparation.switched_off() for preparation in _preparations()]
    if reasons and all(reasons):
        raise CommandError(reasons[0])
    with prefixing_problems(config):
        catalog = Catalog.from_config(configuration(config, settings))
    chosen = {catalog.get(name).model_id: catalog.get(name) for name in models or ()}
    specs = chosen.values() if models else filter(_can_be_prepared, catalog)
    outcomes = _outcomes(specs)
    if as_json:
        print_json([as_dict(outcome) for outcome in outcomes])
    for outcome in () if as_json else outcomes:
        print_text(str(outcome))
    if models and any(outcome.problem for outcome in outcomes):
        raise typer.Exit(1)


def _prune(*, everything: bool, as_json: bool) -> None:
    try:
        with spinner("looking at what is prepared"):
            freed = sum(engine.prune(everything=everything) for engine in _preparations())
    except OSError as error:
        raise CommandError(f"{error}; make the folder writable, or remove it.") from error
    if as_json:
        print_json({"freed_bytes": freed})
    else:
        print_text(f"{freed / MIB:,.1f} MB came free")


def _preparations() -> Iterator[Preparation]:
    """Yield how each registered engine prepares, whether the catalog has models of it or not."""
    for name in registry.names():
        try:
            preparation = registry.resolve(name).preparation
        except ConfigError as error:  # a package that does not import: the others have their turn
            logger.warning("%s", error)
            continue
        if preparation is not None:
            yield preparation


def _can_be_prepared(spec: ModelSpec) -> bool:
    preparation = registry.resolve(spec.adapter).preparation
    return preparation is not None and preparation.is_prepared(spec) is not None


def _outcomes(specs: Iterable[ModelSpec]) -> list[Outcome]:
    """Run the commands one after the other, each once however many models it prepares."""
    commands: dict[tuple[str, ...], list[tuple[Preparation, ModelSpec]]] = {}
    outcomes = []
    for spec in specs:
        preparation = registry.resolve(spec.adapter).preparation
        if reason := _why_not(spec, preparation):
            outcomes.append(Outcome((spec.model_id,), "not prepared", reason))
        elif preparation is not None:
            commands.setdefault(tuple(preparation.command(spec)), []).append((preparation, spec))
    with spinner("preparing") as status:
        for number, (command, models) in enumerate(commands.items(), 1):
            names = tuple(spec.model_id for _, spec in models)
            preparation, first = models[0]
            if preparation.is_prepared(first):
                outcomes.append(Outcome(names, "prepared already"))
                continue
            step = f"preparing {names[0]}, {number} of {len(commands)}"
            status.update(escape(step))
            if not err.is_terminal:
                print_note(step)
            if problem := _run(command):
                reason = f"{problem}; its own file serves."
                outcomes.append(Outcome(names, "not prepared", reason))
            else:
                outcomes.append(Outcome(names, "prepared"))
    return outcomes


def _why_not(spec: ModelSpec, preparation: Preparation | None) -> str:
    """Return why a model cannot even be tried, or nothing."""
    try:
        registry.resolve(spec.adapter).check_spec(spec)
    except ConfigError as error:
        return str(error)
    if preparation is not None and (reason := preparation.switched_off()):
        return reason
    if not _can_be_prepared(spec):
        return "its adapter, device and options leave nothing to prepare."
    return ""


def _run(command: Sequence[str]) -> str:
    """Run a command to its end; return what went wrong, or nothing.

    It gets no Ctrl-C of its own, so that it is ended once, and can clean up.
    """
    try:
        child = Child(command)
    except (OSError, ValueError) as error:
        return f"it cannot be started: {error}"
    return child.wait(LIMIT_S, patience=_END_S)
