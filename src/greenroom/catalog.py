"""Every model that could be loaded, found by its id or an alias and by nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rapidfuzz import fuzz, process

from greenroom import registry
from greenroom.config import Config, ModelSettings, voice_directories
from greenroom.errors import ConfigError, ModelNotFoundError
from greenroom.speech import ModelSpec

if TYPE_CHECKING:
    from greenroom.adapter import TTSAdapter

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
            self._specs[spec.model_id] = spec
        self._ids: dict[str, str] = {}
        for spec in self._specs.values():
            for alias in spec.aliases:
                self._add_alias(alias, spec.model_id)

    def _add_alias(self, alias: str, model_id: str) -> None:
        taken = self._ids.get(alias, alias if alias in self._specs else model_id)
        if taken != model_id:
            raise ConfigError(f"alias {alias!r} of {model_id!r} already means {taken!r}.")
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
        return cls(_discovered(places, registry.names() if adapters is None else adapters))

    @classmethod
    def from_config(cls, config: Config) -> Catalog:
        """Return what is discovered, then what `models` adds.

        Raises `ConfigError`.
        """
        found = {s.model_id: s for s in _discovered(voice_directories(config.voices), _available())}
        for entry in config.models:
            found[entry.model_id] = _configured(entry, found)
        return cls(found.values())

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
    """Return the registered adapters that can be imported; an engine may not be installed."""
    return [registry.resolve(name) for name in registry.names()]


def _discovered(
    directories: Sequence[Path], adapters: Sequence[type[TTSAdapter] | str]
) -> list[ModelSpec]:
    found: dict[str, ModelSpec] = {}
    names: set[str] = set()
    for adapter in adapters:
        for spec in registry.resolve(adapter).discover(directories):
            if spec.model_id in names:
                continue
            fresh = tuple(alias for alias in spec.aliases if alias not in names)
            found[spec.model_id] = replace(spec, aliases=fresh)
            names.update((spec.model_id, *fresh))
    return list(found.values())


def _configured(entry: ModelSettings, known: dict[str, ModelSpec]) -> ModelSpec:
    own = {
        "languages": entry.languages,
        "tags": entry.tags,
        "footprint_mb": entry.footprint_mb,
        "ttl_ms": entry.ttl_ms,
    }
    given = {key: value for key, value in own.items() if value not in (None, ())}
    if entry.variant_of is None:
        spec = ModelSpec(entry.model_id, str(entry.adapter), entry.path, entry.device)
        options = entry.options
    else:
        near = next(
            (s for s in known.values() if entry.variant_of in (s.model_id, *s.aliases)), None
        )
        if near is None:
            raise ConfigError(
                f"models.{entry.model_id}.variant_of: {entry.variant_of!r} is not in the catalog; "
                f"there are: {', '.join(known) or 'none'}."
            )
        spec = replace(near, model_id=entry.model_id)
        options = {**near.options, **entry.options}
    spec = replace(spec, options=options, aliases=entry.aliases, **given)  # type: ignore[arg-type]
    registry.resolve(spec.adapter).check_options(spec.options)
    return spec
