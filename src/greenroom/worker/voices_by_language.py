"""Which voice speaks a language that a client names instead of a voice."""

from __future__ import annotations

from collections.abc import Iterable

from greenroom.catalog.catalog import Catalog


class VoicesByLanguage:
    """Finds voices by language, in a catalog that may change."""

    def __init__(self, catalog: Catalog, default_model_id: str) -> None:
        self._catalog = catalog
        self._default_model_id = default_model_id
        self._speakers_of: tuple[int, dict[str, str]] = (-1, {})
        """By language, the model that is first in the catalog; of which version of it."""

    def find(self, language: str) -> str | None:
        """Return the default model if it speaks the language, else the first that does, if any.

        One with the same region goes before one with another.
        """
        default, tag = self._default_model_id, _tag(language)
        languages = self._catalog.get(default).languages
        if tag in map(_tag, languages):
            return default
        speakers = self._speakers()
        if tag in speakers and "-" in tag:
            return speakers[tag]
        if speaks(languages, tag):
            return default
        return speakers.get(_without_region(tag))

    def _speakers(self) -> dict[str, str]:
        """Return a model for each language, with and without its region."""
        version, found = self._speakers_of
        if version != self._catalog.version:
            version, found = self._catalog.version, {}
            for spec in self._catalog:
                for tag in map(_tag, spec.languages):
                    found.setdefault(tag, spec.model_id)
                    found.setdefault(_without_region(tag), spec.model_id)
            self._speakers_of = version, found
        return found


def speaks(languages: Iterable[str], language: str) -> bool:
    """Return whether `language` is among these, in whatever region it is spoken."""
    asked = _without_region(_tag(language))
    return any(_without_region(_tag(each)) == asked for each in languages)


def _tag(language: str) -> str:
    """Return a language as it is compared: `en-us` for `en_US`, as Piper writes it."""
    return language.lower().replace("_", "-")


def _without_region(tag: str) -> str:
    return tag.partition("-")[0]
