"""How a call really ended, for clients that are still sending when the worker refuses.

When a write fails because the worker has answered, gRPC replaces the worker's status by INTERNAL,
before or after it arrives (grpc/grpc#36066).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import grpc

from greenroom.worker.errors import status_in

_LIMIT_S = 0.5
"""How long the worker's own status may take after gRPC's."""


class Ending:
    """Every status that one call was given; make it before anything is awaited."""

    def __init__(self, call: Any) -> None:
        self._told: grpc.aio.AioRpcError | None = None
        self._news = asyncio.Event()
        call.add_done_callback(self._keep)

    async def error(self, raised: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return the error with the worker's status if there is one, else what was raised."""
        if raised.code() is grpc.StatusCode.INTERNAL and status_in(raised) is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LIMIT_S):
                    await self._news.wait()
        return self._told or raised

    def _keep(self, call: Any) -> None:
        """Keep the status of this moment; called again each time gRPC changes it."""
        error = grpc.aio.AioRpcError(
            _at_once(call.code()),
            grpc.aio.Metadata(),
            _at_once(call.trailing_metadata()),
            details=_at_once(call.details()),
        )
        if status_in(error) is not None:
            self._told = error
            self._news.set()


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    return None
