"""HTTP served by uvicorn in the worker's own event loop, beside gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from socket import socket

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from greenroom.concurrency.tasks import race
from greenroom.config.address import Address
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.admission import peer_of
from greenroom.worker.connections import Acceptor, Connections
from greenroom.worker.http.gathered_writes import GatheredWrites
from greenroom.worker.listen import bind_sockets, connection_limit

logger = safe_logger(__name__)

CONNECTION = "greenroom.connection"
"""The ASGI extension by which an answer ends its connection (`asyncio.Transport`)."""

PATIENCE = "greenroom.patience"
"""The extension with which an answer says how many seconds its reader has for each piece; `None`
when it sees to that itself."""

WRITE = "greenroom.write"
"""The extension by which an answer that has begun writes a piece of its body (`PieceWriter`), past
the layers around `send`, which have nothing to do with it."""

PieceWriter = Callable[[bytes], Awaitable[None]]
"""Writes a piece of a body without a length, once its head was sent; waits while it must."""

_FLAG = "--http-listen"

_STALLED_S = 30.0
"""A client that takes nothing for so long is cut off."""

_HEADERS_LIMIT_S = 30.0
"""How long a request's first line and headers may take to arrive."""

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
            http=_Connection,
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
        return _Connection(self.config, self.server_state, self._connections)

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


class _Connection(H11Protocol):
    """One connection: it ends when its client sends no request or takes no answer in time.

    Answers can end it too, by the extension `CONNECTION`.
    """

    def __init__(
        self, config: uvicorn.Config, state: ServerState, connections: Connections
    ) -> None:
        super().__init__(config, state, {})
        self._open = connections
        self._asked: asyncio.TimerHandle | None = None
        app = self.app

        async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = scope.setdefault("extensions", {})
            extensions[CONNECTION] = self.transport
            extensions[PATIENCE] = _STALLED_S
            extensions[WRITE] = self._write_piece

            async def send_in_time(message: Message) -> None:
                patience = extensions[PATIENCE]
                if patience is None:
                    await self._send_together(message, send)
                    return
                try:
                    async with asyncio.timeout(patience):
                        await self._send_together(message, send)
                except TimeoutError:
                    self.transport.abort()

            await app(scope, receive, send_in_time)

        self.app = with_connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._writes = GatheredWrites(transport)
        super().connection_made(self._writes)
        self._expect_request()
        self._open.add(self, peer_of(self.client[0] if self.client else None))

    async def _send_together(self, message: Message, send: Send) -> None:
        """Send what one message makes in one write, and an answer's head with its first piece.

        A head whose first piece is yet to be made waits for it no longer than this step.
        """
        self._writes.hold()
        if message["type"] == "http.response.start":
            self.loop.call_soon(self._writes.release)
            await send(message)
            return
        try:
            await send(message)
        finally:
            self._writes.release()

    async def _write_piece(self, piece: bytes) -> None:
        """Write a piece of a body that has begun, framed as h11 frames it; see `PieceWriter`."""
        cycle = self.cycle
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        if cycle.disconnected or not piece:
            return
        is_chunked = cycle.scope["http_version"] >= "1.1"
        self._writes.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        self._writes.release()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP; a request that they are part of is over with them.

        Its answer would be sent after this one, or this one amid it: h11 raises at both.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            super().send_400_response(msg)
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if cycle.response_started:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._asked is not None:
            self._asked.cancel()
        self._open.remove(self)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def cut(self) -> None:
        """End the connection now."""
        self.transport.abort()

    def _expect_request(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
        self._asked = self.loop.call_later(_HEADERS_LIMIT_S, self._give_up)

    def _give_up(self) -> None:
        if self.is_idle:
            self.cut()
