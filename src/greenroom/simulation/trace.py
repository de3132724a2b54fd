"""A trace: who asked for which model when, how long each speech took, what the models cost.

Times are in seconds from the beginning of the trace, sizes in bytes. A trace is complete and in
order: whatever reads one from outside has checked it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

DEFAULT_LOAD_S = 0.3
"""Of a model whose loads a trace does not tell: a medium Piper voice without a prepared form."""

DEFAULT_FOOTPRINT = 180 * 1024 * 1024
"""Of a model whose size a trace does not tell: a medium Piper voice without a prepared form."""


@dataclass(frozen=True, slots=True)
class TracedModel:
    """One model of a trace."""

    model_id: str
    loads_s: tuple[float, ...] = (DEFAULT_LOAD_S,)
    """How long its loads took, warmup included, in order; when all have been used, the first is
    next. Never empty."""
    unload_s: float = 0.0
    footprint: int = DEFAULT_FOOTPRINT
    device: str = "cpu"


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests for speech in order of arrival: `at`, `model` and `speech_s` belong together."""

    models: tuple[TracedModel, ...]
    at: NDArray[np.float64]
    model: NDArray[np.int32]
    """Of each request, the index in `models`."""
    speech_s: NDArray[np.float64]
    """Of each request, how long it keeps its model, once it has it."""
    resident: tuple[int, ...] = ()
    """Models that are in memory when it begins."""
    pinned: tuple[int, ...] = ()
    """Models that are exempt from eviction and expiry, all the time."""
    waited_s: NDArray[np.float64] | None = None
    """Of each request, how long it really waited; NaN for one that was refused. `None` where
    nothing was recorded."""
    loads: int | None = None
    """How many loads there really were while it was recorded."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """What was left out while it was read, with counts."""

    def __len__(self) -> int:
        return len(self.at)

    @property
    def seconds(self) -> float:
        """From its beginning to the last arrival."""
        return float(self.at[-1]) if len(self.at) else 0.0
