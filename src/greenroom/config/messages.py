"""Messages about a wrong configuration: pydantic's errors as sentences that contain the fix."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from greenroom.untrusted.printable import printable, printable_repr

KeyPath = tuple[str | int, ...]
"""Keys, and positions in lists, from the top of the file down to the wrong value."""

_TEXTS = {
    "tuple_type": "must be a list, such as [a, b]",
    "model_type": "must be a mapping, with lines such as `key: value`",
    "dict_type": "must be a mapping, with lines such as `key: value`",
    "missing": "is missing; add it",
}
MAX_PROBLEMS = 100
"""Problems that are reported of one file; the others are counted."""

_WITHOUT_VALUE = {"extra_forbidden", "missing"}
_MAX_KEY_CHARS = 80
"""Of an unknown key, for the search of one like it: that takes time for each character."""

_SECRET_KEYS = {"api_keys"}
"""Keys under which no value is shown in a message."""


def problems(error: ValidationError, known: Collection[str]) -> list[tuple[KeyPath, str]]:
    """Return the key of each problem and one sentence about it; `known` are keys to suggest."""
    found = error.errors(include_url=False)
    reported = [(each["loc"], _sentence(each["loc"], each, known)) for each in found[:MAX_PROBLEMS]]
    if len(found) > MAX_PROBLEMS:
        reported.append(((), f"there are {len(found) - MAX_PROBLEMS:,} problems more."))
    return reported


def summary(sentences: list[str]) -> str:
    """Return the first sentence, and the number of the others."""
    others = len(sentences) - 1
    if not others:
        return sentences[0]
    more = "one more problem" if others == 1 else f"{others:,} more problems"
    return f"{sentences[0].removesuffix('.')} (and {more})."


def _sentence(place: KeyPath, found: Any, known: Collection[str]) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in place)
    kind, value = found["type"], found["input"]
    simple = isinstance(value, str | int | float | bool | None) and kind not in _WITHOUT_VALUE
    simple = simple and _SECRET_KEYS.isdisjoint(place)
    said = f" (it is {printable_repr(value)})" if simple else ""
    text = _text(kind, found["msg"], str(place[-1]) if place else "", known)
    return f"{key.removeprefix('.') or '(top)'}: {text}{said}.".replace("?.", "?")


def _text(kind: str, message: str, key: str, known: Collection[str]) -> str:
    if kind == "extra_forbidden":
        others = [each for each in known if each != key]  # known, but not in this place
        near = difflib.get_close_matches(key[:_MAX_KEY_CHARS], others, n=1)
        fix = f"did you mean `{near[0]}`?" if near else "remove it"
        return f"is not a key that Greenroom knows; {fix}"
    text = message.removeprefix("Value error, ").replace("Input should", "must", 1)
    return _TEXTS.get(kind, text.split(", unable")[0])
