"""HTTP served by uvicorn in the worker's own event loop, beside gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import uvicorn
from starlette.types import ASGIApp

from greenroom.concurrency.tasks import race
from greenroom.config.address import Address
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.connections import Acceptor, Connections
from greenroom.worker.http.http_connection import HttpConnection
from greenroom.worker.listen import bind_sockets, connection_limit

logger = safe_logger(__name__)

_FLAG = "--http-listen"

_TICK_S = 0.1
_TICKS_A_DAY = 864_000
"""As uvicorn counts them, which does some of its work once a second."""


class HttpServer:
    """Serves one application; `listen`, and in the end `stop`."""

    def __init__(self, app: ASGIApp, address: Address, *, grace_s: int) -> None:
        """`grace_s` is how long answers may take to write their last words."""
        limit = connection_limit()
        self.connections = Connections(limit, max(1, limit // 2))
        """Those that are open."""
        self.address = address
        """Where it listens; with the real port once it does."""
        config = uvicorn.Config(
            app,
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # requests that are none, or ask for a WebSocket, make no line
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=grace_s,
        )
        self._server = _Server(config, self.connections)
        self._serving: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Begin to answer; raises `ConfigError` when the address cannot be had."""
        sockets, self.address = await bind_sockets(self.address, _FLAG)
        self._serving = asyncio.create_task(
            self._server.serve(sockets=sockets), name="greenroom-http"
        )
        self._serving.add_done_callback(_ended)
        # `wait`, as what ends the race may not end the serving.
        await race(self._server.begun.wait(), asyncio.wait([self._serving]), name="http-begin")
        logger.info("listening on %s", self.address.url)

    async def stop(self) -> None:
        """Take no more connections, let answers end within the grace, cut off the rest."""
        if self._serving is None:
            return
        self._server.should_exit = True
        self._server.ending.set()
        await asyncio.wait([self._serving])
        if self.address.path:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(Path(self.address.path).unlink)


def _ended(serving: asyncio.Task[None]) -> None:
    if not serving.cancelled() and serving.exception() is not None:
        logger.critical("HTTP is not served any more", exc_info=serving.exception())


class _Server(uvicorn.Server):
    """Leaves signals to the worker, and says when it has begun."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections
        self.begun = asyncio.Event()
        self.ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Accept on sockets that are bound; there is no lifespan."""
        self.servers = [Acceptor(each, self._protocol) for each in sockets or ()]  # type: ignore[misc]
        self.started = True
        self.begun.set()

    def _protocol(self) -> asyncio.Protocol:
        return HttpConnection(self.config, self.server_state, self._connections)

    async def main_loop(self) -> None:
        """Tick as uvicorn's own loop does, ten times a second, but end at once."""
        for tick in itertools.count():
            if await self.on_tick(tick % _TICKS_A_DAY):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self.ending.wait()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End as uvicorn does, but at once when no connection is open."""
        for acceptor in self.servers:
            acceptor.close()
            await acceptor.wait_closed()
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for each in sockets or ():
            each.close()
