"""The standard health service, fed by the manager's events.

`""` and the speech service are SERVING while the worker is ready (`readiness.py`), so they say
whether to send work here; `live` is SERVING as long as the event loop turns, so it says whether to
restart; each model has its id as a service name, SERVING while it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from greenroom.journal import Subscription
from greenroom.model_manager import ModelManager
from greenroom.residents import State
from greenroom.worker.readiness import Readiness

logger = logging.getLogger(__name__)

LIVE = "live"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_PERIOD_S = 1.0
"""A worker may get stuck without an event; this is how soon it shows."""

_SET_LIMIT_S = 2.0
"""A watcher that does not read holds up news of its service; nobody waits longer for it."""


class Health:
    """What the health service says of this worker and of its models."""

    def __init__(self, manager: ModelManager, readiness: Readiness, service_name: str) -> None:
        self._manager = manager
        self._readiness = readiness
        self._overall = ("", service_name)
        self._servicer = health.aio.HealthServicer()
        self._said: dict[str, int] = {}
        self._following: asyncio.Task[None] | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def begin(self) -> None:
        """Say that nothing is ready, and follow the manager from here on."""
        events = self._manager.subscribe()
        for name in self._overall:
            await self._say(name, _NOT_SERVING)
        await self._say(LIVE, _SERVING)
        await self._look_at(*(spec.model_id for spec in self._manager.catalog))
        self._following = asyncio.create_task(self._follow(events), name="greenroom health")

    async def ready(self) -> None:
        """Say that the worker takes work, unless something speaks against it."""
        self._readiness.open()
        await self._judge()

    async def drain(self) -> None:
        """Say, until the end, that neither the worker nor any model takes work."""
        self._readiness.close()
        await self._stop_following()
        for name in self._said.keys() - {LIVE}:
            await self._say(name, _NOT_SERVING)

    async def _stop_following(self) -> None:
        task, self._following = self._following, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self, events: Subscription) -> None:
        """Look at what events tell of, and at everything that no event tells of now and then."""
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
                await self._look_at(*(spec.model_id for spec in self._manager.catalog))
            elif event is not None:
                await self._look_at(event.model_id)
            await self._judge()

    async def _judge(self) -> None:
        status = _SERVING if self._readiness.verdict().ready else _NOT_SERVING
        for name in self._overall:
            await self._say(name, status)

    async def _look_at(self, *model_ids: str) -> None:
        """Say of each model what is so now; an event only tells when to look."""
        ready = {r.model_id for r in self._manager.list_resident() if r.state is State.READY}
        for model_id in model_ids:
            if model_id not in (*self._overall, LIVE):
                await self._say(model_id, _SERVING if model_id in ready else _NOT_SERVING)

    async def _say(self, name: str, status: int) -> None:
        if self._said.get(name) == status:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SET_LIMIT_S):
                await self._servicer.set(name, status)
                self._said[name] = status
                return
        logger.warning("health of %r is not told: a watcher does not read", name)
