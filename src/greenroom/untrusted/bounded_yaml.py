"""Read YAML that others wrote into plain values, in bounded time and memory.

Values are text, numbers, true and false, null, lists, and mappings whose keys are text. What YAML
has beside these is text (a date, a time of day) or refused (`!!binary`). The parser's events are
counted as they come, so nothing is ever built that exceeds the limits; the values that an alias
stands for are counted again wherever it stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from greenroom.untrusted.printable import printable

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast

DEPTH = 40
"""Lists and mappings inside each other."""

_LARGEST = 2**63
"""Whole numbers stay below it: 64 bits hold them."""

_LONGEST_NUMBER = 80
"""Digits: to read a number takes the square of their count."""

_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a document is read."""

    size: int
    """Bytes of the file."""
    values: int
    """Scalars, lists and mappings."""


class YamlProblem(Exception):  # noqa: N818 - it becomes a `ConfigError` where the file is known
    """What is wrong with a document, and in which line."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class Document:
    """What a document says, and where."""

    content: Any
    lines: Mapping[int, Mapping[str | int, int]]
    """The lines of what is in each list and mapping, by its `id`: the content keeps them alive."""

    def line_of(self, place: Sequence[str | int]) -> int | None:
        """Return the line of the innermost value on the way to `place` that is there."""
        line, holder = None, self.content
        for part in place:
            known = self.lines.get(id(holder), {})
            if part not in known:
                break
            line, holder = known[part], holder[part]
        return line


def parse(text: str, limits: Limits) -> Document:
    """Return the one document in `text`; empty text says `None`. Raises `YamlProblem`."""
    builder = _Builder(limits.values)
    try:
        loader = _Loader(text)
        try:
            while not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
                builder.take(event)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _problem(error, text) from None
    except UnicodeEncodeError as error:  # half a surrogate, of a command line that is no UTF-8
        line = text.count("\n", 0, error.start) + 1
        raise YamlProblem(line, "has characters that are no text") from None
    return Document(builder.content, builder.lines)


def _problem(error: yaml.YAMLError, text: str) -> YamlProblem:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    at = getattr(error, "position", None)
    line = mark.line if mark is not None else text.count("\n", 0, at or 0)
    last = max(1, len(text.splitlines()))
    return YamlProblem(
        min(line + 1, last), f"is not YAML: {printable(' '.join(str(said).split()))}"
    )


@dataclass(slots=True)
class _Value:
    """A value that was read whole."""

    value: Any
    line: int
    size: int = 1
    """Values in it, itself included."""
    height: int = 0
    """Lists and mappings inside each other, itself included."""


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end was not read yet."""

    value: Any
    line: int
    anchor: str | None
    size: int = 1
    height: int = 1
    key: str | None = None
    """The key of a mapping whose value comes next."""
    merged: list[_Value] = field(default_factory=list)
    lines: dict[str | int, int] = field(default_factory=dict)


class _Builder:
    """Builds values from events, without recursion."""

    def __init__(self, limit: int) -> None:
        self.content: Any = None
        self.lines: dict[int, Mapping[str | int, int]] = {}
        self._limit = limit
        self._count = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, _Value] = {}
        self._begun = False

    def take(self, event: Any) -> None:
        """Read on by one event."""
        line = event.start_mark.line + 1
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._add_scalar(event, line)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._end()
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._begin(event, line)
        elif kind is yaml.AliasEvent:
            self._add_alias(event.anchor, line)
        elif kind is yaml.DocumentStartEvent:
            if self._begun:
                raise YamlProblem(line, "a second document begins; keep one")
            self._begun = True

    def _add_scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._count_in(1, line)
        into = self._open[-1] if self._open else None
        if into is not None and into.key is None and isinstance(into.value, dict):
            self._check_new(into, event.value, line)
            into.key = event.value
        else:
            self._add(_Value(_scalar(event, line), line), event.anchor)

    def _check_new(self, into: _Open, key: str, line: int) -> None:
        if key in into.lines and key != _MERGE:
            raise YamlProblem(line, f"the key {printable(key)!r} is there twice; keep one")
        into.lines[key] = line

    def _add_alias(self, name: str | None, line: int) -> None:
        known = self._anchors.get(name or "")
        if known is None:
            raise YamlProblem(
                line, f"the alias *{printable(name)} stands for nothing that is whole"
            )
        if len(self._open) + known.height > DEPTH:
            raise _too_deep(line)
        self._count_in(known.size, line)
        self._add(_Value(known.value, line, known.size, known.height), None)

    def _begin(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._count_in(1, line)
        if len(self._open) >= DEPTH:
            raise _too_deep(line)
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag not in (None, "!", _TAG + kind):
            raise _odd_tag(event.tag, line)
        self._open.append(_Open({} if kind == "map" else [], line, event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        for each in itertools.chain.from_iterable(map(_mappings, done.merged)):
            for key, value in each.items():
                done.value.setdefault(key, value)
        self.lines[id(done.value)] = done.lines
        self._add(_Value(done.value, done.line, done.size, done.height), done.anchor)

    def _add(self, made: _Value, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = made
        if not self._open:
            self.content = made.value
            return
        into = self._open[-1]
        into.size += made.size
        into.height = max(into.height, made.height + 1)
        if isinstance(into.value, list):
            into.lines[len(into.value)] = made.line
            into.value.append(made.value)
        elif into.key is None:
            raise YamlProblem(made.line, "a key must be text")
        elif into.key == _MERGE:
            into.key = None
            into.merged.append(made)
        else:
            into.value[into.key] = made.value
            into.key = None

    def _count_in(self, size: int, line: int) -> None:
        self._count += size
        if self._count > self._limit:
            raise YamlProblem(line, f"there are more than {self._limit:,} values up to here")


def _mappings(merged: _Value) -> list[dict[str, Any]]:
    """Return what `<<` takes the keys of: one mapping, or several of which the first counts."""
    found = merged.value if isinstance(merged.value, list) else [merged.value]
    if not all(isinstance(each, dict) for each in found):
        raise YamlProblem(merged.line, "`<<` takes a mapping, or a list of mappings")
    return found


def _too_deep(line: int) -> YamlProblem:
    return YamlProblem(line, f"more than {DEPTH} lists and mappings are inside each other")


def _odd_tag(tag: str, line: int) -> YamlProblem:
    name = printable(tag.replace(_TAG, "!!"))
    return YamlProblem(line, f"the tag {name} is not known; write the value as text")


def _scalar(event: yaml.ScalarEvent, line: int) -> Scalar:
    """Return the value that a scalar is written for; what only looks special is text."""
    text: str = event.value
    plain, quoted = event.implicit
    if quoted or (not plain and event.tag == f"{_TAG}str"):
        return text
    kind = _looks_like(text)
    if not plain and event.tag != kind:
        raise _odd_tag(str(event.tag), line)
    read = _READERS.get(kind)
    try:
        return text if read is None else read(text)
    except OverflowError:
        raise YamlProblem(line, "a number is too large; 19 digits are allowed") from None


def _looks_like(text: str) -> str:
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            return str(tag)
    return f"{_TAG}str"


def _integer(text: str) -> int | str:
    digits = text.replace("_", "").lower()
    if ":" in digits:
        return text  # 12:30, which YAML 1.1 takes for a number in base 60
    if len(digits) > _LONGEST_NUMBER:
        raise OverflowError
    try:
        number = int(digits, _base(digits.lstrip("+-")))
    except ValueError:
        return text
    if abs(number) >= _LARGEST:
        raise OverflowError
    return number


def _base(digits: str) -> int:
    if digits[:2] in ("0x", "0b"):
        return 0
    return 8 if digits.startswith("0") else 10


def _real(text: str) -> float | str:
    digits = text.replace("_", "").lower()
    if ":" in digits:
        return text
    if digits.lstrip("+-") in (".inf", ".nan"):
        return float(digits.replace(".", ""))
    try:
        return float(digits)
    except ValueError:
        return text


_READERS: Mapping[str, Callable[[str], Scalar]] = {
    f"{_TAG}null": lambda _: None,
    f"{_TAG}bool": lambda text: text.lower() in ("yes", "true", "on"),
    f"{_TAG}int": _integer,
    f"{_TAG}float": _real,
}
