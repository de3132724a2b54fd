"""Reads a trace that `greenroom record` wrote; what cannot be used is left out and counted."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean, median
from typing import Any

import numpy as np

from greenroom.errors import TraceError
from greenroom.simulation.recorder import FORMAT, VERSION
from greenroom.simulation.trace import DEFAULT_FOOTPRINT, DEFAULT_LOAD_S, Trace, TracedModel

_MOST_S = 100 * 365 * 86_400.0


class _Facts:
    """What is known of each model."""

    def __init__(self) -> None:
        self.loads: defaultdict[str, list[float]] = defaultdict(list)
        self.unloads: defaultdict[str, list[float]] = defaultdict(list)
        self.footprints: dict[str, int] = {}
        self.devices: dict[str, str] = {}
        self.resident: dict[str, bool] = {}
        """Those in memory at the beginning; whether they are pinned."""


def is_recorded(first_line: str) -> bool:
    """Return whether a file with this first line is a recorded trace, of whatever version."""
    try:
        found = json.loads(first_line)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("kind") == FORMAT


def read_recorded(lines: Iterable[str]) -> Trace:
    """Return a recorded trace; raises `TraceError` for another version, and without requests."""
    facts, skipped = _Facts(), Counter[str]()
    requests: list[tuple[float, str, float, float]] = []
    for number, text in enumerate(lines):
        try:
            line = json.loads(text)
            if number == 0:
                _check_version(line)
            elif line["kind"] == "request":
                requests.append(_request(line))
            else:
                _note(line, facts, skipped)
        except (KeyError, TypeError, ValueError, AttributeError):
            skipped["lines that cannot be read"] += 1
    # A request is written at its end. What had begun before the recording is not wholly known.
    early = sum(each[0] < 0 for each in requests)
    if early:
        skipped["requests that had come before the recording"] = early
    kept = sorted(each for each in requests if each[0] >= 0)
    if not kept:
        raise TraceError("the trace has no requests; record a worker that is asked for speech.")
    return _trace(kept, facts, skipped)


def _check_version(line: Mapping[str, Any]) -> None:
    if line["version"] != VERSION:
        raise TraceError(
            f"the trace has version {line['version']!r}, and {VERSION} is read; record it again."
        )


def _request(line: Mapping[str, Any]) -> tuple[float, str, float, float]:
    """Return arrival, model, length and wait; the wait is NaN for one that was refused."""
    waited = _seconds(line["waited_s"])
    refused = line["outcome"] == "refused"
    at = float(line["at"])
    if not abs(at) < _MOST_S:
        raise ValueError(at)
    return at, _name(line), _seconds(line["speech_s"]), math.nan if refused else waited


def _note(line: Mapping[str, Any], facts: _Facts, skipped: Counter[str]) -> None:
    match line["kind"]:
        case "load":
            facts.loads[_name(line)].append(_seconds(line["took_s"]))
        case "unload":
            facts.unloads[_name(line)].append(_seconds(line["took_s"]))
        case "model":
            name = _name(line)
            facts.footprints[name] = int(_seconds(line["footprint"]))
            facts.devices[name] = str(line["device"])
            if line["resident"] is True:
                facts.resident[name] = line["pinned"] is True
        case "failed":
            skipped["loads that failed"] += 1
        case "lost":
            skipped["events lost while it was recorded"] += int(line["count"])
        case "end":
            pass
        case kind:
            skipped[f"lines of the kind {str(kind)[:40]!r}"] += 1


def _name(line: Mapping[str, Any]) -> str:
    name = line["model"]
    if not isinstance(name, str) or not name:
        raise ValueError(name)
    return name


def _seconds(value: Any) -> float:
    """Return a number that is no less than 0; raises `ValueError` or `TypeError`."""
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError(value)
    return number


def _trace(
    requests: list[tuple[float, str, float, float]], facts: _Facts, skipped: Counter[str]
) -> Trace:
    names = sorted({name for _, name, _, _ in requests} | set(facts.resident))
    index = {name: number for number, name in enumerate(names)}
    known = [took for loads in facts.loads.values() for took in loads]
    usual_load = median(known) if known else DEFAULT_LOAD_S
    usual_size = median(facts.footprints.values()) if facts.footprints else DEFAULT_FOOTPRINT
    return Trace(
        models=tuple(
            TracedModel(
                name,
                tuple(facts.loads[name]) or (usual_load,),
                fmean(facts.unloads[name] or [0.0]),
                facts.footprints.get(name, int(usual_size)),
                facts.devices.get(name, "cpu"),
            )
            for name in names
        ),
        at=np.array([each[0] for each in requests]),
        model=np.array([index[each[1]] for each in requests], np.int32),
        speech_s=np.array([each[2] for each in requests]),
        resident=tuple(index[name] for name in facts.resident),
        pinned=tuple(index[name] for name, pinned in facts.resident.items() if pinned),
        waited_s=np.array([each[3] for each in requests]),
        loads=len(known),
        skipped=skipped,
    )
