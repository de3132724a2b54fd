"""Who asks for something that takes its time may leave before it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.types import Receive

from greenroom.errors import StalledError

T = TypeVar("T")


async def left(receive: Receive) -> None:
    """Return when the client has left, or has its answer; its body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` does; it is cancelled when its caller leaves, or is cancelled."""
    working = asyncio.create_task(work, name="greenroom-http")
    leaving = asyncio.create_task(left(request.receive), name="greenroom-http-leaving")
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise StalledError("the caller left before it had an answer.")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait((working, leaving))
