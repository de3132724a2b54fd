"""`POST /v1/audio/speech`, as OpenAI defines it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from greenroom.audio.encoding import FORMATS
from greenroom.worker.auth import Caller
from greenroom.worker.http.body import read_body
from greenroom.worker.http.openapi import EVENTS, reads
from greenroom.worker.http.schemas import SpeechPlanner, SpeechRequest
from greenroom.worker.http.streaming_response import Delivery
from greenroom.worker.http.voice_names import Names
from greenroom.worker.synthesis import Synthesis

_AUDIO = {"schema": {"type": "string", "format": "binary"}}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio as it is made, or events with it.",
        "content": {
            **{made.media_type: _AUDIO for made in FORMATS.values()},
            "text/event-stream": EVENTS,
        },
    }
}


def router(synthesis: Synthesis, names: Names) -> APIRouter:
    """Return the route; it reads the body itself, after the caller was recognised."""
    made = APIRouter(tags=["speech"])
    planner = SpeechPlanner(synthesis, names)

    @made.post(
        "/v1/audio/speech",
        response_class=Response,
        responses=_ANSWER,
        openapi_extra=reads(SpeechRequest),
    )
    async def create_speech(request: Request) -> Delivery:
        """Say a text: audio in the asked format, sent as it is made."""
        caller: Caller = request.state.caller
        said = await read_body(request, patience=synthesis.patience)
        return Delivery(synthesis, planner.plan(said, caller.allowance), caller)

    return made
