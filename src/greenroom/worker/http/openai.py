"""OpenAI's API: `POST /v1/audio/speech`, and the lists of models and voices.

Speech may also be had with `GET`, for whatever takes no more than an address, such as
`<audio src>`. `/audio/speech` is for clients that are given an address without `/v1`.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from greenroom.adapter import ModelSpec
from greenroom.audio.encoding import FORMATS
from greenroom.config.schema import MAX_NAME_CHARS
from greenroom.worker.auth import Caller
from greenroom.worker.http.body import checked, parsed, read_body
from greenroom.worker.http.openapi import EVENTS, queries, reads
from greenroom.worker.http.serializers import CatalogList
from greenroom.worker.http.speech_request import SpeechPlanner, SpeechRequest
from greenroom.worker.http.streaming_response import SpeechPlan, SpeechResponse
from greenroom.worker.http.voice_names import VoiceNames
from greenroom.worker.synthesis import Synthesis

_SPEECH = "/v1/audio/speech"
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


def speech_router(synthesis: Synthesis, names: VoiceNames) -> APIRouter:
    """Return the route; it reads the body itself, after the caller was recognised."""
    made = APIRouter(tags=["speech"])
    planner = SpeechPlanner(synthesis, names)
    default = synthesis.voices.default_model_id

    @made.post("/audio/speech", include_in_schema=False)
    @made.post(
        _SPEECH, response_class=Response, responses=_ANSWER, openapi_extra=reads(SpeechRequest)
    )
    async def create_speech(request: Request) -> SpeechResponse:
        """Say a text: audio in the asked format, sent as it is made."""
        caller: Caller = request.state.caller
        said = await read_body(request, patience=synthesis.patience)
        plan = planner.plan(parsed(SpeechRequest, said), caller.quota)
        return SpeechResponse(synthesis, plan, caller)

    def planned(request: Request) -> SpeechPlan:
        """Return what a query asks for; it may leave out model and voice, or either."""
        asked: dict[str, str] = dict(request.query_params)
        named = asked.get("voice") or asked.get("model") or default
        if not asked.get("model"):
            names.voice_id(named[:MAX_NAME_CHARS])  # else it would be the model that is unknown
        asked = {**asked, "model": asked.get("model") or named, "voice": named}
        return planner.plan(checked(SpeechRequest, asked), request.state.caller.quota)

    @made.get("/audio/speech", include_in_schema=False)
    @made.get(
        _SPEECH,
        response_class=Response,
        responses=_ANSWER,
        openapi_extra=queries(
            SpeechRequest, optional=("model", "voice"), left_out=("pronunciations",)
        ),
    )
    async def play_speech(request: Request) -> SpeechResponse:
        """Say the text of a query, for `<audio src>`; without a voice in the default one."""
        return SpeechResponse(synthesis, planned(request), request.state.caller)

    @made.head("/audio/speech", include_in_schema=False)
    @made.head(_SPEECH, include_in_schema=False)
    async def look_at_speech(request: Request) -> Response:
        """Answer what `GET` would begin with, and say nothing."""
        answer = Response(headers=planned(request).headers)
        del answer.headers["content-length"]  # nobody knows how long the audio would be
        return answer

    return made


_OWNER = "greenroom"


def discovery_router(synthesis: Synthesis, names: VoiceNames) -> APIRouter:
    """Return the routes of discovery."""
    made = APIRouter(tags=["discovery"])
    catalog = synthesis.manager.catalog
    created = int(time.time())

    def model(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": _OWNER}

    models = CatalogList(
        "data", catalog, lambda: (model(spec.model_id) for spec in catalog), object="list"
    )
    audio_models = CatalogList(
        "models",
        catalog,
        lambda: ({"id": spec.model_id, "name": spec.model_id} for spec in catalog),
    )
    voices = CatalogList("voices", catalog, lambda: map(_voice, catalog))

    @made.get("/v1")
    @made.get("/v1/", include_in_schema=False)
    async def welcome() -> dict[str, Any]:
        """Say who answers: some clients open their connection with this."""
        return {"name": _OWNER, "version": synthesis.version}

    @made.get("/v1/models", response_model=dict[str, Any])
    async def list_models() -> Response:
        """Return every model of the catalog."""
        return await models.answer()

    @made.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> dict[str, Any]:
        """Return one model, by its id, its alias, or one of OpenAI's names."""
        names.models.find(name)
        return model(name)

    @made.get("/v1/audio/models", response_model=dict[str, Any])
    async def list_audio_models() -> Response:
        """Return every model of the catalog, as Open WebUI asks for them."""
        return await audio_models.answer()

    @made.get("/v1/audio/voices", response_model=dict[str, Any])
    async def list_voices(model: str | None = None) -> Response | dict[str, Any]:
        """Return every voice, or those of one `model`; a voice's name is what finds it."""
        known = names.models.name(model) if model else ""
        if known not in catalog:
            return await voices.answer()
        return {"voices": [_voice(catalog.get(known))]}

    return made


def _voice(spec: ModelSpec) -> dict[str, Any]:
    return {
        "id": spec.model_id,
        "name": spec.model_id,
        "model": spec.model_id,
        "languages": list(spec.languages),
        "tags": list(spec.tags),
    }
