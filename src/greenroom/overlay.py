"""Where settings come from: a YAML file, the environment, flags; each laid over the one before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from greenroom.errors import ConfigError

PREFIX = "GREENROOM_"
"""What the name of an environment variable begins with."""

_NEST = "__"


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a file; raises `ConfigError` for anything else, naming the line."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Once)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text in UTF-8; save it as UTF-8.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_place_in_yaml(error)}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping, with lines such as `key: value`.")
    return content


def from_environment(sections: Iterable[str]) -> dict[str, Any]:
    """Return what `GREENROOM_SECTION__KEY` says, nested like the file.

    A variable counts if it names one of the `sections`, or has `__` in it; so a misspelt section
    is found and refused, and `GREENROOM_CONFIG` is none.
    """
    known = set(sections)
    pairs = []
    for name in sorted(os.environ):
        keys = name.removeprefix(PREFIX).lower().split(_NEST)
        if name.startswith(PREFIX) and (len(keys) > 1 or keys[0] in known):
            pairs.append((keys, os.environ[name]))
    return assigned(pairs)


def variable(keys: Sequence[str]) -> str:
    """Return the name of the environment variable that sets `keys`."""
    return PREFIX + _NEST.join(keys).upper()


def assigned(pairs: Iterable[tuple[Sequence[str], str]]) -> dict[str, Any]:
    """Return a mapping, nested like the file, in which each path of keys has its value.

    Text stays text (and becomes a number where one is wanted), except that lists, mappings,
    quoted text and `null` are read as YAML.
    """
    made: dict[str, Any] = {}
    for keys, text in pairs:
        value = _value(text)
        for key in reversed(keys):
            value = {key: value}
        made = laid_over(made, value)
    return made


def laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with everything that `over` says; mappings are merged, lists are replaced."""
    merged = dict(under)
    for key, value in over.items():
        known = merged.get(key)
        nested = isinstance(value, Mapping) and isinstance(known, Mapping)
        merged[key] = laid_over(known, value) if nested else value  # type: ignore[arg-type]
    return merged


def _value(text: str) -> Any:
    if text.strip() not in ("null", "~") and not text.lstrip().startswith(("[", "{", '"', "'")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _place_in_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "cannot be read"
    where = "" if mark is None else f"line {mark.line + 1}: "
    return f"{where}is not YAML: {' '.join(str(problem).split())}"


class _Once(yaml.SafeLoader):
    """A loader that refuses a key that is there twice; YAML would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"the key {key.value!r} is there twice; keep one"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)
