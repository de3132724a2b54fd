"""Ask each adapter which models it finds on disk, and leave out those that cannot be served.

Adapters, and the files they look at, are written by others: an error or a wrong value leaves out
only the model or the adapter that it concerns, and is reported.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenroom.adapter import LeftOut, ModelSpec
from greenroom.catalog import registry
from greenroom.config.schema import MAX_MS, MAX_NAME_CHARS
from greenroom.errors import ConfigError, InvalidInputError
from greenroom.untrusted.printable import error_message, printable, printable_repr

if TYPE_CHECKING:
    from greenroom.adapter import TTSAdapter

MAX_MODELS = 200_000
"""The limit for one adapter: one that never ends would keep a worker from starting."""

_LARGEST_MB = 1e9
"""A petabyte: a footprint beyond it is a mistake."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """The models that all adapters found, and what was left out."""

    models: dict[str, ModelSpec] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Which models were left out, and why; a sentence each."""


def discover_models(
    directories: Sequence[Path],
    adapters: Sequence[type[TTSAdapter] | str] | None = None,
    named: Collection[str] = (),
) -> Discovery:
    """Return the models that `adapters` find, or all registered ones; of two with one id the first.

    Of a registered adapter that is not `listed` they count only if one of them is `named`. Raises
    `ConfigError` for one of `adapters` that does not exist or cannot be imported; without
    `adapters`, a registered one that cannot be imported is left out.
    """
    found = Discovery()
    left: list[LeftOut] = []
    if adapters is None:
        asked = list(_importable(found.problems))
    else:
        asked = list(map(registry.resolve, adapters))
    for adapter in asked:
        models = list(_models_of(adapter, directories))
        if adapters is None and not adapter.listed and not _has_one_of(models, named):
            continue
        for each in models:
            left_out = each if isinstance(each, LeftOut) else _why_unfit(each, adapter)
            if left_out is None and isinstance(each, ModelSpec):
                found.models.setdefault(each.model_id, _as_tuples(each))
            elif left_out is not None:
                left.append(left_out)
    found.problems.extend(map(_sentence, _not_served(left, found.models.values())))
    return Discovery(without_alias_clashes(found.models), found.problems)


def _not_served(left: Sequence[LeftOut], models: Iterable[ModelSpec]) -> Iterator[LeftOut]:
    """Yield what no adapter serves: a file that one leaves out may be another's model, or in it."""
    served = {printable(spec.path) for spec in models if spec.path is not None} if left else set()
    for each in left:
        if each.name not in served and os.path.dirname(each.name) not in served:
            yield each


def problem_with(spec: ModelSpec) -> str | None:
    """Return why a model could not be loaded, as far as its adapter can say without a load."""
    try:
        registry.resolve(spec.adapter).check_spec(spec)
    except ConfigError as error:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - an adapter is anybody's code; it ends this model only
        return f"cannot be checked: {error_message(error)}."
    return None


def _has_one_of(models: Sequence[object], named: Collection[str]) -> bool:
    return any(isinstance(each, ModelSpec) and each.model_id in named for each in models)


def without_alias_clashes(
    found: dict[str, ModelSpec], first: Collection[str] = ()
) -> dict[str, ModelSpec]:
    """Return the models without aliases that are another model's id, or an earlier model's alias.

    The models in `first` keep all of theirs, so that a clash between two of them is still seen.
    """
    taken = {*found, *(alias for name in first for alias in found[name].aliases)}
    kept = {}
    for name, spec in found.items():
        if spec.aliases and name not in first:
            fresh = tuple(alias for alias in dict.fromkeys(spec.aliases) if alias not in taken)
            taken.update(fresh)
            spec = spec if fresh == spec.aliases else replace(spec, aliases=fresh)
        kept[name] = spec
    return kept


def check_options(adapter: type[TTSAdapter], options: Mapping[str, Any]) -> str | None:
    """Return why an adapter refuses `options`, whatever it raises; `None` if it takes them."""
    try:
        adapter.check_options(options)
    except InvalidInputError as error:
        return printable(error).removesuffix(".")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - an adapter is anybody's code; it ends this model only
        return f"its options cannot be checked: {error_message(error)}"
    return None


def _importable(problems: list[str]) -> Iterator[type[TTSAdapter]]:
    """Yield the registered adapters that can be imported, and note those that cannot."""
    for name in registry.names():
        try:
            yield registry.resolve(name)
        except ConfigError as error:
            problems.append(str(error))


def _models_of(adapter: type[TTSAdapter], directories: Sequence[Path]) -> Iterator[object]:
    """Yield what `discover` returns; last a `LeftOut` if it fails or takes too long."""
    # A list that outlives the call: what was found before a failure or the time limit counts.
    found: list[object] = []

    def ask() -> None:
        found.extend(itertools.islice(adapter.discover(directories), MAX_MODELS))

    failure: BaseException | None = None
    try:
        registry.run_limited(adapter.__module__, ask)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - anybody's code, which may even raise SystemExit
        failure = error
    yield from tuple(found)
    if failure is not None:
        yield LeftOut(f"what adapter {adapter.__name__} finds", error_message(failure))


def _why_unfit(spec: object, adapter: type[TTSAdapter]) -> LeftOut | None:
    """Return why an adapter's value is no model that can be served; `None` if it is one."""
    if not isinstance(spec, ModelSpec):
        return LeftOut(
            f"what adapter {adapter.__name__} returned", f"{printable_repr(spec)} is no ModelSpec"
        )
    problem = problem_of(spec)
    if problem is None:
        problem = _problem_for_adapter(spec, adapter)
    if problem is None:
        return None
    return LeftOut(printable(spec.path if spec.path is not None else spec.model_id), problem)


def _problem_for_adapter(spec: ModelSpec, adapter: type[TTSAdapter]) -> str | None:
    try:
        registry.resolve(spec.adapter)
    except ConfigError as error:
        return str(error).removesuffix(".")
    return check_options(adapter, spec.options)


def problem_of(spec: ModelSpec) -> str | None:
    """Return why an adapter's value cannot be served as a model; `None` if it can."""
    if problem := _name_problem(spec.model_id):
        return f"its id {problem}"
    if not isinstance(spec.adapter, str | type):
        return "its adapter is neither a class nor a name"
    if spec.path is not None and (problem := _path_problem(spec.path)):
        return f"its path {problem}"
    if problem := _name_problem(spec.device):
        return f"its device {problem}"
    for what, texts in (
        ("languages", spec.languages),
        ("tags", spec.tags),
        ("aliases", spec.aliases),
    ):
        if not isinstance(texts, tuple | list):
            return f"its {what} are no tuple of texts"
        for text in texts:
            if problem := _name_problem(text):
                return f"one of its {what} {problem}"
    if not isinstance(spec.options, Mapping) or not all(isinstance(k, str) for k in spec.options):
        return "its options are no mapping with keys of text"
    return _number_problem(spec)


def _number_problem(spec: ModelSpec) -> str | None:
    size, ttl = spec.footprint_mb, spec.ttl_ms
    if size is not None and not (_is_number(size) and 0 <= size <= _LARGEST_MB):
        return f"its footprint_mb must be a number of megabytes, not {printable_repr(size)}"
    if ttl is not None and not (_is_number(ttl) and abs(ttl) <= MAX_MS):
        return f"its ttl_ms must be a number of milliseconds, not {printable_repr(ttl)}"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _name_problem(name: object) -> str | None:
    """Return what is wrong with a text that is shown in lists, logs and terminals."""
    if not isinstance(name, str):
        return f"is no text: {printable_repr(name)}"
    if name.isprintable() and 0 < len(name) <= MAX_NAME_CHARS:
        return None
    if not name:
        return "is empty"
    if len(name) > MAX_NAME_CHARS:
        return f"is longer than {MAX_NAME_CHARS} characters; rename it"
    if _is_utf8(name):
        return f"has characters that cannot be shown ({printable(name)}); rename it"
    return f"is no UTF-8 ({printable(name)}); rename it"


def _path_problem(path: object) -> str | None:
    if not isinstance(path, str | os.PathLike):
        return f"is no path: {printable_repr(path)}"
    name = os.fspath(path)
    if not isinstance(name, str) or "\0" in name:
        return f"is no path: {printable_repr(path)}"
    return None if _is_utf8(name) else "is no UTF-8; rename the file or the folder"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_tuples(spec: ModelSpec) -> ModelSpec:
    texts = {"languages": spec.languages, "tags": spec.tags, "aliases": spec.aliases}
    changed = {name: tuple(each) for name, each in texts.items() if not isinstance(each, tuple)}
    return replace(spec, **changed) if changed else spec  # type: ignore[arg-type]


def _sentence(left_out: LeftOut) -> str:
    return f"{left_out.name} is left out: {left_out.reason}."
