"""Small traces, written down by hand or drawn."""

from __future__ import annotations

import numpy as np

from greenroom.simulation.trace import Trace, TracedModel

MIB = 1024 * 1024


def trace(
    *requests: tuple[float, int, float],
    models: int = 0,
    load_s: float = 1.0,
    unload_s: float = 0.0,
    resident: tuple[int, ...] = (),
    pinned: tuple[int, ...] = (),
) -> Trace:
    """Return a trace of (arrival, model, length of speech), all models alike."""
    at, model, speech_s = zip(*requests, strict=True) if requests else ((), (), ())
    count = max([models, *(number + 1 for number in (*model, *resident, *pinned))])
    return Trace(
        models=tuple(
            TracedModel(f"model-{number}", (load_s,), unload_s, 100 * MIB)
            for number in range(count)
        ),
        at=np.array(at, np.float64),
        model=np.array(model, np.int32),
        speech_s=np.array(speech_s, np.float64),
        resident=resident,
        pinned=pinned,
    )
