"""Notice when an HTTP client disconnects while its request is waited for."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from starlette.types import Receive

from greenroom.concurrency.tasks import race
from greenroom.errors import StalledError

T = TypeVar("T")


async def disconnected(receive: Receive) -> None:
    """Return when the client has left or has its whole answer; read the body before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, which is cancelled when the client disconnects."""
    return await race(work, _raise_on_disconnect(request), name="http")


async def _raise_on_disconnect(request: Request) -> NoReturn:
    await disconnected(request.receive)
    raise StalledError("the caller left before it had an answer.")
