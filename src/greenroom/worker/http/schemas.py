"""What clients send, as OpenAI defines it, and what is taken from it.

Unknown fields are ignored: clients merge settings of their users into the request. `null` is as
good as absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from greenroom.audio.encoding import FORMATS, Format
from greenroom.audio.framing import SampleRate
from greenroom.catalog.catalog import Catalog
from greenroom.speech.text import CheckedText
from greenroom.voice import Voice
from greenroom.worker.errors import about_field
from greenroom.worker.http.body import parsed
from greenroom.worker.http.keep_alive import KeepAlive, seconds_of
from greenroom.worker.http.voice_names import Names
from greenroom.worker.quotas import Allowance
from greenroom.worker.synthesis import Synthesis

Name = Annotated[str, Field(min_length=1, max_length=200)]

NOT_BLANK: dict[str, Any] = {"pattern": r"\S"}
"""Said in the document; what is refused is decided by `Synthesis.text`."""

_EXAMPLE: dict[str, Any] = {
    "model": "tts-1",
    "voice": "alloy",
    "input": "Good evening.",
    "response_format": "mp3",
}


class VoiceId(BaseModel):
    """A voice as an object, which OpenAI has for voices of one's own."""

    model_config = ConfigDict(strict=True)

    id: Name


class SpeechRequest(BaseModel):
    """The body of `POST /v1/audio/speech`."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [_EXAMPLE]})

    model: Name
    input: str = Field(description="What to say.", json_schema_extra=NOT_BLANK)
    voice: Name | VoiceId
    instructions: str | None = Field(None, description="Accepted; no engine here follows it.")
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = "mp3"
    speed: float | None = Field(1.0, ge=0.25, le=4.0, allow_inf_nan=False)
    stream_format: Literal["audio", "sse"] | None = "audio"
    sample_rate: int | None = Field(None, ge=8_000, le=192_000, description="Hz; an extension.")
    keep_alive: KeepAlive | None = Field(None, description="An extension, as Ollama has it.")


@dataclass(frozen=True, slots=True)
class SpeechPlan:
    """A request that can be fulfilled, as far as that can be known before a model is loaded."""

    text: CheckedText
    voice: Voice
    format: Format
    sse: bool
    keep_alive: float | None
    """Seconds; negative is for ever."""


class SpeechPlanner:
    """Checks requests against the catalog, the aliases and the limits."""

    def __init__(self, synthesis: Synthesis, names: Names) -> None:
        self._synthesis = synthesis
        self._names = names
        self._catalog: Catalog = synthesis.manager.catalog

    def plan(self, body: bytes, allowance: Allowance) -> SpeechPlan:
        """Return what to do; raises `InvalidInputError` and `ModelNotFoundError`."""
        asked = parsed(SpeechRequest, body)
        voice = asked.voice if isinstance(asked.voice, str) else asked.voice.id
        model_id = self._names.model_id(asked.model, voice)
        made = FORMATS[asked.response_format or "mp3"]
        keep = asked.keep_alive
        with about_field("input"):
            text = self._synthesis.text(
                asked.input, limit=allowance.text_limit(self._synthesis.settings.max_text_chars)
            )
        with about_field("sample_rate"):
            rate = made.rate(asked.sample_rate)
        return SpeechPlan(
            text,
            self._voice(model_id, asked.speed or 1.0, rate),
            made,
            asked.stream_format == "sse",
            None if keep is None else seconds_of(keep),
        )

    def _voice(self, model_id: str, speed: float, rate: SampleRate) -> Voice:
        """Return the voice; a speed of 1 is the model's own, whatever that is configured to be."""
        if speed == 1.0:
            return self._synthesis.voices.choose(model_id, None, rate)
        own = float(self._catalog.get(model_id).options.get("speed", 1.0))
        with about_field("speed"):
            return self._synthesis.voices.choose(model_id, {"speed": f"{own * speed:g}"}, rate)
