"""What can be asked for, in the shapes that clients of OpenAI's API parse."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Response

from greenroom.adapter import ModelSpec
from greenroom.worker.http.json_lists import CatalogList
from greenroom.worker.http.voice_names import Names
from greenroom.worker.synthesis import Synthesis

_OWNER = "greenroom"


def router(synthesis: Synthesis, names: Names) -> APIRouter:
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
        names.meant_by(name)
        return model(name)

    @made.get("/v1/audio/models", response_model=dict[str, Any])
    async def list_audio_models() -> Response:
        """Return every model of the catalog, as Open WebUI asks for them."""
        return await audio_models.answer()

    @made.get("/v1/audio/voices", response_model=dict[str, Any])
    async def list_voices(model: str | None = None) -> Response | dict[str, Any]:
        """Return every voice, or those of one `model`; a voice's name is what finds it."""
        if not model or (model not in catalog and names.meant_by(model)):
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
