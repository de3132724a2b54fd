"""`greenroom footprints`: show the measured memory of models, or delete it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from greenroom.cli.shared_options import AsJson
from greenroom.cli.terminal.console import (
    CommandError,
    print_json,
    print_note,
    print_table,
    print_text,
)
from greenroom.memory.footprint_store import FootprintRecord, FootprintStore
from greenroom.memory.usage import MIB


def footprints(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Ids of models, as the list shows them; else all."),
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget what was measured of these models.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="With `--forget`: forget every model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what models were measured to take when they were loaded, or forget it.

    Asks no worker. What is booked for a load comes from here: what the model itself says, else the
    middle one of its latest loads. ALONE counts the loads with nothing else in memory: only those
    may refuse a model that takes more than the budget. A worker that runs goes on with what it
    knows; start it again to have it forget.
    """
    if everything and not forget:
        raise typer.BadParameter("--all goes with --forget.")
    if forget and bool(models) == everything:
        raise typer.BadParameter("--forget wants the ids of models, or --all.")
    known = FootprintStore()
    if forget:
        _forget(known, None if everything else models, as_json=as_json)
        return
    known.read()
    wanted = set(models or ())
    records = [each for each in known.records() if not wanted or each.model_id in wanted]
    if missing := wanted - {record.model_id for record in records}:
        raise CommandError(
            f"nothing was measured of {', '.join(sorted(missing))}; "
            "`greenroom footprints` lists what was."
        )
    records.sort(key=lambda record: record.key)
    if as_json:
        print_json([_entry(record) for record in records])
    elif records:
        _print(records)
    else:
        print_note("nothing was measured yet; loads are, and a worker writes that down at its end.")


def _forget(known: FootprintStore, models: list[str] | None, *, as_json: bool) -> None:
    try:
        count = known.forget(models)
    except OSError as error:
        raise CommandError(
            f"{known.path} cannot be written: {error.strerror or error}; make its folder writable."
        ) from error
    if as_json:
        print_json({"forgotten": count})
        return
    if not count:
        print_note("nothing was known of them; `greenroom footprints` lists what is.")
    print_text(f"{count} {'record' if count == 1 else 'records'} forgotten")


def _print(records: list[FootprintRecord]) -> None:
    headings = ("MODEL", "FORM", "BOOKED", "SAYS", "LOADS TOOK", "ALONE")
    rows = [
        (
            record.model_id,
            record.form or "-",
            _size(record.anonymous),
            _size(None if record.stated is None else record.stated.anonymous),
            _sizes(each.anonymous for each in record.measured),
            str(sum(each.alone for each in record.measured)),
        )
        for record in records
    ]
    print_table(headings, rows, wraps=("LOADS TOOK",), right=("BOOKED", "SAYS", "ALONE"))


def _sizes(sizes: Iterable[int]) -> str:
    """Return sizes with their unit once: a narrow table has room for them."""
    numbers = ", ".join(f"{size / MIB:,.0f}" for size in sizes)
    return f"{numbers} MB" if numbers else "-"


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / MIB:,.0f} MB"


def _entry(record: FootprintRecord) -> dict[str, Any]:
    return {
        "model_id": record.model_id,
        "form": record.form,
        "booked_bytes": record.anonymous,
        "stated_bytes": None if record.stated is None else record.stated.anonymous,
        "mapped_bytes": record.mapped,
        "measured": [{"bytes": each.anonymous, "alone": each.alone} for each in record.measured],
    }
