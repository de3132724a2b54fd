"""Models brought in, kept and let go over HTTP: Ollama's verbs, and Greenroom's own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from greenroom.errors import ModelNotResidentError
from greenroom.worker.auth import owner_of
from greenroom.worker.errors import FieldError
from greenroom.worker.http import serializers
from greenroom.worker.http.body import read
from greenroom.worker.http.disconnect import unless_left
from greenroom.worker.http.json_lists import CatalogList
from greenroom.worker.http.keep_alive import KeepAlive, seconds_of
from greenroom.worker.http.openapi import reads
from greenroom.worker.synthesis import Synthesis

ModelName = Annotated[str, Field(min_length=1, max_length=512)]


class ModelBody(BaseModel):
    """Which model; unknown fields are ignored, as clients send theirs everywhere."""

    model_config = ConfigDict(strict=True)

    model: ModelName


class LoadBody(ModelBody):
    """A model to bring into memory, and how long it stays after its last use."""

    keep_alive: KeepAlive | None = None


class KeepBody(ModelBody):
    """How long a model in memory stays after its last use."""

    keep_alive: KeepAlive


class UnloadBody(ModelBody):
    """A model to let go; without `drain` it is refused (409) while somebody holds it."""

    drain: bool = True


class GenerateBody(LoadBody):
    """Ollama's way to load (no prompt) and to unload (no prompt, `keep_alive` 0)."""

    prompt: str = ""


BODIES = (ModelBody, LoadBody, KeepBody, UnloadBody, GenerateBody)
"""What the routes read."""


def router(
    synthesis: Synthesis,
    *,
    looking: Sequence[Any] = (),
    reading: Sequence[Any] = (),
    changing: Sequence[Any] = (),
) -> APIRouter:
    """Return the routes; the lists of dependencies say who may ask what this is (discovery), who
    may look at the models and who may change them."""
    routes = APIRouter(prefix="/api", tags=["lifecycle"])
    _add_looking(routes, synthesis, list(looking), list(reading))
    _add_moving(routes, synthesis, list(changing))
    _add_keeping(routes, synthesis, list(changing))
    return routes


def _add_looking(
    routes: APIRouter, synthesis: Synthesis, looking: list[Any], reading: list[Any]
) -> None:
    manager = synthesis.manager

    @routes.get("/version", dependencies=looking, tags=["discovery"])
    async def version() -> dict[str, str]:
        """Answer the version of Greenroom."""
        return {"version": synthesis.version}

    @routes.get("/ps", dependencies=reading)
    async def ps() -> dict[str, Any]:
        """Answer every model that is loading, in memory or leaving, and the limits."""
        return serializers.state(synthesis)

    default = synthesis.voices.default_model_id
    known = CatalogList(
        "models",
        lambda: (
            serializers.catalog_entry(s, default=s.model_id == default) for s in manager.catalog
        ),
    )

    @routes.get("/tags", dependencies=reading, response_model=dict[str, Any])
    async def tags() -> Response:
        """Answer every model that could be loaded."""
        return await known.answer()


def _add_moving(routes: APIRouter, synthesis: Synthesis, changing: list[Any]) -> None:
    patience = synthesis.patience

    @routes.post("/load", dependencies=changing, openapi_extra=reads(LoadBody))
    async def load(request: Request) -> dict[str, Any]:
        """Bring a model into memory and keep no reference to it."""
        body = await read(request, LoadBody, patience)
        return await _load(synthesis, body, request)

    @routes.post("/unload", dependencies=changing, openapi_extra=reads(UnloadBody))
    async def unload(request: Request) -> dict[str, Any]:
        """Let a model go, once its holders are done; one that is not there is no error."""
        body = await read(request, UnloadBody, patience)
        return await _unload(synthesis, body.model, drain=body.drain)

    @routes.post("/generate", dependencies=changing, openapi_extra=reads(GenerateBody))
    async def generate(request: Request) -> dict[str, Any]:
        """Load a model, or with `keep_alive` 0 unload it, as Ollama's clients do."""
        body = await read(request, GenerateBody, patience)
        if body.prompt:
            raise FieldError(
                "prompt", "this worker speaks; send text to /v1/audio/speech, and no prompt here."
            )
        leave = body.keep_alive is not None and seconds_of(body.keep_alive) == 0
        if leave:
            await _unload(synthesis, body.model, drain=True)
        else:
            await _load(synthesis, body, request)
        return serializers.generated(body.model, "unload" if leave else "load")


def _add_keeping(routes: APIRouter, synthesis: Synthesis, changing: list[Any]) -> None:
    manager, patience = synthesis.manager, synthesis.patience

    @routes.post("/pin", dependencies=changing, openapi_extra=reads(ModelBody))
    async def pin(request: Request) -> dict[str, Any]:
        """Exempt a model from eviction and expiry, now or whenever it is loaded."""
        body = await read(request, ModelBody, patience)
        manager.pin(body.model)
        return _now(synthesis, body.model)

    @routes.post("/unpin", dependencies=changing, openapi_extra=reads(ModelBody))
    async def unpin(request: Request) -> dict[str, Any]:
        """End the exemption."""
        body = await read(request, ModelBody, patience)
        manager.unpin(body.model)
        return _now(synthesis, body.model)

    @routes.post("/keep-alive", dependencies=changing, openapi_extra=reads(KeepBody))
    async def keep_alive(request: Request) -> dict[str, Any]:
        """Say how long a model in memory stays after its last use, until it leaves."""
        body = await read(request, KeepBody, patience)
        manager.keep_alive(body.model, seconds_of(body.keep_alive))
        return _now(synthesis, body.model)


async def _load(synthesis: Synthesis, body: LoadBody, request: Request) -> dict[str, Any]:
    kept = None if body.keep_alive is None else seconds_of(body.keep_alive)
    loading = synthesis.load_model(body.model, owner=asker(request), keep_alive=kept)
    await unless_left(request, loading)
    return _now(synthesis, body.model)


async def _unload(synthesis: Synthesis, model: str, *, drain: bool) -> dict[str, Any]:
    """Unload; that goes on when the caller leaves, who may have said all they wanted to say."""
    with contextlib.suppress(ModelNotResidentError):
        await synthesis.unload_model(model, drain=drain)
    return _now(synthesis, model)


def _now(synthesis: Synthesis, model: str) -> dict[str, Any]:
    """Return the model as it is now; the state is `null` when it is not in memory."""
    model_id = synthesis.manager.catalog.get(model).model_id
    residents = synthesis.manager.list_resident()
    found = next((serializers.resident(r) for r in residents if r.model_id == model_id), None)
    return found or {"name": model_id, "model": model_id, "state": None}


def asker(request: Request) -> str:
    """Return who asks, as owners of references are shown; access was given before."""
    peer = f"{request.client.host}:{request.client.port}" if request.client else "a local client"
    return owner_of(f"{request.method} {request.url.path}", request.state.caller, peer)
