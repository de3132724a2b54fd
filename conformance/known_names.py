"""Hooks of schemathesis: half of the names it makes up become names of the worker."""

from __future__ import annotations

from typing import Any

import schemathesis

_NAMES = {"model": "tone-220", "voice": "tone-220", "name": "tone-220"}


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    return _known(path_parameters)


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_body(context: Any, body: Any) -> Any:
    return _known(body)


def _known(fields: Any) -> Any:
    if not isinstance(fields, dict) or len(str(fields)) % 2:
        return fields
    return {key: _NAMES[key] if _may_change(key, value) else value for key, value in fields.items()}


def _may_change(key: str, value: Any) -> bool:
    """Return whether a field may get a known name: one that is invalid on purpose stays so."""
    return key in _NAMES and isinstance(value, str) and 0 < len(value) <= 200
