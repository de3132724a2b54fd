"""Find adapters whose engine is not installed, without importing any engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.catalog import registry
from greenroom.errors import ConfigError
from greenroom.untrusted.printable import printable

_BUILT_IN = "greenroom."


def missing_engines(specs: Iterable[ModelSpec]) -> Iterator[str]:
    """Yield a sentence for each adapter of `specs` whose engine is not installed, with the fix."""
    found: dict[str, list[str]] = {}
    for spec in specs:
        if (problem := missing_engine_of(spec)) is not None:
            found.setdefault(problem, []).append(spec.model_id)
    for problem, (first, *others) in found.items():
        more = f" and {len(others)} more" if others else ""
        yield f"model {first}{more}: {problem}"


def missing_engine_of(spec: ModelSpec) -> str | None:
    """Return why a model's engine cannot speak here, with the fix; `None` where nothing is missing.

    Looked for are `TTSAdapter.libraries`.
    """
    try:
        adapter = registry.resolve(spec.adapter)
    except ConfigError:
        return None  # whoever checks the model is told so
    missing = next((name for name in _libraries(adapter) if not _is_installed(name)), None)
    if missing is None:
        return None
    if isinstance(spec.adapter, str) and adapter.__module__.startswith(_BUILT_IN):
        return f"the {spec.adapter} engine is not installed; run {_install(spec.adapter)}."
    return f"its engine is not installed: there is no module {printable(missing)}; install it."


def _install(extra: str) -> str:
    return f"`pip install 'greenroom[{extra}]'`"


def _libraries(adapter: type[TTSAdapter]) -> tuple[str, ...]:
    """Return the modules that an adapter names; anybody's class may say anything there."""
    named: object = adapter.libraries
    if not isinstance(named, tuple | list):
        return ()
    return tuple(name for name in named if isinstance(name, str) and name)


@cache
def _is_installed(module: str) -> bool:
    """Whether a module can be found; of one in a package, the package, which is not imported."""
    try:
        return find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
