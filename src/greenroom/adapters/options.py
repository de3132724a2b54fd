"""Check the options of a caller before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greenroom.errors import InvalidInputError
from greenroom.untrusted.printable import printable_repr


@dataclass(frozen=True, slots=True)
class Number:
    """An option that is a number between `low` and `high`, both included."""

    low: float
    high: float

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, if anything."""
        right = isinstance(value, int | float) and not isinstance(value, bool)
        if right and self.low <= value <= self.high:
            return None
        return f"must be a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Name:
    """An option that is a name or a number that stands for one."""

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, if anything."""
        right = isinstance(value, str | int) and not isinstance(value, bool)
        return None if right else "must be a name or a number"


@dataclass(frozen=True, slots=True)
class Choice:
    """An option that is one of a few words."""

    words: tuple[str, ...]

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, if anything."""
        return None if value in self.words else f"must be one of {', '.join(self.words)}"


Option = Number | Name | Choice


def check(options: Mapping[str, Any], known: Mapping[str, Option]) -> None:
    """Raise `InvalidInputError` for the first option that is unknown or out of range."""
    for key, value in options.items():
        kind = known.get(key)
        if kind is None:
            raise InvalidInputError(
                f"option {printable_repr(key)} is not known; "
                f"this engine has: {', '.join(sorted(known))}."
            )
        problem = kind.problem(value)
        if problem is not None:
            raise InvalidInputError(f"option {key!r} {problem}, not {printable_repr(value)}.")
