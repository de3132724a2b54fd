"""`greenroom ls`: list the catalog, without asking a worker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from greenroom.adapter import ModelSpec
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.catalog.discovery import problem_with
from greenroom.cli.shared_options import (
    AsJson,
    ConfigFile,
    Settings,
    configuration,
    prefixing_problems,
)
from greenroom.cli.terminal.console import print_json, print_note, print_table
from greenroom.memory.usage import MIB
from greenroom.untrusted.printable import error_message

logger = logging.getLogger(__name__)

_MOST_PROBLEMS = 20

_PREPARED = {True: "yes", False: "no", None: "-"}


def ls(config: ConfigFile = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """List every model that could be loaded.

    Asks no worker, and loads nothing. PREPARED says whether a form of it that loads faster is
    kept, `-` where there is none to make. What could not be loaded after all, as its files are not
    whole, is named below the list.
    """
    found = configuration(config, settings)
    with prefixing_problems(config):
        catalog = Catalog.from_config(found)
    if as_json:
        print_json([_entry(spec) for spec in catalog])
        return
    rows = [
        (
            spec.model_id,
            _adapter_of(spec),
            ", ".join(spec.languages),
            ", ".join(spec.aliases),
            _size_of(spec),
            _PREPARED[_is_prepared(spec)],
        )
        for spec in catalog
    ]
    headings = ("MODEL", "ADAPTER", "LANGUAGES", "ALIASES", "SIZE", "PREPARED")
    print_table(headings, rows, wraps=("LANGUAGES", "ALIASES"), right=("SIZE",))
    _print_problems(catalog)


def _print_problems(catalog: Catalog) -> None:
    """Print what is wrong with models of the catalog, in a bounded number of lines."""
    found = [(spec.model_id, why) for spec in catalog if (why := problem_with(spec)) is not None]
    for model_id, why in found[:_MOST_PROBLEMS]:
        print_note(f"model {model_id}: {why}")
    if len(found) > _MOST_PROBLEMS:
        more = len(found) - _MOST_PROBLEMS
        print_note(f"{more} more could not be loaded; `greenroom config check` names them.")


def _entry(spec: ModelSpec) -> dict[str, Any]:
    return {
        "model_id": spec.model_id,
        "adapter": _adapter_of(spec),
        "path": None if spec.path is None else str(spec.path),
        "path_exists": spec.path is None or Path(spec.path).exists(),
        "size_bytes": _bytes_of(spec),
        "device": spec.device,
        "options": dict(spec.options),
        "languages": spec.languages,
        "tags": spec.tags,
        "aliases": spec.aliases,
        "prepared": _is_prepared(spec),
        "problem": problem_with(spec),
    }


def _adapter_of(spec: ModelSpec) -> str:
    return spec.adapter if isinstance(spec.adapter, str) else spec.adapter.__name__


def _is_prepared(spec: ModelSpec) -> bool | None:
    try:
        preparation = registry.resolve(spec.adapter).preparation
        return None if preparation is None else preparation.is_prepared(spec)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - an adapter is anybody's code; the list goes on
        logger.warning("model %s: is_prepared raised: %s", spec.model_id, error_message(error))
        return None


def _bytes_of(spec: ModelSpec) -> int | None:
    path = None if spec.path is None else Path(spec.path)
    return path.stat().st_size if path is not None and path.is_file() else None


def _size_of(spec: ModelSpec) -> str:
    if spec.path is None:
        return "-"
    size = _bytes_of(spec)
    if size is not None:
        return f"{size / MIB:,.0f} MB"
    return "a folder" if Path(spec.path).is_dir() else "missing"
