"""Speech with word times in JSON, as Kokoro-FastAPI has it: `POST /dev/captioned_speech`.

The answer is one object with `audio` (base64), `audio_format` and `timestamps`; with `stream`, a
line of such for each piece of audio. `timestamps` is `null` where the voice does not know them.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, Field

from greenroom.worker.auth import Caller
from greenroom.worker.http.body import read
from greenroom.worker.http.fields import flag
from greenroom.worker.http.openapi import reads
from greenroom.worker.http.speech_request import SpeechPlanner, SpeechRequest
from greenroom.worker.http.streaming_response import Carrier, SpeechResponse
from greenroom.worker.http.voice_names import VoiceNames
from greenroom.worker.synthesis import Synthesis

_PATH = "/dev/captioned_speech"


class CaptionedSpeechRequest(SpeechRequest):
    """The body of `POST /dev/captioned_speech`: that of `/v1/audio/speech`, and `stream`.

    `stream_format` means nothing here.
    """

    return_timestamps: Annotated[bool, BeforeValidator(flag)] | None = True
    stream: Annotated[bool, BeforeValidator(flag)] | None = Field(
        True, description="A line of JSON for each piece, or one object at the end."
    )


_WORD = {
    "type": "object",
    "required": ["word", "start_time", "end_time"],
    "properties": {
        "word": {"type": "string"},
        "start_time": {"type": "number"},
        "end_time": {"type": "number"},
    },
}
_CAPTIONED = {
    "type": "object",
    "required": ["audio", "audio_format", "timestamps"],
    "properties": {
        "audio": {"type": "string", "contentEncoding": "base64"},
        "audio_format": {"type": "string"},
        "timestamps": {"anyOf": [{"type": "array", "items": _WORD}, {"type": "null"}]},
    },
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio with the times of its words.",
        "content": {
            "application/json": {"schema": _CAPTIONED},
            "application/x-ndjson": {"schema": _CAPTIONED},
        },
    }
}


def router(synthesis: Synthesis, names: VoiceNames) -> APIRouter:
    """Return the route; it reads the body itself, after the caller was recognised."""
    made = APIRouter(tags=["speech"])
    planner = SpeechPlanner(synthesis, names)

    @made.post(
        _PATH,
        response_class=Response,
        responses=_ANSWER,
        openapi_extra=reads(CaptionedSpeechRequest),
    )
    async def create_captioned_speech(request: Request) -> SpeechResponse:
        """Say a text: audio and the times of its words, in JSON."""
        caller: Caller = request.state.caller
        asked = await read(request, CaptionedSpeechRequest, synthesis.patience)
        carrier: Carrier = "json" if asked.stream is False else "json lines"
        plan = planner.plan(asked, caller.quota, carrier=carrier)
        return SpeechResponse(synthesis, plan, caller)

    return made
