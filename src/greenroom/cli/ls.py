"""`greenroom ls`: list the catalog, without asking a worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greenroom.adapter import ModelSpec
from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import NO_VOICE
from greenroom.catalog.discovery import problem_with
from greenroom.catalog.missing_engines import missing_engine_of, missing_engines
from greenroom.catalog.on_disk import is_prepared, size_of
from greenroom.cli.shared_options import (
    AsJson,
    ConfigFile,
    Settings,
    configuration,
    prefixing_problems,
)
from greenroom.cli.terminal.console import print_json, print_note, print_table
from greenroom.memory.usage import MIB

_MOST_PROBLEMS = 20

_PREPARED = {True: "yes", False: "no", None: "-"}


def ls(config: ConfigFile = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """List every model that could be loaded.

    Asks no worker, and loads nothing. PREPARED says whether a form of it that loads faster is
    kept, `-` where there is none to make. What could not be loaded after all, as its files are not
    whole or its engine is not installed, is named below the list.
    """
    found = configuration(config, settings)
    with prefixing_problems(config):
        catalog = Catalog.from_config(found, warn=False)
    if as_json:
        print_json([_entry(spec) for spec in catalog])
        _print_some(catalog.problems, "are left out")
        return
    rows = [
        (
            spec.model_id,
            _adapter_of(spec),
            ", ".join(spec.languages),
            ", ".join(spec.aliases),
            _shown_size(spec),
            _PREPARED[is_prepared(spec)],
        )
        for spec in catalog
    ]
    headings = ("MODEL", "ADAPTER", "LANGUAGES", "ALIASES", "SIZE", "PREPARED")
    print_table(headings, rows, wraps=("LANGUAGES", "ALIASES"), right=("SIZE",))
    _print_problems(catalog)


def _print_problems(catalog: Catalog) -> None:
    """Print what was left out, and what is wrong with models of the catalog."""
    _print_some(catalog.problems, "are left out")
    found = ((spec.model_id, problem_with(spec)) for spec in catalog)
    _print_some([f"model {name}: {why}" for name, why in found if why], "could not be loaded")
    for sentence in missing_engines(catalog):
        print_note(sentence)
    if not len(catalog):
        print_note(NO_VOICE)


def _print_some(problems: Sequence[str], are: str) -> None:
    """Print problems below the list, in a bounded number of lines."""
    for problem in problems[:_MOST_PROBLEMS]:
        print_note(problem)
    if len(problems) > _MOST_PROBLEMS:
        more = len(problems) - _MOST_PROBLEMS
        print_note(f"{more} more {are}; `greenroom config check` names them.")


def _entry(spec: ModelSpec) -> dict[str, Any]:
    return {
        "model_id": spec.model_id,
        "adapter": _adapter_of(spec),
        "path": None if spec.path is None else str(spec.path),
        "path_exists": spec.path is None or Path(spec.path).exists(),
        "size_bytes": size_of(spec),
        "device": spec.device,
        "options": dict(spec.options),
        "languages": spec.languages,
        "tags": spec.tags,
        "aliases": spec.aliases,
        "prepared": is_prepared(spec),
        "problem": problem_with(spec) or missing_engine_of(spec),
    }


def _adapter_of(spec: ModelSpec) -> str:
    return spec.adapter if isinstance(spec.adapter, str) else spec.adapter.__name__


def _shown_size(spec: ModelSpec) -> str:
    if spec.path is None:
        return "-"
    size = size_of(spec)
    if size is not None:
        return f"{size / MIB:,.0f} MB"
    return "a folder" if Path(spec.path).is_dir() else "missing"
