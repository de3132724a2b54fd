"""The registry of adapters: from the name in an entry point to the adapter's class.

Built-in adapters are registered like any other. The metadata of installed packages is read once in
the life of the process, and a class is imported once: a look-up costs a load nothing. `refresh`
forgets both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import TypeVar

from greenroom.adapter import Preparation, TTSAdapter
from greenroom.concurrency.time_limit import within
from greenroom.errors import ConfigError
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import error_message, printable, printable_repr

T = TypeVar("T")

logger = safe_logger(__name__)

GROUP = "greenroom.adapters"
"""The entry-point group under which an adapter is registered."""

LIMIT_S = 60.0
"""The limit of an import, and of what an adapter does before a load; some engines take long."""

_BUILT_IN = "greenroom."

_classes: dict[str, type[TTSAdapter]] = {}


def names() -> tuple[str, ...]:
    """Return the registered names, without importing any adapter."""
    return tuple(sorted(_entry_points()))


def resolve(adapter: type[TTSAdapter] | str) -> type[TTSAdapter]:
    """Return the adapter class; a name is looked up and only then imported.

    Raises `ConfigError` for a name that is not registered, whose module cannot be imported, or
    whose class says in a wrong way how its models are prepared, or what their processes share.
    """
    if not isinstance(adapter, str):
        return adapter
    known = _classes.get(adapter)
    if known is not None:
        return known
    point = _entry_points().get(adapter)
    if point is None:
        there = ", ".join(names()) or "none"
        raise ConfigError(
            f"no adapter is registered as {printable(adapter)!r}; there are: {there}."
        )
    loaded = _classes[adapter] = _load(point)
    return loaded


def refresh() -> None:
    """Have the next look-up read the installed packages again."""
    _entry_points.cache_clear()
    _classes.clear()


@cache
def _entry_points() -> Mapping[str, EntryPoint]:
    """Return the entry points by name; of two packages with one name the first found counts."""
    try:
        found = list(entry_points(group=GROUP))
    except Exception:  # noqa: BLE001 - any installed package may have metadata that cannot be read
        found = _readable_points()
    return {point.name: point for point in reversed(found)}


def _readable_points() -> list[EntryPoint]:
    """Return the entry points of packages whose metadata can be read, and log the others."""
    found: list[EntryPoint] = []
    for package in distributions():
        name = "an installed package"
        try:
            name = printable(package.name)
            found += package.entry_points.select(group=GROUP)
        except Exception as error:  # noqa: BLE001 - see `_entry_points`
            logger.warning("the metadata of %s cannot be read: %s", name, error_message(error))
    return found


def run_limited(module: str, call: Callable[[], T]) -> T:
    """Return what `call` returns; code from outside `greenroom` has at most `LIMIT_S` for it."""
    return call() if module.startswith(_BUILT_IN) else within(LIMIT_S, call)


def _load(point: EntryPoint) -> type[TTSAdapter]:
    try:
        loaded = run_limited(point.value, point.load)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it runs what others wrote, which may even raise SystemExit
        raise ConfigError(
            f"adapter {point.name!r} cannot be imported: {error_message(error)}; "
            f"install it with `pip install 'greenroom[{point.name}]'`, or remove its package."
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, TTSAdapter)):
        raise ConfigError(
            f"adapter {point.name!r} is no subclass of TTSAdapter; correct {point.value!r} in the "
            "metadata of its package."
        )
    if not isinstance(loaded.preparation, Preparation | None):
        raise ConfigError(
            f"the `preparation` of adapter {point.name!r} must be an object of a class derived "
            "from Preparation, or None."
        )
    check_libraries(loaded)
    return loaded


def check_libraries(adapter: type[TTSAdapter]) -> None:
    """Raise `ConfigError` unless an adapter's `libraries` are names of modules.

    All processes come from one that has imported those of every adapter: it must start.
    """
    libraries: object = adapter.libraries
    if isinstance(libraries, tuple | list) and all(map(_is_module_name, libraries)):
        return
    raise ConfigError(
        f"the `libraries` of adapter {adapter.__qualname__} must be a tuple of names of modules, "
        f'such as ("numpy",), not {printable_repr(libraries, 80)}.'
    )


def _is_module_name(name: object) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
