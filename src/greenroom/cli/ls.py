"""`greenroom ls` and `ps`: what could be loaded, and what is in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from greenroom.adapter import ModelSpec
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.cli.console import note, print_json, print_table
from greenroom.cli.shared_options import (
    DEFAULT_SERVER,
    AsJson,
    ConfigFile,
    Key,
    Server,
    Settings,
    about,
    configuration,
    described,
)
from greenroom.ledger.state import State
from greenroom.memory.usage import MIB
from greenroom.statistics import ResidentStatistics
from greenroom.untrusted.printable import reason_of

logger = logging.getLogger(__name__)

_PREPARED = {True: "yes", False: "no", None: "-"}


def ls(config: ConfigFile = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """List every model that could be loaded.

    Asks no worker, and loads nothing. PREPARED says whether a form of it that loads faster is
    kept, `-` where there is none to make.
    """
    found = configuration(config, settings)
    with about(config):
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


def ps(server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """List what is in a worker's memory.

    Who holds each model, how much memory it takes, and when it expires. MEMORY is what only
    unloading gives back; MAPPED are pages of files, which the system takes back when it must,
    and which a narrow terminal leaves out.
    """
    answer = asyncio.run(_ask(server, key))
    residents = [found for model in answer.models if (found := resident_of(model)) is not None]
    if as_json:
        print_json([described(resident) for resident in residents])
        return
    if residents:
        print_residents(residents)
    note(summary(answer, len(residents)))


def summary(answer: Any, count: int) -> str:
    """Return how full a worker is, in a line."""
    return (
        f"{count} of {answer.resident_cap} models, "
        f"{answer.footprint_mb:,.0f} of {answer.budget_mb:,.0f} MB"
    )


async def _ask(server: str, key: str | None) -> Any:
    from greenroom.worker.client import Client

    async with Client(server, key) as client:
        return await client.list_models()


def resident_of(model: Any) -> ResidentStatistics | None:
    """Return what a worker says of a model that is in its memory."""
    if not model.HasField("resident"):
        return None
    said = model.resident
    return ResidentStatistics(
        model_id=model.model_id,
        state=State(said.state),
        refcount=said.refcount,
        owners=tuple(said.owners),
        pinned=said.pinned,
        age_s=said.age_s,
        idle_s=said.idle_s,
        expires_in_s=said.expires_in_s if said.HasField("expires_in_s") else None,
        footprint_mb=said.footprint_mb,
        load_s=said.load_s,
        warmup_s=said.warmup_s,
        streams=said.streams,
        device=said.device,
        mapped_mb=said.mapped_mb,
    )


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
    }


def _adapter_of(spec: ModelSpec) -> str:
    return spec.adapter if isinstance(spec.adapter, str) else spec.adapter.__name__


def _is_prepared(spec: ModelSpec) -> bool | None:
    try:
        return registry.resolve(spec.adapter).is_prepared(spec)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - an adapter is anybody's code; the list goes on
        logger.warning("model %s: is_prepared raised: %s", spec.model_id, reason_of(error))
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


HEADINGS = ("MODEL", "STATE", "REFS", "HELD BY", "MEMORY", "MAPPED", "IDLE", "EXPIRES")
SHAPE: dict[str, tuple[str, ...]] = {
    "wraps": ("HELD BY",),
    "right": ("REFS", "MEMORY", "MAPPED", "IDLE", "EXPIRES"),
    "spare": ("MAPPED",),
}
"""How a table of residents gives way to a narrow terminal."""


def print_residents(residents: Iterable[ResidentStatistics], *, indent: int = 0) -> None:
    """Print a table of what is in memory."""
    print_table(HEADINGS, resident_rows(residents), **SHAPE, indent=indent)


def resident_rows(residents: Iterable[ResidentStatistics]) -> list[tuple[str, ...]]:
    """Return the rows of a table of what is in memory."""
    return [
        (
            resident.model_id,
            resident.state,
            str(resident.refcount),
            ", ".join(resident.owners),
            f"{resident.footprint_mb:,.0f} MB",
            f"{resident.mapped_mb:,.0f} MB",
            _seconds(resident.idle_s) if resident.idle_s else "-",
            _expiry(resident),
        )
        for resident in residents
    ]


def _expiry(resident: ResidentStatistics) -> str:
    if resident.expires_in_s is not None:
        return _seconds(resident.expires_in_s)
    if resident.pinned:
        return "pinned"
    idle = resident.state == State.READY and not resident.refcount and not resident.streams
    return "never" if idle else "-"


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes / 60:.1f} h"
