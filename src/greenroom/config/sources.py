"""Where settings come from: a YAML file, the environment, flags, and how they are merged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from greenroom.errors import ConfigError
from greenroom.untrusted.bounded_files import read_bounded, read_failure
from greenroom.untrusted.bounded_yaml import Document, Limits, YamlProblem, parse
from greenroom.untrusted.printable import printable

PREFIX = "GREENROOM_"
"""What the names of our environment variables begin with."""

_NEST = "__"

CONFIG_LIMITS = Limits(size=2 * 1024**2, values=30_000)
"""Limits of a configuration file: some 3,000 models, read in a quarter of a second."""

_MAX_DEPTH = 20
"""How deep the keys of one setting may be nested."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a configuration file; raises `ConfigError` with file and line."""
    return read_mapping(path, CONFIG_LIMITS, any_kind=True).content  # type: ignore[no-any-return]


def read_mapping(path: Path, limits: Limits, *, any_kind: bool = False) -> Document:
    """Return the YAML document in a file, whose content must be a mapping; an empty file is one.

    Raises `ConfigError` with the file, and the line if there is one. Only a regular file is read;
    with `any_kind` also another, such as a pipe, which is for files that the user names.
    """
    name = printable(path)
    try:
        text = read_bounded(path, limits.size, any_kind=any_kind).decode("utf-8-sig")
        document = parse(text, limits)
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: is not text in UTF-8; save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {read_failure(error)}.") from None
    except YamlProblem as problem:
        raise ConfigError(f"{name}: {problem}.") from None
    if document.content is None:
        return Document({}, {})
    if not isinstance(document.content, dict):
        raise ConfigError(f"{name}: must be a mapping, with lines such as `key: value`.")
    return document


def from_environment(sections: Iterable[str]) -> dict[str, Any]:
    """Return the settings in variables such as `GREENROOM_SECTION__KEY`, nested like the file.

    A variable counts if it names one of the `sections`, or has `__` in it: so a misspelt section
    is refused, and `GREENROOM_CONFIG`, which is no setting, is not.
    """
    known = set(sections)
    pairs = []
    for name in sorted(os.environ):
        keys = name.removeprefix(PREFIX).lower().split(_NEST)
        if name.startswith(PREFIX) and (len(keys) > 1 or keys[0] in known):
            pairs.append((keys, os.environ[name]))
    return nested(pairs)


def variable_name(keys: Sequence[str]) -> str:
    """Return the name of the environment variable that sets `keys`."""
    return PREFIX + _NEST.join(keys).upper()


def nested(pairs: Iterable[tuple[Sequence[str], str]]) -> dict[str, Any]:
    """Return settings given as paths of keys, such as flags, as a mapping nested like the file.

    Text stays text (and becomes a number where one is wanted), except that lists, mappings,
    quoted text and `null` are read as YAML. Raises `ConfigError` for a path that is no key.
    """
    result: dict[str, Any] = {}
    for keys, text in pairs:
        if len(keys) > _MAX_DEPTH:
            raise ConfigError(f"{printable('.'.join(keys))}: no key is that deep; correct it.")
        value = _value(text)
        for key in reversed(keys):
            value = {key: value}
        result = merged(result, value)
    return result


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under`, overridden by `over`; mappings are merged, lists are replaced."""
    result = dict(under)
    for key, value in over.items():
        current = result.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            result[key] = merged(current, value)
        else:
            result[key] = value
    return result


def _value(text: str) -> Any:
    if text.strip() not in ("null", "~") and not text.lstrip().startswith(("[", "{", '"', "'")):
        return text
    try:
        return parse(text, CONFIG_LIMITS).content
    except YamlProblem:
        return text
