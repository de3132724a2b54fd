"""Figures as a worker answers them, for tests of whoever shows them."""

from __future__ import annotations

import dataclasses
from typing import Any

from greenroom.worker.figures import WorkerFigures
from greenroom.worker.speech_log import SpeechFigures


def figures(**given: Any) -> WorkerFigures:
    """Return figures of a worker at which nothing happens."""
    values: dict[str, Any] = {
        each.name: 0
        for each in dataclasses.fields(WorkerFigures)
        if each.default is dataclasses.MISSING
    }
    values |= {"boot_id": "one", "version": "1.0", "ready": True, "draining": False}
    values |= {"recent": SpeechFigures(), "models": {}, "ended": {}, "refused": {}, "crashes": {}}
    for name in ("up_s", "capacity_used", "window_s", "audio_s", "late_s"):
        values[name] = 0.0
    return WorkerFigures(**(values | given))
