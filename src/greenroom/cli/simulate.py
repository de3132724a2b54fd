"""`greenroom simulate`: what other settings would do with the same requests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from greenroom.cli.shared_options import (
    AsJson,
    ConfigFile,
    Settings,
    configuration,
    pair_of,
)
from greenroom.cli.terminal.console import (
    CommandError,
    print_json,
    print_note,
    print_table,
    spinner,
)
from greenroom.config.schema import ManagerSettings
from greenroom.errors import duration
from greenroom.simulation.comparison import Column, compare, variations
from greenroom.simulation.comparison_plot import draw
from greenroom.simulation.csv_trace import parse_assumptions
from greenroom.simulation.trace import Trace
from greenroom.simulation.trace_sources import read_trace
from greenroom.statistics import counted

_HEADINGS = (
    *("SETTINGS", "COLD", "LOADS", "OPTIMUM", "REFUSED", "TURNS"),
    *("P50", "P95", "P99", "JAIN", "MODELS", "MEMORY"),
)
_SECTION = "model_manager"


def simulate(
    trace: Annotated[
        str,
        typer.Argument(
            metavar="TRACE",
            help="A file that `greenroom record` wrote, a CSV of GenTD26, of Azure Functions or of "
            "ServeGen, or `generate:KEY=VALUE,...`.",
        ),
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=VALUE,VALUE",
            help="Compare these values of a key of `model_manager`, such as `resident_cap=2,4,8`. "
            "Repeatable: all combinations are compared.",
        ),
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            "--assume",
            metavar="KEY=VALUE",
            help="What a CSV does not tell: speech_s, load_s, footprint_mb; hours, how much of it "
            "is played; scale, by what ServeGen's rates are multiplied; seed. Repeatable.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the comparison, as SVG."),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Play a trace of requests against other settings.

    What decides is the ledger that serves, under a virtual clock. For each of the settings: COLD
    are the requests that waited for their model, LOADS how often one was loaded, OPTIMUM how often
    at least, for who knows the future and has as many places (`-` where callers were refused, as
    that serves all); P50, P95 and P99 say how long
    requests waited for their model, those that found it ready included; JAIN is 1 where all models
    are served alike; MODELS and MEMORY are means over time. Loads and speeches take as long as the
    trace says; callers that were refused do not ask again.

    Generated traces have the keys models, rate (requests a second), hours, zipf, burst (requests
    that come together), night (its rate as a share of the day's), drift (the share of models that
    change rank each hour), speech_s, load_s, footprint_mb and seed.
    """
    varied = [_varied(pair) for pair in vary or ()]
    combinations = list(variations(varied))
    configured = [(each, _manager(config, settings, each)) for each in combinations]
    with spinner("reading the trace"):
        found = read_trace(trace, parse_assumptions(list(map(pair_of, assume or ()))))
    columns = []
    for column in compare(found, configured):
        columns.append(column)
        if len(configured) > 1 and not as_json:
            print_note(f"{column.name}: {column.outcome.loads:,} loads")
    if plot is not None:
        _draw(plot, columns, _remark(found))
    if as_json:
        print_json({"trace": _facts(found), "columns": [each.as_dict() for each in columns]})
        return
    print_table(_HEADINGS, list(map(_row, columns)), right=_HEADINGS[1:])
    print_note(_remark(found))


def _draw(file: Path, columns: list[Column], title: str) -> None:
    try:
        file.write_text(draw(columns, title), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.") from None


def _varied(pair: str) -> tuple[str, list[str]]:
    key, _, values = pair.partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not found:
        raise typer.BadParameter(f"--vary takes KEY=VALUE,VALUE, not {pair!r}.")
    return key.strip().removeprefix(f"{_SECTION}."), found


def _manager(
    config: Path | None, settings: list[str] | None, varied: dict[str, str]
) -> ManagerSettings:
    pairs = [f"{_SECTION}.{key}={value}" for key, value in varied.items()]
    return configuration(config, [*(settings or ()), *pairs]).model_manager


def _row(column: Column) -> tuple[str, ...]:
    found = column.outcome
    return (
        column.name,
        f"{found.cold_share:.2%}",
        f"{found.loads:,}",
        "-" if column.fewest_loads is None else f"{column.fewest_loads:,}",
        f"{found.refusals:,}",
        f"{found.turns:,}",
        *(f"{wait:.3f} s" for wait in (found.wait_p50, found.wait_p95, found.wait_p99)),
        f"{found.jain:.3f}",
        f"{found.mean_residents:,.1f}",
        f"{found.mean_bytes / 1024**2:,.0f} MB",
    )


def _facts(trace: Trace) -> dict[str, object]:
    return {
        "requests": len(trace),
        "models": len(trace.models),
        "seconds": trace.seconds,
        "skipped": dict(trace.skipped),
    }


def _remark(trace: Trace) -> str:
    left_out = "".join(f"; left out: {count:,} {why}" for why, count in trace.skipped.items())
    return (
        f"{counted(len(trace), 'request')} for {counted(len(trace.models), 'model')} "
        f"in {duration(trace.seconds)}{left_out}"
    )
