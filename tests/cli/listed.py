"""Models in memory, as a worker tells of them, for tests of what lists them."""

from __future__ import annotations

from typing import Any

from greenroom.ledger.state import State
from greenroom.statistics import ResidentStatistics


def resident(model_id: str, state: State = State.READY, **given: Any) -> ResidentStatistics:
    values: dict[str, Any] = {
        "refcount": 0,
        "owners": (),
        "pinned": False,
        "age_s": 100.0,
        "idle_s": 0.0,
        "expires_in_s": None,
        "footprint_mb": 123.4,
        "load_s": 0.5,
        "warmup_s": 0.1,
    }
    return ResidentStatistics(model_id, state, **(values | given))
