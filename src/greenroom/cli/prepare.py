"""`greenroom prepare`: have voices load fast from the first time on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from rich.markup import escape

from greenroom.adapter import ModelSpec
from greenroom.adapters.piper.prepared.fingerprint import default_store
from greenroom.adapters.piper.prepared.store.identity import StoreError
from greenroom.adapters.piper.prepared.store.lookup import SWITCH, switched_off
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.cli.shared_options import (
    AsJson,
    ConfigFile,
    Settings,
    about,
    configuration,
    described,
)
from greenroom.cli.terminal.console import CommandError, err, note, print_json, tell, working
from greenroom.concurrency.child_process import Child
from greenroom.errors import ConfigError
from greenroom.memory.usage import MIB
from greenroom.preparation import LIMIT_S

_END_S = 10.0
"""What has been asked to end may clean up for this long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one voice."""

    models: tuple[str, ...]
    """All that were asked for and speak with it."""
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
        typer.Argument(metavar="MODEL...", help="Ids or aliases; else all that can be prepared."),
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
    if switched_off():
        raise CommandError(f"{SWITCH} is off, so nothing prepared would be used; unset it.")
    with about(config):
        catalog = Catalog.from_config(configuration(config, settings))
    chosen = {catalog.get(name).model_id: catalog.get(name) for name in models or ()}
    specs = chosen.values() if models else filter(_can_be, catalog)
    outcomes = _outcomes(specs)
    if as_json:
        print_json([described(outcome) for outcome in outcomes])
    for outcome in () if as_json else outcomes:
        tell(str(outcome))
    if models and any(outcome.problem for outcome in outcomes):
        raise typer.Exit(1)


def _prune(*, everything: bool, as_json: bool) -> None:
    try:
        with working("looking at what is prepared"):
            freed = default_store().prune(everything=everything)
    except StoreError as error:
        raise CommandError(f"{error}; make the folder writable, or remove it.") from error
    if as_json:
        print_json({"freed_bytes": freed})
    else:
        tell(f"{freed / MIB:,.1f} MB came free")


def _can_be(spec: ModelSpec) -> bool:
    return registry.resolve(spec.adapter).is_prepared(spec) is not None


def _outcomes(specs: Iterable[ModelSpec]) -> list[Outcome]:
    """Prepare voices one after the other, each once however many models speak with it."""
    voices: dict[tuple[str, ...], list[ModelSpec]] = {}
    outcomes = []
    for spec in specs:
        if reason := _why_not(spec):
            outcomes.append(Outcome((spec.model_id,), "not prepared", reason))
        else:
            command = registry.resolve(spec.adapter).preparation(spec)
            voices.setdefault(tuple(command), []).append(spec)
    with working("preparing") as status:
        for number, (command, speakers) in enumerate(voices.items(), 1):
            names = tuple(spec.model_id for spec in speakers)
            if registry.resolve(speakers[0].adapter).is_prepared(speakers[0]):
                outcomes.append(Outcome(names, "prepared already"))
                continue
            step = f"preparing {names[0]}, {number} of {len(voices)}"
            status.update(escape(step))
            if not err.is_terminal:
                note(step)
            if problem := _carry_out(command):
                reason = f"{problem}; its own file serves."
                outcomes.append(Outcome(names, "not prepared", reason))
            else:
                outcomes.append(Outcome(names, "prepared"))
    return outcomes


def _why_not(spec: ModelSpec) -> str:
    """Return why a model cannot even be tried, or nothing."""
    try:
        registry.resolve(spec.adapter).check_spec(spec)
    except ConfigError as error:
        return str(error)
    if not _can_be(spec):
        return "its adapter, device and options leave nothing to prepare."
    return ""


def _carry_out(command: Sequence[str]) -> str:
    """Run a preparation to its end; return what went wrong, or nothing.

    It gets no Ctrl-C of its own, so that it is ended once, and can clean up.
    """
    try:
        child = Child(command)
    except (OSError, ValueError) as error:
        return f"it cannot be started: {error}"
    return child.wait(LIMIT_S, patience=_END_S)
