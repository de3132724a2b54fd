"""Names of adapters to their classes, and nothing else; built-in ones use the same door."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from greenroom.errors import ConfigError

if TYPE_CHECKING:
    from greenroom.adapter import TTSAdapter

GROUP = "greenroom.adapters"
"""The entry-point group under which an adapter is registered."""


def names() -> tuple[str, ...]:
    """Return the registered names, without importing any adapter."""
    return tuple(sorted(entry_points(group=GROUP).names))


def resolve(adapter: type[TTSAdapter] | str) -> type[TTSAdapter]:
    """Return the adapter class; a name is looked up and only then imported.

    Raises `ConfigError` for a name that nobody registered, or whose module does not import.
    """
    if not isinstance(adapter, str):
        return adapter
    found = tuple(entry_points(group=GROUP, name=adapter))
    if not found:
        raise ConfigError(
            f"no adapter is registered as {adapter!r}; there are: {', '.join(names()) or 'none'}."
        )
    return _load(found[0])


def _load(point: EntryPoint) -> type[TTSAdapter]:
    try:
        loaded: type[TTSAdapter] = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"adapter {point.name!r} cannot be imported: {error}; "
            f"install it with `pip install 'greenroom[{point.name}]'`."
        ) from error
    return loaded
