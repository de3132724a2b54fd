"""From the names that callers of OpenAI's API send to a model of the catalog."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from greenroom.catalog.catalog import Catalog
from greenroom.errors import ModelNotFoundError
from greenroom.worker.errors import FieldError


class Names:
    """The catalog and the configuration's aliases, under one roof."""

    def __init__(self, catalog: Catalog, aliases: Mapping[str, str | None], default: str) -> None:
        self._catalog = catalog
        self._aliases = aliases
        self._default = default

    def model_id(self, model: str, voice: str) -> str:
        """Return whom a request means that names a `model` and a `voice`.

        A name of the catalog goes before an alias, and of two such names the voice: it is what the
        caller wants to hear. An alias that stands for no model leaves the choice to the other name,
        and two of them mean the default. Raises `ModelNotFoundError` for the model and `FieldError`
        for the voice, with names that look like it.
        """
        by_model, by_voice = self.meant_by(model), self.voice_id(voice)
        if voice in self._catalog:
            return by_voice
        if model in self._catalog or self._aliases[voice] is None:
            return by_model
        return by_voice

    def voice_id(self, voice: str) -> str:
        """Return the model that a voice means by itself; raises `FieldError`."""
        try:
            return self.meant_by(voice)
        except ModelNotFoundError:
            raise FieldError(
                "voice",
                f"voice {voice[:80]!r} is not known; {self._fix(voice)}",
                code="voice_not_found",
            ) from None

    def meant_by(self, name: str) -> str:
        """Return the model that a name means by itself; raises `ModelNotFoundError`."""
        if name in self._catalog:
            return self._catalog.get(name).model_id
        if name not in self._aliases:
            raise ModelNotFoundError(name, self._near(name))
        return self._catalog.get(self._aliases[name] or self._default).model_id

    def _near(self, name: str) -> tuple[str, ...]:
        near = self._catalog.near(name)
        aliases = {alias.lower(): alias for alias in self._aliases}
        found = difflib.get_close_matches(name[:80].lower(), aliases, n=3)
        return near or tuple(aliases[alias] for alias in found)

    def _fix(self, name: str) -> str:
        near = self._near(name)
        return f"did you mean {', '.join(near)}?" if near else "GET /v1/audio/voices lists them."
