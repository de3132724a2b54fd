"""Check and convert what an adapter states of its model, once, in the thread that loads it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from greenroom.adapter import TTSAdapter
from greenroom.errors import ModelLoadError, WarmupError
from greenroom.ledger.state import SharedPart
from greenroom.speech.host import StatedVoice
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.printable import one_line

HIGHEST_RATE = 1_000_000
"""Hz; no audio has more."""

MOST_BYTES = 1 << 60
MOST_THREADS = 1_000_000
"""Beyond these a value is a mistake, and no size and no number of threads."""

LONGEST_NAME = 200
"""Characters that are kept of a form's name, and of that of shared memory."""


@dataclass(frozen=True, slots=True)
class StatedMemory:
    """What a loaded model says it takes, in bytes; `None` is what it leaves to be measured."""

    anonymous: int | None = None
    mapped: int | None = None
    form: str = ""
    """Which form of the model is in memory."""
    shared: SharedPart | None = None
    """What it has in common with other models, beside its own."""


def voice_of(adapter: TTSAdapter, model_id: str) -> StatedVoice:
    """Return how the model speaks.

    Raises `WarmupError` for a rate that no audio can have, `ModelLoadError` for a `concurrency`
    that is not a number of threads.
    """
    rate: Any = adapter.sample_rate
    sample_rate = whole(rate, 1, HIGHEST_RATE)
    if sample_rate is None:
        raise WarmupError(model_id, f"it says it speaks at {_shown(rate)} Hz.")
    stated: Any = adapter.concurrency
    concurrency = whole(stated, 1, MOST_THREADS)
    if stated is not None and concurrency is None:
        raise ModelLoadError(
            model_id,
            f"its `concurrency` is {_shown(stated)}; it must be a whole number from 1 on, or None.",
        )
    return StatedVoice(sample_rate, concurrency)


def memory_of(adapter: TTSAdapter, model_id: str) -> StatedMemory:
    """Return what the model says it takes; raises `ModelLoadError` for what is no size."""
    return StatedMemory(
        _size(adapter.footprint_bytes, "footprint_bytes()", model_id),
        _size(adapter.mapped_bytes, "mapped_bytes()", model_id),
        form_of(adapter),
        _shared_part(adapter, model_id),
    )


def form_of(adapter: TTSAdapter) -> str:
    """Return the form of the model that is in memory; an adapter that cannot tell has one form.

    The adapter's own code, which may take its time: called in a thread.
    """
    try:
        form = adapter.form
    except BaseException:  # noqa: BLE001 - a property of the adapter's, which may raise anything
        return ""
    return one_line(form, LONGEST_NAME) if isinstance(form, str) else ""


def whole(value: Any, lowest: int, highest: int) -> int | None:
    """Return `value` as an `int` if it is a whole number in range, of whatever numeric type."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number: Any = math.floor(value)
        if number != value:
            return None
    except (OverflowError, ValueError):  # infinite, or not a number
        return None
    return int(number) if lowest <= number <= highest else None


def _shared_part(adapter: TTSAdapter, model_id: str) -> SharedPart | None:
    stated: Any = adapter.shared_memory()
    if stated is None:
        return None
    name, size = stated if isinstance(stated, tuple) and len(stated) == 2 else (None, None)
    bytes_ = whole(size, 0, MOST_BYTES)
    if not isinstance(name, str) or bytes_ is None:
        raise ModelLoadError(
            model_id,
            f"its shared_memory() is {_shown(stated)}; it must be a name and a number of bytes, "
            "or None.",
        )
    return SharedPart(one_line(name, LONGEST_NAME), bytes_)


def _size(ask: Callable[[], Any], name: str, model_id: str) -> int | None:
    stated = ask()
    size = whole(stated, 0, MOST_BYTES)
    if stated is not None and size is None:
        raise ModelLoadError(
            model_id, f"its {name} is {_shown(stated)}; it must be a number of bytes, or None."
        )
    return size


def _shown(value: Any) -> str:
    try:
        return one_line(repr(value), 80)
    except Exception as error:  # noqa: BLE001 - it is the adapter's own object
        return f"something that cannot be shown ({describe_error(error)})"
