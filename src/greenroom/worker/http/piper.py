"""`POST /synthesize`, as Piper's own HTTP server has it: JSON in, a WAV file out.

Clients of that server need only another address; some post to `/`. Unlike there, an unknown voice
is refused and not spoken in the default one.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from greenroom.audio.encoding import FORMATS
from greenroom.worker.errors import about_field
from greenroom.worker.http.body import VoiceName, read
from greenroom.worker.http.fields import NumberOrText
from greenroom.worker.http.openapi import NOT_BLANK, reads
from greenroom.worker.http.speech_request import (
    FORM_DESCRIPTION,
    WORDS_DESCRIPTION,
    AnyCaseForm,
    Number,
)
from greenroom.worker.http.streaming_response import SpeechPlan, SpeechResponse
from greenroom.worker.http.voice_names import VoiceNames
from greenroom.worker.synthesis import Synthesis

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}}
}


class PiperRequest(BaseModel):
    """The body of `POST /synthesize`; unknown fields are ignored."""

    model_config = ConfigDict(
        strict=True, json_schema_extra={"examples": [{"text": "Good evening."}]}
    )

    text: str = Field(json_schema_extra=NOT_BLANK)
    voice: VoiceName | None = Field(None, description="Absent: the default.")
    speaker: str | int | None = None
    speaker_id: int | None = None
    length_scale: Annotated[float, Field(gt=0, allow_inf_nan=False), NumberOrText()] | None = None
    noise_scale: Number | None = None
    noise_w_scale: Number | None = None
    text_form: AnyCaseForm | None = Field(None, description=FORM_DESCRIPTION)
    pronunciations: dict[str, str] | None = Field(None, description=WORDS_DESCRIPTION)

    def options(self) -> dict[str, str]:
        """Return what the voice is asked for beyond its own settings."""
        speaker = self.speaker_id if self.speaker is None else self.speaker
        said = {
            "speaker": speaker,
            "length_scale": self.length_scale,
            "noise_scale": self.noise_scale,
            "noise_w_scale": self.noise_w_scale,
        }
        return {name: str(value) for name, value in said.items() if value is not None}


def router(synthesis: Synthesis, names: VoiceNames) -> APIRouter:
    """Return the route."""
    made = APIRouter(tags=["speech"])
    wav = FORMATS["wav"]

    @made.post("/", include_in_schema=False)
    @made.post(
        "/synthesize",
        response_class=Response,
        responses=_ANSWER,
        openapi_extra=reads(PiperRequest),
    )
    async def synthesize(request: Request) -> SpeechResponse:
        """Say a text: WAV at 24 kHz, sent as it is made."""
        asked = await read(request, PiperRequest, synthesis.patience)
        limit = request.state.caller.quota.text_limit(synthesis.settings.max_text_chars)
        with about_field("text"):
            text = synthesis.text(asked.text, limit=limit, form=asked.text_form)
        model_id = names.voice_id(asked.voice) if asked.voice else ""
        voice = synthesis.voices.choose(
            model_id, asked.options(), wav.default_rate, pronunciations=asked.pronunciations
        )
        plan = SpeechPlan(text, voice, wav, carrier="audio", keep_alive=None)
        return SpeechResponse(synthesis, plan, request.state.caller)

    return made
