"""OpenAI's API: `POST /v1/audio/speech`, and the lists of models and voices.

Unknown fields are ignored: clients merge settings of their users into the request. `null` is as
good as absent.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from greenroom.adapter import ModelSpec
from greenroom.audio.encoding import FORMATS
from greenroom.audio.framing import SampleRate
from greenroom.catalog.catalog import Catalog
from greenroom.speech.text import TextForm
from greenroom.voice import Voice
from greenroom.worker.auth import Caller, Quota
from greenroom.worker.errors import about_field
from greenroom.worker.http.body import VoiceName, parsed, read_body
from greenroom.worker.http.keep_alive import KeepAlive, seconds_of
from greenroom.worker.http.openapi import EVENTS, NOT_BLANK, reads
from greenroom.worker.http.serializers import CatalogList
from greenroom.worker.http.streaming_response import SpeechPlan, SpeechResponse
from greenroom.worker.http.voice_names import VoiceNames
from greenroom.worker.synthesis import Synthesis

_EXAMPLE: dict[str, Any] = {
    "model": "tts-1",
    "voice": "alloy",
    "input": "Good evening.",
    "response_format": "mp3",
}


class VoiceId(BaseModel):
    """A voice as an object, which OpenAI has for voices of one's own."""

    model_config = ConfigDict(strict=True)

    id: VoiceName


class SpeechRequest(BaseModel):
    """The body of `POST /v1/audio/speech`."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [_EXAMPLE]})

    model: VoiceName
    input: str = Field(description="What to say.", json_schema_extra=NOT_BLANK)
    voice: VoiceName | VoiceId
    instructions: str | None = Field(None, description="Accepted; no engine here follows it.")
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = "mp3"
    speed: float | None = Field(1.0, ge=0.25, le=4.0, allow_inf_nan=False)
    stream_format: Literal["audio", "sse"] | None = "audio"
    sample_rate: int | None = Field(None, ge=8_000, le=192_000, description="Hz; an extension.")
    text: TextForm | None = Field(
        None,
        description="How `input` is read: `plain`, as written, or `markdown`; an extension. "
        "As the worker is configured unless given.",
    )
    keep_alive: KeepAlive | None = Field(None, description="An extension, as Ollama has it.")


class SpeechPlanner:
    """Checks requests against the catalog, the aliases and the limits."""

    def __init__(self, synthesis: Synthesis, names: VoiceNames) -> None:
        self._synthesis = synthesis
        self._names = names
        self._catalog: Catalog = synthesis.manager.catalog

    def plan(self, body: bytes, quota: Quota) -> SpeechPlan:
        """Return what to do; raises `InvalidInputError` and `ModelNotFoundError`."""
        asked = parsed(SpeechRequest, body)
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

    @made.post(
        "/v1/audio/speech",
        response_class=Response,
        responses=_ANSWER,
        openapi_extra=reads(SpeechRequest),
    )
    async def create_speech(request: Request) -> SpeechResponse:
        """Say a text: audio in the asked format, sent as it is made."""
        caller: Caller = request.state.caller
        said = await read_body(request, patience=synthesis.patience)
        return SpeechResponse(synthesis, planner.plan(said, caller.quota), caller)

    return made


_OWNER = "greenroom"


def discovery_router(synthesis: Synthesis, names: VoiceNames) -> APIRouter:
    """Return the routes of discovery."""
    made = APIRouter(tags=["discovery"])
    catalog = synthesis.manager.catalog
    created = int(time.time())

    def model(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": _OWNER}

    models = CatalogList("data", lambda: (model(spec.model_id) for spec in catalog), object="list")
    audio_models = CatalogList(
        "models", lambda: ({"id": spec.model_id, "name": spec.model_id} for spec in catalog)
    )
    voices = CatalogList("voices", lambda: map(_voice, catalog))

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
        if not model or (model not in catalog and names.models.find(model)):
            return await voices.answer()
        return {"voices": [_voice(catalog.get(model))]}

    return made


def _voice(spec: ModelSpec) -> dict[str, Any]:
    return {
        "id": spec.model_id,
        "name": spec.model_id,
        "model": spec.model_id,
        "languages": list(spec.languages),
        "tags": list(spec.tags),
    }
