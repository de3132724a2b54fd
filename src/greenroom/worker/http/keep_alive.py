"""How long a model stays after its last use, as Ollama's `keep_alive` says it."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import Field

from greenroom.worker.errors import FieldError

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)"
_TEXT = Annotated[str, Field(json_schema_extra={"pattern": rf"^\s*-?(\d+(\.\d*)?|({_PART})+)\s*$"})]

KeepAlive = Annotated[
    _TEXT | float,
    Field(
        description="How long a model stays after its last use: seconds, or a duration such as "
        '"5m" or "1h30m"; 0 not at all, negative for ever.'
    ),
]

_LONGEST_S = 10 * 365 * 86_400.0
"""Ten years: what is longer is for ever."""


def seconds_of(keep_alive: str | float, field: str = "keep_alive") -> float:
    """Return the seconds of a `keep_alive`, -1 for ever; raises `FieldError` for no duration."""
    seconds = _parsed(keep_alive.strip()) if isinstance(keep_alive, str) else float(keep_alive)
    if seconds is None or math.isnan(seconds):
        shown = str(keep_alive)[:40]
        raise FieldError(
            field, f'{field}: {shown!r} is no duration; use "10m", seconds, 0, or -1 for ever.'
        )
    return -1.0 if seconds < 0 or seconds > _LONGEST_S else seconds


def _parsed(text: str) -> float | None:
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    if re.fullmatch(r"\d+(\.\d*)?", digits, re.ASCII):
        return sign * float(digits)
    if len(digits) > 64 or not re.fullmatch(f"(?:{_PART})+", digits, re.ASCII):
        return None
    parts = re.findall(_PART, digits, re.ASCII)
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)
