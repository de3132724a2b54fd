"""The standard health service, fed by the manager's events.

`""` and the speech service are SERVING while the worker is ready (`readiness.py`), so they say
whether to send work here; `live` is SERVING as long as the event loop turns, so it says whether to
restart; each model has its id as a service name, SERVING while it is ready and nothing hangs in it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from greenroom.journal import Subscription
from greenroom.ledger.state import State
from greenroom.model_manager import ModelManager
from greenroom.worker.auth import CALLER, Role
from greenroom.worker.grpc.calls import write
from greenroom.worker.readiness import Readiness

LIVE = "live"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_PERIOD_S = 1.0
"""A worker may get stuck without an event; this is how soon it shows."""

_Context = grpc.aio.ServicerContext[Any, Any]


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The statuses of services; a watcher that does not read keeps no other watcher waiting."""

    def __init__(self, *, public: tuple[str, ...] | None = None) -> None:
        """`public` are the names that callers without a key may know; `None` means all."""
        self._public = public
        self._statuses: dict[str, int] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}

    def set(self, name: str, status: int) -> None:
        """Set the status of a service, and wake its watchers if it is a new one."""
        if self._statuses.get(name) != status:
            self._statuses[name] = status
            for news in self._watchers.get(name, ()):
                news.set()

    def forget(self, name: str) -> None:
        """Let a service be unknown from here on; its watchers are told."""
        if self._statuses.pop(name, None) is not None:
            for news in self._watchers.get(name, ()):
                news.set()

    @property
    def names(self) -> tuple[str, ...]:
        """Every service that has a status."""
        return tuple(self._statuses)

    async def Check(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Return the status of one service."""
        status = self._seen().get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service is known here.")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Return the status of every service."""
        statuses = {
            name: health_pb2.HealthCheckResponse(status=status)
            for name, status in self._seen().items()
        }
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, context: _Context) -> None:  # noqa: N802
        """Send the status of one service now and whenever it changes, the latest only."""
        news = asyncio.Event()
        watchers = self._watchers.setdefault(request.service, set())
        watchers.add(news)
        sent = None
        try:
            while True:
                news.clear()
                status = self._statuses.get(request.service, _UNKNOWN)
                if status != sent:
                    await write(context, health_pb2.HealthCheckResponse(status=status))
                    sent = status
                else:
                    await news.wait()
        finally:
            watchers.discard(news)
            if not watchers and self._watchers.get(request.service) is watchers:
                del self._watchers[request.service]

    def _seen(self) -> dict[str, int]:
        """Return the statuses that the present caller may see."""
        if self._public is None or CALLER.get().role >= Role.SPEAK:
            return self._statuses
        return {name: self._statuses[name] for name in self._public if name in self._statuses}


class Health:
    """Keeps the health service true to this worker and its models."""

    def __init__(
        self,
        manager: ModelManager,
        readiness: Readiness,
        service_name: str,
        *,
        public_discovery: bool = True,
    ) -> None:
        self._manager = manager
        self._readiness = readiness
        self._overall = ("", service_name)
        self._own = (*self._overall, LIVE)
        self._servicer = HealthServicer(public=None if public_discovery else self._own)
        self._hanging: frozenset[str] = frozenset()
        self._following: asyncio.Task[None] | None = None
        self._version = manager.catalog.version
        """That of the catalog whose models have statuses."""

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def begin(self) -> None:
        """Set everything to not serving, and follow the manager from here on."""
        events = self._manager.subscribe()
        for name in self._overall:
            self._servicer.set(name, _NOT_SERVING)
        self._servicer.set(LIVE, _SERVING)
        self._update(*(spec.model_id for spec in self._manager.catalog))
        self._following = asyncio.create_task(self._follow(events), name="greenroom health")

    def ready(self) -> None:
        """Let the worker take work, as far as its readiness allows."""
        self._readiness.open()
        self._judge()

    async def drain(self) -> None:
        """Set the worker and its models to not serving, until the end."""
        self._readiness.close()
        await self._stop_following()
        for name in self._servicer.names:
            if name != LIVE:
                self._servicer.set(name, _NOT_SERVING)

    async def _stop_following(self) -> None:
        task, self._following = self._following, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self, events: Subscription) -> None:
        """Update what an event names; now and then also what changes without an event."""
        lost = 0
        while True:
            event = None
            try:
                async with asyncio.timeout(_PERIOD_S):
                    event = await anext(events)
            except StopAsyncIteration:
                return
            except TimeoutError:
                pass
            if events.lost != lost:
                lost = events.lost
                self._update(*(spec.model_id for spec in self._manager.catalog))
            elif self._version != self._manager.catalog.version:
                self._follow_catalog()
            elif event is not None:
                self._update(event.model_id)
            self._judge()

    def _follow_catalog(self) -> None:
        """Give statuses to the models that came, and take them from those that are gone."""
        catalog = self._manager.catalog
        self._version = catalog.version
        self._update(*(spec.model_id for spec in catalog))
        for name in self._servicer.names:
            if name not in self._own and name not in catalog:
                self._servicer.forget(name)

    def _judge(self) -> None:
        verdict = self._readiness.verdict()
        for name in self._overall:
            self._servicer.set(name, _SERVING if verdict.ready else _NOT_SERVING)
        hanging = frozenset(verdict.hanging)
        changed, self._hanging = hanging ^ self._hanging, hanging
        if changed:
            self._update(*changed)

    def _update(self, *model_ids: str) -> None:
        """Set the status of each model to what it is now; an event only says when to look."""
        residents = self._manager.list_resident()
        ready = {r.model_id for r in residents if r.state is State.READY} - self._hanging
        for model_id in model_ids:
            if model_id not in self._own:
                self._servicer.set(model_id, _SERVING if model_id in ready else _NOT_SERVING)
