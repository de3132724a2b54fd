"""How many requests are answered at once: one more is told when to come back."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from greenroom.errors import WorkerBusyError
from greenroom.worker.http.errors import response_to
from greenroom.worker.metrics import WorkerMetrics

SPARE_REQUESTS = 1_024
"""Requests at once besides those that speak."""

_RETRY_S = 1.0
_ALWAYS = frozenset({"/health", "/v2/health/live", "/v2/health/ready"})
"""Probes are answered however many others ask: a crowd is no reason to be restarted."""


class BoundedCrowd:
    """ASGI middleware; a refused request is answered before any of its body is read."""

    def __init__(self, app: ASGIApp, limit: int, metrics: WorkerMetrics) -> None:
        self._app = app
        self._limit = limit
        self._metrics = metrics
        self._present = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._present >= self._limit:
            self._metrics.refused("requests")
            busy = WorkerBusyError(f"{self._limit} requests are being answered", _RETRY_S)
            await response_to(busy)(scope, receive, send)
            return
        self._present += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._present -= 1
