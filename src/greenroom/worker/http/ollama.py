"""Ollama's verbs: what is in memory, what could be, and `generate`, which loads and unloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from greenroom.worker.errors import FieldError
from greenroom.worker.figures import written_figures
from greenroom.worker.http import serializers
from greenroom.worker.http.body import read
from greenroom.worker.http.keep_alive import seconds_of
from greenroom.worker.http.models import LoadBody, answer_load, answer_unload
from greenroom.worker.http.openapi import reads
from greenroom.worker.http.serializers import CatalogList
from greenroom.worker.report import written_report
from greenroom.worker.synthesis import Synthesis

_TAGS_KEPT_S = 5.0
"""Voices are prepared, and their files change, without a change of the catalog."""


class GenerateBody(LoadBody):
    """Ollama's way to load (no prompt) and to unload (no prompt, `keep_alive` 0)."""

    prompt: str = ""


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
    routes = APIRouter(prefix="/api", tags=["lifecycle"])
    _add_looking(routes, synthesis, list(looking), list(reading))
    _add_generate(routes, synthesis, list(changing))
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

    @routes.get("/report", dependencies=reading)
    async def report() -> dict[str, Any]:
        """Answer what routers ask: residents, room, queue and load times, numbered."""
        return written_report(synthesis.report())

    @routes.get("/figures", dependencies=reading)
    async def figures() -> dict[str, Any]:
        """Answer how the worker is doing: speech of the last minute, refusals, memory."""
        return written_figures(await synthesis.figures())

    default = synthesis.voices.default_model_id
    known = CatalogList(
        "models",
        manager.catalog,
        lambda: (
            serializers.catalog_entry(s, default=s.model_id == default) for s in manager.catalog
        ),
        kept_s=_TAGS_KEPT_S,
    )

    @routes.get("/tags", dependencies=reading, response_model=dict[str, Any])
    async def tags() -> Response:
        """Answer every model that could be loaded."""
        return await known.answer()


def _add_generate(routes: APIRouter, synthesis: Synthesis, changing: list[Any]) -> None:
    patience = synthesis.patience

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
            await answer_unload(synthesis, body.model, drain=True)
        else:
            await answer_load(synthesis, body, request)
        return serializers.generated(body.model, "unload" if leave else "load")
