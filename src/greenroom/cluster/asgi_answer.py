"""One HTTP request to an application, answered without a connection: how it travels in a cluster.

The request is whole, the answer comes as it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

from greenroom.cluster.handover import Give, made_by
from greenroom.errors import SynthesisError
from greenroom.worker.http.http_connection import CONNECTION, PATIENCE, WRITE

Message = MutableMapping[str, Any]
"""One of ASGI's."""

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_BODY = "http.response.body"


class _NoConnection:
    """What an answer ends in the place of its connection, when it cannot be made to its end."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def close(self) -> None:
        """Let no more come."""
        self.ended.set()

    abort = close


async def answer_to(
    app: App, scope: Message, body: bytes
) -> AsyncGenerator[tuple[Message, ...], None]:
    """Yield the messages of the answer as the application makes them, those together that are.

    Closing the iterator is the client's leaving. Raises what the application raises, and
    `SynthesisError` when the answer ends in its midst.
    """
    connection = _NoConnection()
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        await connection.ended.wait()
        return {"type": "http.disconnect"}

    async def work(give: Give[Message]) -> None:
        async def send(message: Message) -> None:
            await give(message)
            if _is_last(message):
                connection.close()

        async def write(piece: bytes) -> None:
            if piece:
                await give({"type": _BODY, "body": piece, "more_body": True})

        extensions = {CONNECTION: connection, PATIENCE: None, WRITE: write}
        await app({**scope, "extensions": extensions}, receive, send)

    whole = False
    async with contextlib.aclosing(made_by(work)) as parts:
        async for messages in parts:
            whole = whole or any(map(_is_last, messages))
            yield messages
    if not whole:
        raise SynthesisError("the answer broke off; ask again.")


def _is_last(message: Message) -> bool:
    return message["type"] == _BODY and not message.get("more_body", False)
