"""From the names in a request to a model: OpenAI's requests name a model and a voice."""

from __future__ import annotations

from greenroom.errors import ModelNotFoundError
from greenroom.voice import ModelNames
from greenroom.worker.errors import FieldError


class VoiceNames:
    """What a request means by its `model` and its `voice`."""

    def __init__(self, models: ModelNames) -> None:
        self.models = models

    def model_id(self, model: str, voice: str) -> str:
        """Return the model that a request means by a `model` and a `voice`.

        A name of the catalog goes before an alias, and of two such names the voice: it is what the
        caller wants to hear. An alias that stands for no model leaves the choice to the other name,
        and two of them mean the default. Raises `ModelNotFoundError` for the model and `FieldError`
        for the voice, with names that look like it.
        """
        by_model, by_voice = self.models.find(model), self.voice_id(voice)
        model, voice = self.models.name(model), self.models.name(voice)
        if voice in self.models:
            return by_voice
        if model in self.models or self.models.aliases[voice] is None:
            return by_model
        return by_voice

    def voice_id(self, voice: str) -> str:
        """Return the model that a voice means by itself; raises `FieldError`."""
        try:
            return self.models.find(voice)
        except ModelNotFoundError as error:
            near = ", ".join(error.near)
        fix = f"did you mean {near}?" if near else "GET /v1/audio/voices lists them."
        problem = f"voice {voice[:80]!r} is not known; {fix}"
        raise FieldError("voice", problem, code="voice_not_found")
