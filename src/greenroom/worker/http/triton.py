"""Triton's and KServe's model repository over HTTP, so that their clients work unchanged.

Their clients take the error from `{"error": "one sentence"}`, so these routes answer in that shape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from greenroom.errors import ModelManagerError
from greenroom.worker.errors import FieldError
from greenroom.worker.http.auth import requester
from greenroom.worker.http.body import read_body
from greenroom.worker.http.disconnect import unless_disconnected
from greenroom.worker.http.errors import response_to
from greenroom.worker.http.openapi import PLAIN_REFUSALS
from greenroom.worker.model_repository import READY, VERSION, Repository
from greenroom.worker.synthesis import Synthesis

_NOT_READY: dict[int | str, dict[str, Any]] = {
    400: {
        "description": "The model is not ready, or has no such version.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class PlainErrors(APIRoute):
    """A route whose errors are one sentence under `error`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's own answer, with its errors reworded."""
        answer = super().get_route_handler()

        async def plain(request: Request) -> Response:
            try:
                return await answer(request)
            except ModelManagerError as error:
                full = response_to(error)
                headers = {k: v for k, v in full.headers.items() if k.startswith(("retry", "www"))}
                return JSONResponse({"error": str(error)}, full.status_code, headers)

        return plain


def router(
    synthesis: Synthesis,
    *,
    looking: Sequence[Any] = (),
    reading: Sequence[Any] = (),
    changing: Sequence[Any] = (),
) -> APIRouter:
    """Return the routes.

    The lists of dependencies are those of discovery, of looking at the models and of changing what
    is in memory.
    """
    routes = APIRouter(
        prefix="/v2", tags=["repository"], route_class=PlainErrors, responses=PLAIN_REFUSALS
    )
    repository = Repository(synthesis)

    @routes.get("", dependencies=list(looking), tags=["discovery"])
    async def server() -> dict[str, Any]:
        """Answer what this server is."""
        return repository.server()

    _add_models(routes, repository, list(reading))
    _add_repository(routes, repository, list(reading), list(changing), patience=synthesis.patience)
    return routes


def _add_models(routes: APIRouter, repository: Repository, reading: list[Any]) -> None:
    @routes.get("/models/{model:path}/ready", dependencies=reading, responses=_NOT_READY)
    @routes.get(
        "/models/{model:path}/versions/{version}/ready", dependencies=reading, responses=_NOT_READY
    )
    async def model_ready(model: str, version: str = VERSION) -> JSONResponse:
        """Answer 200 when the model is ready to speak, else 400; 404 when nobody knows it."""
        ready = repository.state_of(model, version) == READY
        return JSONResponse({"name": model, "ready": ready}, 200 if ready else 400)

    @routes.get("/models/{model:path}", dependencies=reading)
    @routes.get("/models/{model:path}/versions/{version}", dependencies=reading)
    async def model_metadata(model: str, version: str = VERSION) -> dict[str, Any]:
        """Answer what the model is; it takes text and gives audio, not tensors."""
        return {**repository.model(model, version), "inputs": [], "outputs": []}


def _add_repository(
    routes: APIRouter,
    repository: Repository,
    reading: list[Any],
    changing: list[Any],
    *,
    patience: float,
) -> None:
    @routes.post("/repository/index", dependencies=reading)
    async def index(request: Request) -> list[dict[str, str]]:
        """Answer every model with its state; with `{"ready": true}` only those that are ready."""
        body = await _content(request, patience)
        return await repository.index(only_ready=bool(body.get("ready", False)))

    @routes.post("/repository/models/{model:path}/load", dependencies=changing)
    async def load(model: str, request: Request) -> dict[str, Any]:
        """Bring a model into memory; parameters that would change it are refused."""
        changed = bool((await _content(request, patience)).get("parameters"))
        await unless_disconnected(
            request, repository.load(model, owner=requester(request), changed=changed)
        )
        return {}

    @routes.post("/repository/models/{model:path}/unload", dependencies=changing)
    async def unload(model: str) -> dict[str, Any]:
        """Let a model go once its holders are done; one that is not there is no error."""
        await repository.unload(model)
        return {}


async def _content(request: Request, patience: float) -> dict[str, Any]:
    """Return the body, which may be empty and has no content type with some clients."""
    text = await read_body(request, patience=patience)
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FieldError(None, "the body must be a JSON object, or empty.")
    return found
