"""Greenroom's own routes for models: load, unload, prefetch, pin, unpin, keep alive."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from greenroom.errors import ModelNotResidentError
from greenroom.worker.http import serializers
from greenroom.worker.http.auth import requester
from greenroom.worker.http.body import read
from greenroom.worker.http.disconnect import unless_disconnected
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


class PrefetchBody(ModelBody):
    """A model that this caller will speak with soon, and within how many seconds."""

    within_s: float = Field(10.0, ge=0)


class UnloadBody(ModelBody):
    """A model to let go; without `drain` it is refused (409) while it is held."""

    drain: bool = True


BODIES = (ModelBody, LoadBody, KeepBody, PrefetchBody, UnloadBody)
"""What the routes read."""


def router(
    synthesis: Synthesis, *, changing: Sequence[Any] = (), speaking: Sequence[Any] = ()
) -> APIRouter:
    """Return the routes; the dependencies say who may change what is in memory, and who speak."""
    routes = APIRouter(prefix="/api", tags=["lifecycle"])
    _add_moving(routes, synthesis, list(changing))
    _add_prefetch(routes, synthesis, list(speaking))
    _add_residency(routes, synthesis, list(changing))
    return routes


def _add_moving(routes: APIRouter, synthesis: Synthesis, changing: list[Any]) -> None:
    patience = synthesis.patience

    @routes.post("/load", dependencies=changing, openapi_extra=reads(LoadBody))
    async def load(request: Request) -> dict[str, Any]:
        """Bring a model into memory and keep no reference to it."""
        body = await read(request, LoadBody, patience)
        return await answer_load(synthesis, body, request)

    @routes.post("/unload", dependencies=changing, openapi_extra=reads(UnloadBody))
    async def unload(request: Request) -> dict[str, Any]:
        """Let a model go, once its holders are done; one that is not there is no error."""
        body = await read(request, UnloadBody, patience)
        return await answer_unload(synthesis, body.model, drain=body.drain)


def _add_prefetch(routes: APIRouter, synthesis: Synthesis, speaking: list[Any]) -> None:
    @routes.post("/prefetch", dependencies=speaking, openapi_extra=reads(PrefetchBody))
    async def prefetch(request: Request) -> dict[str, Any]:
        """Load a model for a caller that will speak soon, if nobody has to wait or leave for it."""
        body = await read(request, PrefetchBody, synthesis.patience)
        await synthesis.prefetch(body.model, body.within_s)
        return _now(synthesis, body.model)


def _add_residency(routes: APIRouter, synthesis: Synthesis, changing: list[Any]) -> None:
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


async def answer_load(synthesis: Synthesis, body: LoadBody, request: Request) -> dict[str, Any]:
    """Bring a model into memory, and return it as it is then; given up when the client leaves."""
    kept = None if body.keep_alive is None else seconds_of(body.keep_alive)
    loading = synthesis.load_model(body.model, owner=requester(request), keep_alive=kept)
    await unless_disconnected(request, loading)
    return _now(synthesis, body.model)


async def answer_unload(synthesis: Synthesis, model: str, *, drain: bool) -> dict[str, Any]:
    """Unload, and return the model as it is then; goes on to its end when the client leaves."""
    with contextlib.suppress(ModelNotResidentError):
        await synthesis.unload_model(model, drain=drain)
    return _now(synthesis, model)


def _now(synthesis: Synthesis, model: str) -> dict[str, Any]:
    """Return the model as it is now; the state is `null` when it is not in memory."""
    model_id = synthesis.manager.catalog.get(model).model_id
    residents = synthesis.manager.list_resident()
    found = next((serializers.resident(r) for r in residents if r.model_id == model_id), None)
    return found or {"name": model_id, "model": model_id, "state": None}
