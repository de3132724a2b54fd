"""One connection over HTTP: uvicorn's on httptools, with the limits and checks that it leaves out.

httptools parses all that has come at once, so requests that a client sends without waiting for
answers are there together, and `cycle`, uvicorn's newest request, need not be the one that is
answered. What is no HTTP is refused after the answers that were asked for before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httptools
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from greenroom.worker.admission import peer_of
from greenroom.worker.connections import Connections
from greenroom.worker.http.gathered_writes import GatheredWrites

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

_STALLED_S = 30.0
"""A client that takes nothing for so long is cut off."""

_HEADERS_LIMIT_S = 30.0
"""How long a request's first line and headers may take to arrive."""

_HEADERS_LIMIT = 64 * 1024
"""Bytes that a request's first line and headers may have beyond those that came with the first."""

_PIPELINE = 16
"""Requests that may wait for the answers to those before them."""

_FRAMING = (b"content-length", b"transfer-encoding")


class HttpConnection(HttpToolsProtocol):
    """It ends when its client sends no request or takes no answer in time.

    Answers can end it too, by the extension `CONNECTION`.
    """

    def __init__(
        self, config: uvicorn.Config, state: ServerState, connections: Connections
    ) -> None:
        super().__init__(config, state, {})
        self._open = connections
        self._asked: asyncio.TimerHandle | None = None
        self._answered: RequestResponseCycle | None = None
        """The request that is being answered, or was last."""
        self._in_head = False
        self._head_bytes = 0
        self._body_follows_upgrade = False
        """Whether the request asks for another protocol and has a body, which httptools skips."""
        self._refusal: str | None = None
        """Why the connection ends after the answers that are under way."""
        self._is_replaying = False
        """Whether a fresh parser is told how a body is framed, of a request that is known."""
        self._application = self.app
        self.app = self._answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._writes = GatheredWrites(transport)
        super().connection_made(self._writes)
        self._expect_request()
        self._open.add(self, peer_of(self.client[0] if self.client else None))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._asked is not None:
            self._asked.cancel()
        self._open.remove(self)
        self.pipeline.clear()
        if self._answered is not None and not self._answered.response_complete:
            self._leave(self._answered)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self._answered is None or bool(self._answered.response_complete)

    def cut(self) -> None:
        """End the connection now."""
        self.transport.abort()

    # Requests

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:  # no more is read, but that an answer has reading resumed
            return
        self._unset_keepalive_if_required()
        began_before = self._in_head
        try:
            self._feed(data)
            if self._in_head and began_before:
                self._head_bytes += len(data)
                if self._head_bytes > _HEADERS_LIMIT:
                    raise httptools.HttpParserError("the head is too long")
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _feed(self, data: bytes) -> None:
        """Parse what has come; who asks for another protocol is answered in this one."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._body_follows_upgrade:
                    self._parse_body()
            else:
                return

    def _parse_body(self) -> None:
        """Have a fresh parser read the body that httptools would skip, framed as it is."""
        self._body_follows_upgrade = False
        framing = [b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self._is_replaying = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
        self._is_replaying = False

    def on_message_begin(self) -> None:
        if self._is_replaying:
            return
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._in_head:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those that follow a body count for nothing."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, or refuse what httptools lets pass; raises `HttpParserError`."""
        if not self._in_head:
            return
        self._refuse_head()
        self._in_head = False
        if self.parser.should_upgrade():
            self._body_follows_upgrade = any(
                name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
                for name, value in self.headers
            )
        super().on_headers_complete()

    def _refuse_head(self) -> None:
        names = [name for name, _ in self.headers]
        encodings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        version = self.parser.get_http_version()
        is_old = version == "1.0"
        if is_old:
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        if not is_old and version != "1.1":
            raise httptools.HttpParserError("a version of HTTP that is not spoken here")
        if names.count(b"host") != 1 and not (is_old and b"host" not in names):
            raise httptools.HttpParserError("one host must be named")
        if encodings and (is_old or encodings != [b"chunked"]):  # RFC 9112, section 6.1
            raise httptools.HttpParserError("a body in a form that is not read here")
        if self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserError("this is no proxy")
        if len(self.pipeline) >= _PIPELINE:
            raise httptools.HttpParserError("too many requests wait for answers")

    def on_message_complete(self) -> None:
        if not self._body_follows_upgrade:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP.

        A request that they are part of is over with them; what was asked for before is answered.
        """
        if self.is_idle:
            super().send_400_response(msg)
            return
        running = self._answered
        assert running is not None
        if self.cycle is running and running.more_body:
            self._leave(running)
            if running.response_started:
                self.transport.close()
            else:
                super().send_400_response(msg)
            return
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()
        self._refusal = msg
        self.flow.pause_reading()

    def _expect_request(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
        self._asked = self.loop.call_later(_HEADERS_LIMIT_S, self._give_up)

    def _give_up(self) -> None:
        if self.is_idle:
            self.cut()

    # Answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        self._answered = cycle
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()
        if self._refusal is not None and self.is_idle and not self.transport.is_closing():
            super().send_400_response(self._refusal)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, with what it may know of the connection."""
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

        await self._application(scope, receive, send_in_time)

    async def _send_together(self, message: Message, send: Send) -> None:
        """Send what one message makes in one write, and an answer's head with its first piece.

        A head whose first piece is yet to be made waits for it no longer than this step.
        """
        cycle = self._answered
        assert cycle is not None
        is_plain = _is_plain(cycle)
        self._writes.hold()
        if message["type"] == "http.response.start":
            if is_plain:
                cycle.chunked_encoding = False
            self.loop.call_soon(self._writes.release)
            await send(message)
            return
        try:
            if is_plain and not cycle.disconnected:
                if cycle.scope["method"] != "HEAD":
                    self._writes.write(message.get("body", b""))
                message = {**message, "body": b""}
            await send(message)
        finally:
            self._writes.release()

    async def _write_piece(self, piece: bytes) -> None:
        """Write a piece of a body that has begun, framed as uvicorn would; see `PieceWriter`."""
        cycle = self._answered
        assert cycle is not None
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        if cycle.disconnected or not piece:
            return
        self._writes.write(piece if _is_plain(cycle) else b"%x\r\n%b\r\n" % (len(piece), piece))
        self._writes.release()

    def _leave(self, cycle: RequestResponseCycle) -> None:
        """Let a request know that its client has left."""
        cycle.disconnected = True
        cycle.message_event.set()


def _is_plain(cycle: RequestResponseCycle) -> bool:
    """Whether the body is sent without frames up to the end of the connection, as in HTTP/1.0.

    uvicorn would send chunks.
    """
    return cycle.scope["http_version"] == "1.0"
