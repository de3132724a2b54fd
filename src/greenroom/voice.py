"""A request becomes a model, options and a rate: checked once, before anything is started."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.audio.frames import OUTPUT_RATE
from greenroom.audio.framing import SampleRate, check_rate
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog, only_ones
from greenroom.errors import InvalidInputError, ModelNotFoundError, SynthesisError
from greenroom.speech.pronunciation import (
    AS_SPELLED,
    PHONEMES,
    Pronunciation,
    Pronunciations,
)
from greenroom.untrusted.exceptions import describe_error

Option = str | int | float

_MAX_OPTIONS = 32
"""Options of one request: no engine has so many."""

_LONGEST_OPTION = 200
"""Characters of an option, its key or its value."""

MAX_ASKED_WORDS = 500
"""Pronunciations of one request: 2 ms of a processor to build."""

_OWN_FIELDS = ("sample_rate", "text", "word_times", "self")
"""Names that are parameters of `synthesize_stream`; all but the last have fields of their own."""

_CHECKS_NOTHING = TTSAdapter.check_options.__func__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Voice:
    """A model of the catalog with the options and the rate one caller wants."""

    model_id: str
    options: Mapping[str, Option]
    sample_rate: SampleRate
    """Hz of the frames."""
    pronunciation: Pronunciation = field(default_factory=lambda: AS_SPELLED)
    """How words are said, by configuration and caller."""
    word_times: bool = False
    """Whether frames come with the words that begin in them, where the engine knows them."""


class VoiceChooser:
    """Finds and checks voices.

    It knows the adapters of the whole catalog from the start; of models that come later, they are
    imported before they are in the catalog.
    """

    def __init__(
        self,
        catalog: Catalog,
        default_model_id: str,
        pronunciations: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """`pronunciations` are those of the configuration, by language.

        Raises `ConfigError` when an adapter of the catalog is not registered.
        """
        self.pronounce(pronunciations or {})
        self._catalog = catalog
        self.default_model_id = catalog.get(default_model_id).model_id
        self._adapters = {spec.adapter: registry.resolve(spec.adapter) for spec in catalog}

    def pronounce(self, pronunciations: Mapping[str, Mapping[str, str]]) -> None:
        """Have these pronunciations from here on; voices that were chosen before keep theirs."""
        self._pronunciations = Pronunciations(pronunciations)

    def choose(
        self,
        model_id: str = "",
        options: Mapping[str, str] | None = None,
        sample_rate: int = 0,
        *,
        pronunciations: Mapping[str, str] | None = None,
    ) -> Voice:
        """Return the voice; an empty id is the default model, rate 0 is 48 kHz.

        `pronunciations` of the caller go before those of the configuration. Raises
        `ModelNotFoundError` and `InvalidInputError`.
        """
        spec = self._catalog.get(model_id or self.default_model_id)
        adapter = self._adapter_of(spec)
        chosen = _typed(adapter, options or {})
        rate = check_rate(sample_rate or OUTPUT_RATE)
        return Voice(spec.model_id, chosen, rate, self._pronunciation(spec, pronunciations or {}))

    def _adapter_of(self, spec: ModelSpec) -> type[TTSAdapter]:
        return self._adapters.get(spec.adapter) or registry.resolve(spec.adapter)

    def _pronunciation(self, spec: ModelSpec, asked: Mapping[str, str]) -> Pronunciation:
        phonemes = self._adapter_of(spec).reads_phonemes
        configured = self._pronunciations.of(spec.languages, phonemes=phonemes)
        if not asked:
            return configured
        own = Pronunciation(asked, limit=MAX_ASKED_WORDS)
        if not phonemes and any(PHONEMES in said for said in asked.values()):
            raise InvalidInputError(
                f"pronunciations: the engine of {spec.model_id} reads no [[phonemes]]; spell the "
                "word as it is said."
            )
        return own.over(configured)


class ModelNames:
    """Finds a model by any of its names: those of the catalog, and aliases beside it."""

    def __init__(self, catalog: Catalog, aliases: Mapping[str, str | None], default: str) -> None:
        """An alias without a model stands for the `default`."""
        self._catalog = catalog
        self._default = default
        self.take(aliases)

    def take(self, aliases: Mapping[str, str | None]) -> None:
        """Have these aliases from here on, and no others."""
        self.aliases = aliases
        self._aliases = only_ones(aliases)

    def find(self, name: str) -> str:
        """Return the id of the model; raises `ModelNotFoundError` with names that look like it."""
        known = self.name(name)
        if known in self._catalog:
            return self._catalog.get(known).model_id
        return self._catalog.get(self.aliases[known] or self._default).model_id

    def name(self, name: str) -> str:
        """Return a name as it is known here, when it differs from it in case only.

        Where several names do, none is meant. Raises `ModelNotFoundError`.
        """
        if name in self._catalog or name in self.aliases:
            return name
        known = self._catalog.in_any_case(name) or self._aliases.get(name.lower())
        if known is None:
            raise ModelNotFoundError(name, self.near(name))
        return known

    def near(self, name: str) -> tuple[str, ...]:
        """Return names that look like this one, those of the catalog first."""
        near = self._catalog.near(name)
        aliases = {alias.lower(): alias for alias in self.aliases}
        found = difflib.get_close_matches(name[:80].lower(), aliases, n=3)
        return near or tuple(aliases[alias] for alias in found)

    def __contains__(self, name: str) -> bool:
        """Whether the catalog itself has the name."""
        return name in self._catalog


def _typed(adapter: type[TTSAdapter], options: Mapping[str, str]) -> dict[str, Option]:
    if len(options) > _MAX_OPTIONS:
        raise InvalidInputError(f"there are {len(options)} options; {_MAX_OPTIONS} are allowed.")
    for key, text in options.items():
        if len(key) > _LONGEST_OPTION or len(text) > _LONGEST_OPTION:
            raise InvalidInputError(
                f"option {key[:40]!r} is longer than {_LONGEST_OPTION} characters."
            )
        if key in _OWN_FIELDS:
            raise InvalidInputError(f"{key!r} is not an option; use the field of that name.")
    typed = {key: _number_or_text(adapter, key, text) for key, text in options.items()}
    _check(adapter, typed)
    return typed


def _check(adapter: type[TTSAdapter], options: Mapping[str, Any]) -> None:
    """Raise `InvalidInputError` for options that are none, `SynthesisError` if that fails."""
    try:
        adapter.check_options(options)
        return
    except InvalidInputError:
        raise
    except BaseException as error:  # noqa: BLE001 - an adapter is anybody's code, and this the event loop
        problem = f"the model's options cannot be checked: {describe_error(error)}"
    raise SynthesisError(problem)


def _number_or_text(adapter: type[TTSAdapter], key: str, text: str) -> Option:
    """Return the number that `text` looks like, unless the adapter wants a text there.

    A speaker may be called "3922"; an adapter that checks nothing gets numbers.
    """
    number = _number(text)
    if number is None:
        return text
    if getattr(adapter.check_options, "__func__", None) is _CHECKS_NOTHING:
        return number
    try:
        _check(adapter, {key: text})
    except InvalidInputError:
        return number
    return text


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None
