"""Makes traces: how often each model is asked for, in bursts, by day and by night, drifting.

A specification is `generate:` with `key=value` pairs between commas, as in
`generate:models=1000,rate=100,hours=24,seed=7`. The same one always makes the same trace.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from greenroom.errors import TraceError
from greenroom.simulation.trace import DEFAULT_LOAD_S, Trace, TracedModel

PREFIX = "generate:"
"""What a specification begins with, where a path is no less welcome."""

MOST_REQUESTS = 50_000_000
"""They take 20 bytes each, and an hour of simulation at 10 µs is about that of a patient person."""

_DAY_S = 86_400.0
_EPOCH_S = 3_600.0
"""How often popularity drifts."""
_BURST_GAP_S = 5.0
"""The mean pause between the requests of a burst."""
_SPREAD = 0.6
"""Of the logarithms of lengths of speech."""
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """What a generated trace is like; each field is a key of the specification."""

    models: float = 100
    rate: float = 10.0
    """Requests a second, on average over whole days."""
    hours: float = 1.0
    zipf: float = 1.0
    """The model of rank r is asked for in proportion to 1 / r ** zipf."""
    burst: float = 1.0
    """How many requests for one model come together, on average, some seconds apart; 1 is none."""
    night: float = 1.0
    """The rate at midnight as a share of that at noon; in between it follows a cosine."""
    drift: float = 0.0
    """The share of the models that get another rank each hour."""
    speech_s: float = 3.0
    """How long a speech keeps its model, on average; lengths are log-normal."""
    load_s: float = DEFAULT_LOAD_S
    footprint_mb: float = 180.0
    seed: float = 1


def parse_workload(text: str) -> Workload:
    """Return the workload of a specification; raises `TraceError`, which names the key."""
    given: dict[str, float] = {}
    keys = [field.name for field in fields(Workload) if field.default is not MISSING]
    for pair in filter(None, text.removeprefix(PREFIX).split(",")):
        key, _, value = pair.partition("=")
        if key.strip() not in keys:
            raise TraceError(f"{PREFIX} knows no {key.strip()!r}; its keys are {', '.join(keys)}.")
        try:
            given[key.strip()] = float(value)
        except ValueError:
            raise TraceError(f"{PREFIX} {key.strip()} must be a number, not {value!r}.") from None
    workload = Workload(**given)
    _check(workload)
    return workload


def _check(workload: Workload) -> None:
    limits = {
        "models": (1, 1_000_000),
        "rate": (1e-6, 1e6),
        "hours": (1e-3, 24 * 366),
        "zipf": (0, 10),
        "burst": (1, 10_000),
        "night": (0, 1),
        "drift": (0, 1),
        "speech_s": (0, 86_400),
        "load_s": (0, 3_600),
        "footprint_mb": (0, 1e6),
        "seed": (0, 2**53),
    }
    for key, (least, most) in limits.items():
        value = getattr(workload, key)
        if not least <= value <= most:  # also false for NaN
            raise TraceError(f"{PREFIX} {key} must be from {least:g} to {most:g}, not {value:g}.")
        if key in ("models", "seed") and value != int(value):
            raise TraceError(f"{PREFIX} {key} must be a whole number, not {value:g}.")
    if workload.rate * workload.hours * 3_600 > MOST_REQUESTS:
        raise TraceError(f"{PREFIX} that is over {MOST_REQUESTS:,} requests; give fewer hours.")


def generate(workload: Workload) -> Trace:
    """Return the trace of a workload."""
    random = np.random.default_rng(int(workload.seed))
    count, seconds = int(workload.models), workload.hours * 3_600
    at = _arrivals(workload, seconds, random)
    model = _models(workload, at, random)
    if workload.burst > 1:
        at, model = _in_bursts(workload.burst, at, model, seconds, random)
    digits = len(str(count - 1))
    return Trace(
        models=tuple(
            TracedModel(
                f"model-{number:0{digits}}",
                (workload.load_s,),
                footprint=round(workload.footprint_mb * _MIB),
            )
            for number in range(count)
        ),
        at=at,
        model=model,
        speech_s=_lengths(workload.speech_s, len(at), random),
    )


def _arrivals(
    workload: Workload, seconds: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return when requests come, or bursts of them: a Poisson process whose rate has a day."""
    # By the inverse of its integral: as many as are expected in all, and each at its own moment.
    grid = np.linspace(0.0, seconds, max(2, math.ceil(seconds / 60) + 1))
    swing = (1 - workload.night) / (1 + workload.night)
    angle = 2 * math.pi / _DAY_S
    expected = workload.rate / workload.burst * (grid - swing * np.sin(angle * grid) / angle)
    count = random.poisson(expected[-1])
    moments: NDArray[np.float64]
    moments = np.interp(np.sort(random.random(count)) * expected[-1], expected, grid)
    return moments


def _models(
    workload: Workload, at: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.int32]:
    """Return whom each asks for; ranks change hands from hour to hour."""
    count = int(workload.models)
    weights = np.arange(1, count + 1, dtype=np.float64) ** -workload.zipf
    shares = np.cumsum(weights / weights.sum())
    ranks = np.minimum(np.searchsorted(shares, random.random(len(at))), count - 1)
    model_of = random.permutation(count).astype(np.int32)
    moved = round(workload.drift * count)
    if moved < 2:
        return model_of[ranks]
    model = np.empty(len(at), np.int32)
    borders = np.searchsorted(at, np.arange(1, int(at[-1] // _EPOCH_S) + 2) * _EPOCH_S)
    begin = 0
    for end in borders.tolist():
        model[begin:end] = model_of[ranks[begin:end]]
        places = random.choice(count, moved, replace=False)
        model_of[places] = model_of[np.roll(places, 1)]
        begin = end
    return model


def _in_bursts(
    size: float,
    at: NDArray[np.float64],
    model: NDArray[np.int32],
    seconds: float,
    random: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return each request followed by others for the same model, of which all are in time."""
    sizes = random.geometric(1 / size, len(at))
    starts = np.cumsum(sizes) - sizes
    gaps = random.exponential(_BURST_GAP_S, int(sizes.sum()))
    gaps[starts] = 0.0
    since = np.cumsum(gaps)
    since -= np.repeat(since[starts], sizes)
    moments = np.repeat(at, sizes) + since
    order = np.argsort(moments, kind="stable")
    order = order[: np.searchsorted(moments[order], seconds, side="right")]
    return moments[order], np.repeat(model, sizes)[order]


def _lengths(mean: float, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    if not mean:
        return np.zeros(count)
    return random.lognormal(math.log(mean) - _SPREAD**2 / 2, _SPREAD, count)
