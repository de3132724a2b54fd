"""Which voice a Riva request means: Riva's clients name a voice and a language, or one of them.

A voice of Riva's is called `MODEL.SUBVOICE`; here that is a voice and its speaker.
"""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.catalog.catalog import Catalog
from greenroom.errors import InvalidInputError, ModelNotFoundError, first_few
from greenroom.untrusted.printable import printable_repr
from greenroom.voice import ModelNames
from greenroom.worker.voices_by_language import VoicesByLanguage, speaks

_NVIDIAS_OWN = "magpie-"
"""What the names of NVIDIA's hosted voices begin with, which its clients have as defaults. Like
OpenAI's names they stand for no voice here, so the choice is left to the language."""


@dataclass(frozen=True, slots=True)
class NamedVoice:
    """A model, and who of it speaks."""

    model_id: str
    speaker: str = ""
    """Empty for the model's own choice."""


class RivaVoices:
    """Finds voices by name and language, in a catalog that may change."""

    def __init__(
        self,
        catalog: Catalog,
        names: ModelNames,
        by_language: VoicesByLanguage,
        default_model_id: str,
    ) -> None:
        self._catalog = catalog
        self._names = names
        self._default_model_id = default_model_id
        self._by_language = by_language

    def find(self, voice_name: str, language_code: str) -> NamedVoice:
        """Return the voice of that name, or without one the best for the language.

        Raises `ModelNotFoundError` for a voice, and `InvalidInputError` for a language that the
        voice does not speak, or none.
        """
        # A voice without speakers is shown by Riva's own client with nothing after the full stop.
        name = voice_name.removesuffix(".")
        found = self._named(name) if name else None
        if found is None:
            return NamedVoice(self._speaking(language_code))
        self._check_language(found.model_id, language_code)
        return found

    def _named(self, name: str) -> NamedVoice | None:
        """Return the voice; `None` for a name that leaves the choice open."""
        try:
            model_id = self._model_id(name)
        except ModelNotFoundError:
            if name.lower().startswith(_NVIDIAS_OWN):
                return None
            found = self._with_speaker(name)
            if found is None:
                raise
            return found
        return None if model_id is None else NamedVoice(model_id)

    def _with_speaker(self, name: str) -> NamedVoice | None:
        voice, _, speaker = name.rpartition(".")
        try:
            model_id = self._model_id(voice)
        except ModelNotFoundError:
            return None
        return None if model_id is None else NamedVoice(model_id, speaker)

    def _model_id(self, name: str) -> str | None:
        known = self._names.name(name)
        if known not in self._names and self._names.aliases[known] is None:
            return None
        return self._names.find(known)

    def _check_language(self, model_id: str, language_code: str) -> None:
        """Refuse another language; another region is told apart by the voice alone."""
        languages = self._catalog.get(model_id).languages
        if language_code and languages and not speaks(languages, language_code):
            raise InvalidInputError(
                f"voice {model_id} speaks {first_few(languages)}, not "
                f"{printable_repr(language_code, 20)}; send that as the language_code, or none."
            )

    def _speaking(self, language_code: str) -> str:
        """Return the best voice for a language; the default one for none, or if it tells none."""
        default = self._default_model_id
        if not language_code:
            return default
        found = self._by_language.find(language_code)
        if found is None and self._catalog.get(default).languages:
            raise InvalidInputError(
                f"no voice speaks {printable_repr(language_code, 20)}; "
                f"they speak {first_few(self._catalog.languages)}."
            )
        return found or default
