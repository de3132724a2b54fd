"""Reads traces that others have published, from files that are not Greenroom's to pass on.

A file is known by the columns that it must have; others are not looked at. What a trace does not
tell is assumed (`Assumptions`).

    Alibaba GenTD26      gmt_create, exec_time_seconds, checkpoint_model_version_id: a base model is
                         a model here, and an image is a speech. Loads, where the file of the same
                         name with `basemodel_load_ms` is beside it, are drawn from those.
                         https://github.com/alibaba/clusterdata (cluster-trace-v2026-GenAI)
    Azure Functions,     func_name, invoke_time_ms: a function is a model. What a cold start takes
    as Iluvatar has it   beyond a warm one is its load, where the file with `metadata` in the place
                         of `trace` is beside it.
    ServeGen             client, window_start_s, rate_per_s, family, p1: a client is a model, whose
                         requests are drawn window by window, from gaps of the family and shape that
                         were fitted, at the rate that was seen. arXiv:2505.09999
"""

from __future__ import annotations

import csv
import datetime
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from greenroom.errors import TraceError
from greenroom.simulation.generator import MOST_REQUESTS
from greenroom.simulation.trace import DEFAULT_FOOTPRINT, DEFAULT_LOAD_S, Trace, TracedModel

Row = Mapping[str, str]
ReadBeside = Callable[[str, str], str | None]
"""Returns the text of the file beside the trace that has another word in its name, if it is there;
the first argument is the word, the second what stands for it."""

_MIB = 1024 * 1024
_WINDOW_S = 600.0
"""ServeGen's."""
_DRAWN_LOADS = 64
"""Of each model, where loads are known but not whose."""

_FAMILIES = ("Gamma", "Weibull")
_HOLES = "rows with a hole or what is no number"
_BACK = "rows whose time runs back"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is taken where a trace does not tell it."""

    speech_s: float = 3.0
    load_s: float = DEFAULT_LOAD_S
    footprint_mb: float = DEFAULT_FOOTPRINT / _MIB
    scale: float = 1.0
    """By what ServeGen's rates are multiplied."""
    hours: float = math.inf
    """How much of the trace is played."""
    seed: float = 1


def parse_assumptions(pairs: Sequence[tuple[str, str]]) -> Assumptions:
    """Return assumptions from keys and values; raises `TraceError`, which names the key."""
    keys = [field.name for field in fields(Assumptions)]
    given: dict[str, float] = {}
    for key, value in pairs:
        if key not in keys:
            raise TraceError(f"nothing can be assumed of {key!r}, but of {', '.join(keys)}.")
        number = _number(value)
        if number is None:
            raise TraceError(f"{key} must be a number that is not below 0, not {value!r}.")
        given[key] = number
    return Assumptions(**given)


def read_csv(lines: Sequence[str], assumed: Assumptions, beside: ReadBeside) -> Trace:
    """Return the trace of a CSV file; raises `TraceError` for columns of no known format."""
    rows = csv.DictReader(lines)
    columns = set(rows.fieldnames or ())
    for needed, read in (
        ({"gmt_create", "exec_time_seconds", "checkpoint_model_version_id"}, _gentd26),
        ({"func_name", "invoke_time_ms"}, _azure),
        ({"client", "window_start_s", "rate_per_s", "family", "p1"}, _servegen),
    ):
        if needed <= columns:
            try:
                return read(rows, assumed, beside)
            except csv.Error as error:
                raise TraceError(f"it is no CSV: {error}.") from None
    raise TraceError(
        "it has the columns of no trace that is known: neither gmt_create, exec_time_seconds and "
        "checkpoint_model_version_id, nor func_name and invoke_time_ms, nor client, window_start_s,"
        " rate_per_s, family and p1."
    )


def _gentd26(rows: Iterator[Row], assumed: Assumptions, beside: ReadBeside) -> Trace:
    def request(row: Row) -> tuple[float, str, float] | None:
        at, took = _moment(row["gmt_create"]), _number(row["exec_time_seconds"])
        model = row["checkpoint_model_version_id"]
        return None if at is None or took is None or not model else (at, model, took)

    requests, skipped = _in_order(map(request, rows), assumed)
    names = sorted({model for _, model, _ in requests})
    text = beside("lora_request_trace", "basemodel_load_ms")
    found = [] if text is None else _loads_ms(text)
    random = np.random.default_rng(int(assumed.seed))
    models = []
    for name in names:
        drawn = random.choice(found, _DRAWN_LOADS) / 1000 if found else [assumed.load_s]
        size = round(assumed.footprint_mb * _MIB)
        models.append(TracedModel(name, tuple(map(float, drawn)), footprint=size))
    return _trace(requests, models, skipped)


def _azure(rows: Iterator[Row], assumed: Assumptions, beside: ReadBeside) -> Trace:
    text = beside("trace", "metadata")
    facts = {} if text is None else {row["func_name"]: row for row in _metadata(text)}

    def fact(name: str, column: str) -> float | None:
        return _number(facts.get(name, {}).get(column))

    def request(row: Row) -> tuple[float, str, float] | None:
        at, name = _number(row["invoke_time_ms"]), row["func_name"]
        warm = fact(name, "warm_dur_ms")
        speech = assumed.speech_s if warm is None else warm / 1000
        return None if at is None or not name else (at / 1000, name, speech)

    requests, skipped = _in_order(map(request, rows), assumed)
    models = []
    for name in sorted({model for _, model, _ in requests}):
        cold, warm = fact(name, "cold_dur_ms"), fact(name, "warm_dur_ms")
        known = cold is not None and warm is not None
        load = max(0.0, (cold or 0.0) - (warm or 0.0)) / 1000 if known else assumed.load_s
        size = fact(name, "mem_mb")
        size = assumed.footprint_mb if size is None else size
        models.append(TracedModel(name, (load,), footprint=round(size * _MIB)))
    return _trace(requests, models, skipped)


def _metadata(text: str) -> list[Row]:
    rows = csv.DictReader(text.splitlines())
    return list(rows) if "func_name" in (rows.fieldnames or ()) else []


def _servegen(rows: Iterator[Row], assumed: Assumptions, beside: ReadBeside) -> Trace:
    skipped: Counter[str] = Counter()
    random = np.random.default_rng(int(assumed.seed))
    index: dict[str, int] = {}
    moments: list[NDArray[np.float64]] = []
    owners: list[NDArray[np.int32]] = []
    last: dict[str, float] = {}
    count = 0
    for row in rows:
        start, rate, shape = map(_number, (row["window_start_s"], row["rate_per_s"], row["p1"]))
        client, family = row["client"], row["family"]
        if start is None or rate is None or not shape or not client or family not in _FAMILIES:
            skipped[_HOLES] += 1
            continue
        if start <= last.get(client, -1.0):
            skipped[_BACK] += 1
            continue
        last[client] = start
        if start >= assumed.hours * 3600:
            continue
        model = index.setdefault(client, len(index))
        at = start + _renewals(family, shape, rate * assumed.scale, random)
        count += len(at)
        _check_count(count)
        moments.append(at)
        owners.append(np.full(len(at), model, np.int32))
    if not count:
        raise TraceError("the trace has no requests.")
    at, model_of = np.concatenate(moments), np.concatenate(owners)
    order = np.argsort(at, kind="stable")
    size = round(assumed.footprint_mb * _MIB)
    return Trace(
        tuple(TracedModel(name, (assumed.load_s,), footprint=size) for name in index),
        at[order],
        model_of[order],
        np.full(count, assumed.speech_s),
        skipped=skipped,
    )


def _renewals(
    family: str, shape: float, rate: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return when requests come in a window: gaps of a shape, at a rate on average."""
    expected = rate * _WINDOW_S
    if not expected:
        return np.zeros(0)
    count = math.ceil(expected + 10 * math.sqrt(expected) + 10)
    _check_count(count)
    # By the mean: the fitted scale is of all gaps, and does not keep to the rate of the window.
    if family == "Gamma":
        gaps = random.gamma(shape, 1 / (shape * rate), count)
    else:
        mean = math.exp(min(700.0, math.lgamma(1 + 1 / shape)))
        gaps = random.weibull(shape, count) / (mean * rate)
    # A window begins anywhere between two requests, not with one.
    at: NDArray[np.float64] = np.cumsum(gaps) - random.random() * gaps[0]
    return at[at < _WINDOW_S]


def _check_count(count: int) -> None:
    if count > MOST_REQUESTS:
        raise TraceError(
            f"that is over {MOST_REQUESTS:,} requests; assume fewer hours, or a smaller scale."
        )


def _in_order(
    found: Iterator[tuple[float, str, float] | None], assumed: Assumptions
) -> tuple[list[tuple[float, str, float]], Counter[str]]:
    """Return the requests from time 0 on, without those that cannot be placed."""
    skipped: Counter[str] = Counter()
    requests: list[tuple[float, str, float]] = []
    begin = latest = -math.inf
    for request in found:
        if request is None:
            skipped[_HOLES] += 1
            continue
        at, model, took = request
        if at < latest:
            skipped[_BACK] += 1
            continue
        latest = at
        begin = at if begin == -math.inf else begin
        if at - begin > assumed.hours * 3600:
            break
        requests.append((at - begin, model, took))
    if not requests:
        raise TraceError("the trace has no requests.")
    return requests, skipped


def _trace(
    requests: list[tuple[float, str, float]], models: list[TracedModel], skipped: Counter[str]
) -> Trace:
    index = {model.model_id: number for number, model in enumerate(models)}
    return Trace(
        tuple(models),
        np.array([at for at, _, _ in requests]),
        np.array([index[model] for _, model, _ in requests], np.int32),
        np.array([took for _, _, took in requests]),
        skipped=skipped,
    )


def _loads_ms(text: str) -> list[float]:
    rows = csv.DictReader(text.splitlines())
    return [each for row in rows if (each := _number(row.get("value"))) is not None]


def _number(text: str | None) -> float | None:
    """Return a number that is finite and not below 0; else `None`."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _moment(text: str | None) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text or "").replace(tzinfo=datetime.UTC).timestamp()
    except (ValueError, OverflowError):
        return None
