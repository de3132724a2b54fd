"""Numbers that callers give, checked before anything is done with them."""

from __future__ import annotations

import math
import numbers

from greenroom.errors import InvalidInputError
from greenroom.untrusted.printable import printable


def finite_number(value: object, name: str, *, lowest: float | None = None, fix: str = "") -> float:
    """Return `value` as a finite `float`, not below `lowest`; raises `InvalidInputError`."""
    number = math.nan
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not math.isfinite(number) or (lowest is not None and number < lowest):
        least = "" if lowest is None else f" from {lowest:g} on"
        raise InvalidInputError(f"{name} must be a number{least}, not {printable(value, 40)}{fix}.")
    return number
