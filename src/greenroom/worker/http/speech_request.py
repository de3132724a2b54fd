"""What a request for speech may say, in OpenAI's words and some of our own, and its check.

Unknown fields are ignored: clients merge settings of their users into the request. `null` is as
good as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from greenroom.audio.encoding import FORMAT_NAMES, FORMATS
from greenroom.audio.framing import SampleRate
from greenroom.errors import InvalidInputError
from greenroom.speech.text import TextForm
from greenroom.voice import Voice
from greenroom.worker.auth import Quota
from greenroom.worker.errors import FieldError, about_field
from greenroom.worker.http.body import VoiceName
from greenroom.worker.http.fields import NumberOrText, flag, in_any_case
from greenroom.worker.http.keep_alive import KeepAlive, seconds_of
from greenroom.worker.http.openapi import NOT_BLANK
from greenroom.worker.http.streaming_response import Carrier, SpeechPlan
from greenroom.worker.http.voice_names import VoiceNames
from greenroom.worker.synthesis import Synthesis

_EXAMPLE: dict[str, Any] = {
    "model": "tts-1",
    "voice": "alloy",
    "input": "Good evening.",
    "response_format": "mp3",
}

Number = Annotated[float, Field(ge=0, allow_inf_nan=False), NumberOrText()]
"""An option of a voice; the engine knows its range."""

FORM_DESCRIPTION = (
    "How the text is read: `plain`, as written, or `markdown`; an extension. As the worker is "
    "configured unless given."
)
WORDS_DESCRIPTION = (
    "Words with another spelling to say for them, or with `[[phonemes]]`; they go before those of "
    "the configuration. An extension."
)
_ENGINES = "An extension; the engine has a range for it."

_STREAM_FORMATS = {"audio": "audio", "sse": "sse"}
_TEXT_FORMS = {"plain": "plain", "markdown": "markdown"}
AnyCaseForm = Annotated[TextForm, BeforeValidator(in_any_case(_TEXT_FORMS))]


class VoiceId(BaseModel):
    """A voice as an object, which OpenAI has for voices of one's own."""

    model_config = ConfigDict(strict=True)

    id: VoiceName


class SpeechRequest(BaseModel):
    """The body of `POST /v1/audio/speech`, and the query parameters of `GET`."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [_EXAMPLE]})

    model: VoiceName
    input: str = Field(description="What to say.", json_schema_extra=NOT_BLANK)
    voice: VoiceName | VoiceId
    instructions: str | None = Field(None, description="Accepted; no engine here follows it.")
    response_format: (
        Annotated[
            str,
            BeforeValidator(in_any_case(FORMAT_NAMES)),
            Field(json_schema_extra={"enum": list(FORMAT_NAMES)}),
        ]
        | None
    ) = Field("mp3", description="In any case. `mulaw` and `alaw` are at 8 kHz; extensions.")
    speed: Annotated[float, Field(ge=0.25, le=4.0, allow_inf_nan=False), NumberOrText()] | None = (
        1.0
    )
    stream_format: (
        Annotated[Literal["audio", "sse"], BeforeValidator(in_any_case(_STREAM_FORMATS))] | None
    ) = "audio"
    sample_rate: Annotated[int, Field(ge=8_000, le=192_000), NumberOrText()] | None = Field(
        None, description="Hz; an extension."
    )
    text: AnyCaseForm | None = Field(None, description=FORM_DESCRIPTION)
    keep_alive: KeepAlive | None = Field(None, description="An extension, as Ollama has it.")
    volume: Number | None = Field(None, description=f"1 is the voice's own. {_ENGINES}")
    speaker: VoiceName | int | None = Field(
        None, description="Who speaks, of a voice with several: a name or a number; an extension."
    )
    sentence_silence: Number | None = Field(
        None, description=f"Seconds after each sentence. {_ENGINES}"
    )
    noise_scale: Number | None = Field(
        None, description=f"How much the voice varies its sound; 0: not. {_ENGINES}"
    )
    noise_w_scale: Number | None = Field(
        None, description=f"How much the voice varies its durations; 0: not. {_ENGINES}"
    )
    length_scale: Number | None = Field(
        None, description=f"How slowly it speaks, as Piper counts: 2 is half as fast. {_ENGINES}"
    )
    pronunciations: dict[str, str] | None = Field(None, description=WORDS_DESCRIPTION)

    return_timestamps: Annotated[bool, BeforeValidator(flag)] | None = Field(
        False,
        description="Tell when each word is heard, in events `speech.audio.timestamps`; with "
        "`stream_format` `sse` only. An extension.",
    )

    def options(self) -> Mapping[str, str]:
        """Return what the voice is asked for beyond its own settings, without `speed`."""
        asked = {name: getattr(self, name) for name in _OPTIONS}
        return {name: f"{value}" for name, value in asked.items() if value is not None}


_OPTIONS = (
    *("volume", "speaker", "sentence_silence"),
    *("noise_scale", "noise_w_scale", "length_scale"),
)
"""Fields that are options of engines, and called so there too."""


class SpeechPlanner:
    """Checks requests against the catalog, the aliases and the limits."""

    def __init__(self, synthesis: Synthesis, names: VoiceNames) -> None:
        self._synthesis = synthesis
        self._names = names

    def plan(
        self, asked: SpeechRequest, quota: Quota, *, carrier: Carrier | None = None
    ) -> SpeechPlan:
        """Return what to do; raises `InvalidInputError` and `ModelNotFoundError`.

        `carrier` is what audio comes in; else what `stream_format` asks for.
        """
        carrier = carrier or asked.stream_format or "audio"
        wants_times = bool(asked.return_timestamps)
        if wants_times and carrier == "audio":
            raise FieldError(
                "return_timestamps",
                "the times of words come in events; set stream_format to 'sse', or post to "
                "/dev/captioned_speech.",
            )
        voice = asked.voice if isinstance(asked.voice, str) else asked.voice.id
        model_id = self._names.model_id(asked.model, voice)
        made = FORMATS[asked.response_format or "mp3"]
        keep = asked.keep_alive
        with about_field("input"):
            text = self._synthesis.text(
                asked.input,
                limit=quota.text_limit(self._synthesis.settings.max_text_chars),
                form=asked.text,
            )
        with about_field("sample_rate"):
            rate = made.rate(asked.sample_rate)
        return SpeechPlan(
            text,
            replace(self._voice(model_id, asked, rate), word_times=wants_times),
            made,
            carrier,
            None if keep is None else seconds_of(keep),
        )

    def _voice(self, model_id: str, asked: SpeechRequest, rate: SampleRate) -> Voice:
        """Return the voice; a speed of 1 is the model's own, whatever that is configured to be."""
        options = dict(asked.options())
        if asked.speed is not None and asked.speed != 1.0:
            spec = self._synthesis.manager.catalog.get(model_id)
            options["speed"] = f"{float(spec.options.get('speed', 1.0)) * asked.speed:g}"
        choose, words = self._synthesis.voices.choose, asked.pronunciations
        try:
            return choose(model_id, options, rate, pronunciations=words)
        except InvalidInputError:
            for name, value in options.items():  # which of them was it?
                with about_field(name):
                    choose(model_id, {name: value}, rate)
            with about_field("pronunciations"):
                choose(model_id, None, rate, pronunciations=words)
            raise
