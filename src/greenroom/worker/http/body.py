"""A request's body on its way in: bounded in size and in how long it may take."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.errors import InputTooLargeError, StalledError
from greenroom.worker.http.errors import response_to

_ROOM = 64 * 1024
"""Bytes for all that is not text."""

_BYTES_PER_CHAR = 12
"""At most, in JSON: an emoji as two escaped surrogates."""


def limit_for(max_text_chars: int) -> int:
    """Return how many bytes a body with so much text may have."""
    return _ROOM + _BYTES_PER_CHAR * max_text_chars


class BoundedBodies:
    """ASGI middleware: no request is read beyond `limit` bytes.

    One that says that it is larger is refused before any of it is read.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        digits = declared.lstrip("0")
        if len(digits) > len(str(self._limit)) or int(digits or 0) > self._limit:
            await response_to(self._too_large())(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> InputTooLargeError:
        return InputTooLargeError(
            f"the request has more than {self._limit} bytes; send the text in parts."
        )


async def read_body(request: Request, *, patience: float) -> bytes:
    """Return the whole body, which has to arrive within `patience` seconds.

    Raises `InputTooLargeError`, and `StalledError`, also when the client leaves: nobody hears it.
    """
    found = bytearray()
    try:
        async with asyncio.timeout(patience):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise StalledError("the caller left before the request was whole.")
                found += message.get("body", b"")
                if not message.get("more_body", False):
                    return bytes(found)
    except TimeoutError:
        raise StalledError(
            f"the request was not whole after {patience:g} s; send its body at once."
        ) from None
