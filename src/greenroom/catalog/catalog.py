"""The catalog: every model that could be loaded, by id and by alias."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rapidfuzz import fuzz, process

from greenroom.adapter import ModelSpec
from greenroom.catalog import discovery, registry
from greenroom.catalog.devices import canonical
from greenroom.config import messages
from greenroom.config.schema import (
    MAX_NAME_CHARS,
    Config,
    ModelSettings,
    voice_directories,
)
from greenroom.errors import ConfigError, ModelNotFoundError
from greenroom.untrusted.logs import safe_logger

if TYPE_CHECKING:
    from greenroom.adapter import TTSAdapter

logger = safe_logger(__name__)

_MIN_SIMILARITY = 55.0  # of 100, by rapidfuzz's normalized similarity

_MOST_FORMER = 10_000
"""Models that are remembered though they are gone: far more than can be held at one time."""

_MAX_LOG_LINES = 20
"""Models that are left out are logged in at most so many lines; the rest are counted."""


class Catalog:
    """A collection of `ModelSpec`, in the order given; it changes by `adopt` only, as a whole."""

    def __init__(self, specs: Iterable[ModelSpec] = (), *, problems: Iterable[str] = ()) -> None:
        """`problems` say what was left out. Raises `ConfigError` if two models share a name."""
        self.problems = tuple(problems)
        """Which models were found and left out, and why; a sentence each."""
        self._specs: dict[str, ModelSpec] = {}
        for spec in specs:
            if spec.model_id in self._specs:
                raise ConfigError(f"two models have the id {spec.model_id!r}; rename one.")
            device = canonical(spec.device)
            named = spec if device == spec.device else replace(spec, device=device)
            self._specs[spec.model_id] = named
        self.version = 0
        """How often it has changed, for those who keep what they made of it."""
        self._former: dict[str, ModelSpec] = {}
        self._ids: dict[str, str] = {}
        for spec in self._specs.values():
            for alias in spec.aliases:
                self._add_alias(alias, spec.model_id)

    def _add_alias(self, alias: str, model_id: str) -> None:
        taken = self._ids.get(alias, alias if alias in self._specs else model_id)
        if taken != model_id:
            raise ConfigError(
                f"alias {alias!r} of {model_id!r} already means {taken!r}; choose another alias."
            )
        self._ids[alias] = model_id

    @classmethod
    def discover(
        cls, *directories: Path | str, adapters: Sequence[type[TTSAdapter] | str] | None = None
    ) -> Catalog:
        """Return what the adapters (all that are `listed`) find in `directories`.

        Without `directories` they look in those of `voice_directories()`. Of two models with one
        id, the one found first counts.
        """
        places = [Path(place) for place in directories] or voice_directories()
        found = discovery.discover_models(places, adapters)
        _log(found.problems)
        return cls(found.models.values(), problems=found.problems)

    @classmethod
    def from_config(
        cls, config: Config, *, warn: bool = True, named: Iterable[str] = ()
    ) -> Catalog:
        """Return the discovered models, with those of `config.models` added or in their place.

        A configured name is taken away from a discovered model that has it too. What an adapter
        finds that is not `listed`, such as the tones for tests, counts only where the configuration
        names one of it, or `named` does. Models that are left out are logged, unless `warn` is
        false. Raises `ConfigError`, whose `problems` are all that is wrong.
        """
        found = discovery.discover_models(
            voice_directories(config.voices), named=_named(config) | set(named)
        )
        if warn:
            _log(found.problems)
        known = _ModelsByName(found.models)
        wrong = []
        seen: dict[str, None] = {}
        for entry in config.models:
            try:
                if entry.model_id in seen:
                    raise ConfigError(f"models.{entry.model_id}: is there twice; rename one.")
                seen[entry.model_id] = None
                known.put(_spec_for(entry, known))
            except ConfigError as error:
                wrong.append(str(error))
        wrong += _clashes(known.models, seen)
        if wrong:
            raise ConfigError(messages.summary(wrong), problems=[*wrong, *found.problems])
        models = discovery.without_alias_clashes(known.models, first=seen)
        return cls(models.values(), problems=found.problems)

    def adopt(self, other: Catalog) -> None:
        """Have the models of `other` from here on, in one step for all who hold this catalog.

        Those that are no more among them are found by `known` alone. `other` is left as it is.
        """
        former = {**self._former, **self._specs}
        gone = [name for name in former if name not in other._specs][-_MOST_FORMER:]
        self._former = {name: former[name] for name in gone}
        # New mappings, never changed in place: another thread may be reading the old ones.
        self._specs, self._ids, self.problems = other._specs, other._ids, other.problems
        for name, kept in vars(Catalog).items():
            if isinstance(kept, cached_property):
                self.__dict__.pop(name, None)
        self.version += 1

    def known(self, model_id: str) -> ModelSpec:
        """Return the model of that id or alias, also one that is gone but may be in memory yet.

        Raises `ModelNotFoundError` as `get` does.
        """
        former = self._former.get(model_id)
        return self.get(model_id) if former is None or model_id in self else former

    def get(self, model_id: str) -> ModelSpec:
        """Return the model of that id or alias; raises `ModelNotFoundError` with similar ones."""
        spec = self._specs.get(model_id)
        if spec is None:
            known = self._ids.get(model_id)
            if known is None:
                raise ModelNotFoundError(str(model_id), self.near(model_id))
            spec = self._specs[known]
        return spec

    def in_any_case(self, name: str) -> str | None:
        """Return the id or alias that differs from `name` in case only, if there is just one."""
        return self._names_in_any_case.get(name.lower())

    @cached_property
    def _names_in_any_case(self) -> dict[str, str]:
        return only_ones(self._lower_case_names)

    def near(self, model_id: str) -> tuple[str, ...]:
        """Return up to three ids of which `model_id` is a part, or which look like it.

        A part begins with a word of a name: `joe`, or `us-joe`, is one of `piper-en-us-joe-medium`.
        """
        if not isinstance(model_id, str) or not 0 < len(model_id) <= MAX_NAME_CHARS:
            return ()
        part = _words(model_id)
        names = self._words_of_names.items() if len(part) >= _SHORTEST_PART else ()
        whole = [name for name, words in names if part in words]
        found = process.extract(
            model_id.lower(),
            self._lower_case_names,
            scorer=fuzz.ratio,
            limit=6,
            score_cutoff=_MIN_SIMILARITY,
        )
        near = (*sorted(whole, key=len)[:6], *(name for _, _, name in found))
        return tuple(dict.fromkeys(self._ids.get(name, name) for name in near))[:3]

    @cached_property
    def _lower_case_names(self) -> dict[str, str]:
        """Every id and alias, with its lower case: made once, not for each unknown id."""
        return {name: name.lower() for name in (*self._specs, *self._ids)}

    @cached_property
    def _words_of_names(self) -> dict[str, str]:
        """Every id and alias, with its words."""
        return {name: _words(name) for name in (*self._specs, *self._ids)}

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Every language that some model of the catalog speaks, sorted."""
        return tuple(sorted({name for spec in self for name in spec.languages}))

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def __contains__(self, model_id: object) -> bool:
        return model_id in self._specs or model_id in self._ids

    def __repr__(self) -> str:
        return f"<Catalog of {len(self._specs)} models>"


_SHORTEST_PART = len("-xy")
_SEPARATORS = str.maketrans("_./:", "----")


def _words(name: str) -> str:
    """Return a name in small letters with a hyphen before each word."""
    return "-" + name.lower().translate(_SEPARATORS).strip("-")


def _named(config: Config) -> set[str]:
    """Return the models that a configuration names."""
    manager = config.model_manager
    varied = {entry.variant_of for entry in config.models if entry.variant_of is not None}
    return {manager.default_model_id, *manager.preload_model_ids, *varied}


def only_ones(names: Iterable[str]) -> dict[str, str]:
    """Return names by their small letters, without those that more than one has."""
    known: dict[str, str | None] = {}
    for name in names:
        known[name.lower()] = None if name.lower() in known else name
    return {small: name for small, name in known.items() if name is not None}


def _log(problems: Sequence[str]) -> None:
    """Log which models are left out, in a bounded number of lines."""
    for problem in problems[:_MAX_LOG_LINES]:
        logger.warning("%s", problem)
    if len(problems) > _MAX_LOG_LINES:
        more = len(problems) - _MAX_LOG_LINES
        logger.warning("%d more are left out; `greenroom config check` names them.", more)


def _clashes(models: Mapping[str, ModelSpec], configured: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each alias of `configured` that already means another model."""
    means = {name: name for name in models}
    for name in configured:
        for alias in models[name].aliases if name in models else ():
            if means.setdefault(alias, name) != name:
                yield (
                    f"models.{name}.aliases: alias {alias!r} of {name!r} already means "
                    f"{means[alias]!r}; choose another alias."
                )


class _ModelsByName:
    """The models so far, by id and by alias, for the variants that come after them."""

    def __init__(self, models: dict[str, ModelSpec]) -> None:
        self.models = models
        self._aliases = {alias: spec for spec in models.values() for alias in spec.aliases}

    def put(self, spec: ModelSpec) -> None:
        self.models[spec.model_id] = spec
        self._aliases.update(dict.fromkeys(spec.aliases, spec))

    def get(self, name: str) -> ModelSpec:
        """Return a model by id or alias; raises `ModelNotFoundError` with similar names."""
        found = self.models.get(name) or self._aliases.get(name)
        if found is None:
            raise ModelNotFoundError(name, self._suggestions.near(name))
        return found

    @cached_property
    def _suggestions(self) -> Catalog:
        """A catalog to suggest names from: made once, however many entries are wrong."""
        return Catalog(discovery.without_alias_clashes(self.models).values())


def _spec_for(entry: ModelSettings, known: _ModelsByName) -> ModelSpec:
    """Return the model of one entry of `models`; its adapter has checked the options."""
    original = _original(entry, known)
    own = {
        "device": entry.device,
        "languages": entry.languages,
        "tags": entry.tags,
        "footprint_mb": entry.footprint_mb,
        "ttl_ms": entry.ttl_ms,
        "aliases": entry.aliases,
        "isolation": entry.isolation,
    }
    given = {key: value for key, value in own.items() if value not in (None, ())}
    options = {**original.options, **entry.options}
    spec = replace(original, options=options, **given)  # type: ignore[arg-type]
    try:
        problem = discovery.check_options(registry.resolve(spec.adapter), spec.options)
    except ConfigError as error:
        raise ConfigError(f"models.{entry.model_id}.adapter: {error}") from None
    if problem is not None:
        raise ConfigError(f"models.{entry.model_id}.options: {problem}.")
    return spec


def _original(entry: ModelSettings, known: _ModelsByName) -> ModelSpec:
    """Return the model that an entry varies, under the entry's name, or else a bare one."""
    if entry.variant_of is None:
        return ModelSpec(entry.model_id, str(entry.adapter), entry.path)
    try:
        original = known.get(entry.variant_of)
    except ModelNotFoundError as error:
        raise ConfigError(
            f"models.{entry.model_id}.variant_of: {error} "
            "A variant comes after the model it is a variant of."
        ) from None
    if original.model_id == entry.model_id:
        return original
    return replace(original, model_id=entry.model_id, aliases=())
