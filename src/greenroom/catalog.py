"""Every model that could be loaded, found by its id or an alias and by nothing else."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rapidfuzz import fuzz, process

from greenroom import registry, wording
from greenroom.config import Config, ModelSettings, voice_directories
from greenroom.devices import canonical
from greenroom.errors import ConfigError, InvalidInputError, ModelNotFoundError
from greenroom.speech import ModelSpec

if TYPE_CHECKING:
    from greenroom.adapter import TTSAdapter

logger = logging.getLogger(__name__)

_LONGEST_ID = 200
_NEAR = 55.0  # of 100, by rapidfuzz's normalized similarity


class Catalog:
    """An immutable collection of `ModelSpec`, in the order given."""

    def __init__(self, specs: Iterable[ModelSpec] = ()) -> None:
        """Raises `ConfigError` for two models of one id, or an alias that is somebody's id."""
        self._specs: dict[str, ModelSpec] = {}
        for spec in specs:
            if spec.model_id in self._specs:
                raise ConfigError(f"two models have the id {spec.model_id!r}; rename one.")
            device = canonical(spec.device)
            named = spec if device == spec.device else replace(spec, device=device)
            self._specs[spec.model_id] = named
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
        """Return what the adapters (all registered ones) find in `directories`.

        Without directories these are the ones of `voice_directories()`. Of two models with one
        id, the one found first counts.
        """
        places = [Path(place) for place in directories] or voice_directories()
        return cls(_discovered(places, _available() if adapters is None else adapters).values())

    @classmethod
    def from_config(cls, config: Config) -> Catalog:
        """Return what is discovered, then what `models` adds or puts in its place.

        A name of `models` is taken away from whatever was discovered under it. Raises
        `ConfigError`, whose `problems` are all that is wrong.
        """
        found = _discovered(voice_directories(config.voices), _available())
        problems = []
        seen: set[str] = set()
        for entry in config.models:
            try:
                if entry.model_id in seen:
                    raise ConfigError(f"models.{entry.model_id}: is there twice; rename one.")
                seen.add(entry.model_id)
                found[entry.model_id] = _configured(entry, found)
            except ConfigError as error:
                problems.append(str(error))
        if problems:
            raise ConfigError(wording.summary(problems), problems=problems)
        return cls(_without_clashes(found, first=seen).values())

    def get(self, model_id: str) -> ModelSpec:
        """Return the model of that id or alias; raises `ModelNotFoundError` naming near ones."""
        spec = self._specs.get(model_id)
        if spec is None:
            known = self._ids.get(model_id)
            if known is None:
                raise ModelNotFoundError(str(model_id), self.near(model_id))
            spec = self._specs[known]
        return spec

    def near(self, model_id: str) -> tuple[str, ...]:
        """Return up to three ids or aliases that look like `model_id`."""
        if not isinstance(model_id, str) or not 0 < len(model_id) <= _LONGEST_ID:
            return ()
        names = [*self._specs, *self._ids]
        found = process.extract(
            model_id, names, scorer=fuzz.ratio, processor=str.lower, limit=6, score_cutoff=_NEAR
        )
        return tuple(dict.fromkeys(self._ids.get(name, name) for name, _, _ in found))[:3]

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def __contains__(self, model_id: object) -> bool:
        return model_id in self._specs or model_id in self._ids

    def __repr__(self) -> str:
        return f"<Catalog of {len(self._specs)} models>"


def _available() -> list[type[TTSAdapter]]:
    """Return the registered adapters that can be imported; one that cannot is reported."""
    adapters = []
    for name in registry.names():
        try:
            adapters.append(registry.resolve(name))
        except ConfigError as error:
            logger.warning("%s", error)
    return adapters


def _discovered(
    directories: Sequence[Path], adapters: Sequence[type[TTSAdapter] | str]
) -> dict[str, ModelSpec]:
    found: dict[str, ModelSpec] = {}
    for adapter in map(registry.resolve, adapters):
        for spec in adapter.discover(directories):
            try:
                adapter.check_options(spec.options)
            except InvalidInputError as error:
                logger.warning("model %s is left out: %s", spec.model_id, error)
            else:
                found.setdefault(spec.model_id, spec)
    return _without_clashes(found)


def _without_clashes(
    found: dict[str, ModelSpec], first: Collection[str] = ()
) -> dict[str, ModelSpec]:
    """Return the models without the aliases that are somebody's id or earlier alias.

    The models in `first` keep theirs, so that a clash between two of them is still seen.
    """
    taken = {*found, *(alias for name in first for alias in found[name].aliases)}
    kept = {}
    for name, spec in found.items():
        if name not in first:
            fresh = tuple(alias for alias in dict.fromkeys(spec.aliases) if alias not in taken)
            taken.update(fresh)
            spec = replace(spec, aliases=fresh)
        kept[name] = spec
    return kept


def _configured(entry: ModelSettings, known: dict[str, ModelSpec]) -> ModelSpec:
    """Return the model of one entry of `models`, checked as far as its adapter can."""
    original = _basis(entry, known)
    own = {
        "device": entry.device,
        "languages": entry.languages,
        "tags": entry.tags,
        "footprint_mb": entry.footprint_mb,
        "ttl_ms": entry.ttl_ms,
        "aliases": entry.aliases,
    }
    given = {key: value for key, value in own.items() if value not in (None, ())}
    options = {**original.options, **entry.options}
    spec = replace(original, options=options, **given)  # type: ignore[arg-type]
    try:
        registry.resolve(spec.adapter).check_options(spec.options)
    except InvalidInputError as error:
        raise ConfigError(f"models.{entry.model_id}.options: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"models.{entry.model_id}.adapter: {error}") from None
    return spec


def _basis(entry: ModelSettings, known: dict[str, ModelSpec]) -> ModelSpec:
    """Return the model that an entry is a variant of under its new name, or a bare one."""
    if entry.variant_of is None:
        return ModelSpec(entry.model_id, str(entry.adapter), entry.path)
    try:
        original = Catalog(known.values()).get(entry.variant_of)
    except ModelNotFoundError as error:
        raise ConfigError(
            f"models.{entry.model_id}.variant_of: {error} "
            "A variant comes after the model it is a variant of."
        ) from None
    if original.model_id == entry.model_id:
        return original
    return replace(original, model_id=entry.model_id, aliases=())
