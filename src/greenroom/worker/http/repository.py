"""Triton's and KServe's model repository over HTTP, so that their clients work unchanged.

Their clients take the error from `{"error": "one sentence"}`, so these routes answer in that shape.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from greenroom.errors import ModelManagerError, ModelNotResidentError
from greenroom.residents import State
from greenroom.speech import ModelSpec
from greenroom.worker.http.errors import FieldError, response_to
from greenroom.worker.http.lifecycle import asker
from greenroom.worker.synthesis import Synthesis

VERSION = "1"
"""Models have one version."""

STATES = {
    State.LOADING: "LOADING",
    State.WARMING: "LOADING",
    State.READY: "READY",
    State.DRAINING: "UNLOADING",
    State.UNLOADING: "UNLOADING",
}
ABSENT = "UNAVAILABLE"

_LONGEST_BODY = 64 * 1024


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
    synthesis: Synthesis, *, reading: Sequence[Any] = (), changing: Sequence[Any] = ()
) -> APIRouter:
    """Return the routes; the two lists of dependencies say who may look and who may change."""
    routes = APIRouter(prefix="/v2", tags=["repository"], route_class=PlainErrors)
    _add_models(routes, synthesis, list(reading))
    _add_repository(routes, synthesis, list(reading), list(changing))
    return routes


def _add_models(routes: APIRouter, synthesis: Synthesis, reading: list[Any]) -> None:
    manager = synthesis.manager

    @routes.get("")
    async def server() -> dict[str, Any]:
        """Answer what this server is."""
        extensions = ["model_repository"]
        return {"name": "greenroom", "version": synthesis.version, "extensions": extensions}

    @routes.get("/models/{model}/ready", dependencies=reading)
    @routes.get("/models/{model}/versions/{version}/ready", dependencies=reading)
    async def model_ready(model: str, version: str = VERSION) -> JSONResponse:
        """Answer 200 when the model is ready to speak, else 400; 404 when nobody knows it."""
        spec = _known(manager.catalog.get(model), version)
        state = state_of(synthesis, spec.model_id)
        ready = state == "READY"
        return JSONResponse({"name": spec.model_id, "ready": ready}, 200 if ready else 400)

    @routes.get("/models/{model}", dependencies=reading)
    @routes.get("/models/{model}/versions/{version}", dependencies=reading)
    async def model_metadata(model: str, version: str = VERSION) -> dict[str, Any]:
        """Answer what the model is; it takes text and gives audio, not tensors."""
        spec = _known(manager.catalog.get(model), version)
        adapter = spec.adapter if isinstance(spec.adapter, str) else spec.adapter.__name__
        return {
            "name": spec.model_id,
            "versions": [VERSION],
            "platform": adapter,
            "inputs": [],
            "outputs": [],
        }


def _add_repository(
    routes: APIRouter, synthesis: Synthesis, reading: list[Any], changing: list[Any]
) -> None:
    manager = synthesis.manager

    @routes.post("/repository/index", dependencies=reading)
    async def index(request: Request) -> list[dict[str, str]]:
        """Answer every model with its state; with `{"ready": true}` only those that are ready."""
        body = await _body(request)
        return index_of(synthesis, only_ready=bool(body.get("ready", False)))

    @routes.post("/repository/models/{model}/load", dependencies=changing)
    async def load(model: str, request: Request) -> dict[str, Any]:
        """Bring a model into memory; parameters that would change it are refused."""
        parameters = (await _body(request)).get("parameters") or {}
        if parameters:
            raise FieldError(
                "parameters", "a model's settings are the worker's; load it without parameters."
            )
        await synthesis.load_model(model, owner=asker(request))
        return {}

    @routes.post("/repository/models/{model}/unload", dependencies=changing)
    async def unload(model: str) -> dict[str, Any]:
        """Let a model go once its holders are done; one that is not there is no error."""
        with contextlib.suppress(ModelNotResidentError):
            await manager.unload(model, drain=True)
        return {}


def state_of(synthesis: Synthesis, model_id: str) -> str:
    """Return the state of a model as Triton names it."""
    residents = synthesis.manager.list_resident()
    return next((STATES[r.state] for r in residents if r.model_id == model_id), ABSENT)


def index_of(synthesis: Synthesis, *, only_ready: bool) -> list[dict[str, str]]:
    """Return the repository's index."""
    manager = synthesis.manager
    states = {r.model_id: STATES[r.state] for r in manager.list_resident()}
    found = []
    for spec in manager.list_catalog():
        state = states.get(spec.model_id, ABSENT)
        if state == "READY" or not only_ready:
            reason = "" if state == "READY" else manager.explain(spec.model_id).summary
            entry = {"name": spec.model_id, "version": VERSION, "state": state, "reason": reason}
            found.append(entry)
    return found


def _known(spec: ModelSpec, version: str) -> ModelSpec:
    if version not in ("", VERSION):
        raise FieldError("version", f"model {spec.model_id!r} has version {VERSION} only.")
    return spec


async def _body(request: Request) -> dict[str, Any]:
    """Return the body, which may be empty and has no content type with some clients."""
    text = b""
    async for piece in request.stream():
        text += piece
        if len(text) > _LONGEST_BODY:
            raise FieldError(None, f"the body is longer than {_LONGEST_BODY} bytes; send less.")
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FieldError(None, "the body must be a JSON object, or empty.")
    return found
