"""Health and metrics over HTTP: liveness, readiness, and what Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from greenroom.worker.synthesis import Synthesis


def router(
    synthesis: Synthesis,
    may_look: Callable[[Request], bool] = lambda _: True,
    *,
    reading: Sequence[Any] = (),
) -> APIRouter:
    """Return the routes; `reading` guards the metrics; health needs no key.

    Why a worker is not ready names models, so only callers that `may_look` see it.
    """
    routes = APIRouter(tags=["health"])

    @routes.head("/health", include_in_schema=False)
    @routes.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        """Answer 200 as long as the worker answers at all, and say in the body how it is."""
        return _health(synthesis, whole=may_look(request))

    @routes.head("/v2/health/live", include_in_schema=False)
    @routes.get("/v2/health/live")
    async def live() -> dict[str, Any]:
        """Answer 200 as long as the worker answers at all: restart it when it does not."""
        return {"live": True}

    @routes.head("/v2/health/ready", include_in_schema=False)
    @routes.get("/v2/health/ready", responses={503: {"description": "Send no work here."}})
    async def ready(request: Request) -> JSONResponse:
        """Answer 200 when work should be sent here, else 503 and why not."""
        body = _health(synthesis, whole=may_look(request))
        return JSONResponse(body, 200 if body["ready"] else 503)

    @routes.get("/metrics", response_class=Response, dependencies=list(reading))
    async def metrics(request: Request) -> Response:
        """Answer the metrics for Prometheus, as text or as OpenMetrics."""
        text, kind = await synthesis.metrics.exposition(request.headers.get("accept", ""))
        return Response(text, media_type=kind)

    return routes


def _health(synthesis: Synthesis, *, whole: bool) -> dict[str, Any]:
    verdict = synthesis.readiness.verdict()
    body = {"status": "ready" if verdict.ready else "not ready", "ready": verdict.ready}
    if not whole:
        return body
    return {
        **body,
        "grpc": str(synthesis.address or ""),
        "problems": list(verdict.problems),
        "oldest_wait_s": round(verdict.oldest_wait_s, 3),
        "oldest_load_s": round(verdict.oldest_load_s, 3),
        "hanging": list(verdict.hanging),
    }
