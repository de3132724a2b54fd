"""Errors over gRPC: from the table to a call's status, and back for the worker's client.

Every error a worker answers carries a `google.rpc.Status`, with `RetryInfo` where a time is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from greenroom import errors
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.errors import answer_to, one_line, retry_after

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Response = TypeVar("Response")
Context = TypeVar("Context", bound=grpc.aio.ServicerContext[Any, Any])

logger = safe_logger(__name__)

_LONGEST = 400
"""Characters of a status message: twice in the trailing metadata, percent-encoded and in base64,
it must stay below gRPC's 8 KiB even when every character is an emoji."""

_LATE_STATUS_S = 0.5
"""How long the worker's own status may take after gRPC's."""


def status_of(error: errors.ModelManagerError) -> status_pb2.Status:
    """Return the whole status: code, one line of message, and when to try again."""
    code = answer_to(error).grpc
    status = status_pb2.Status(code=code.value[0], message=one_line(str(error), _LONGEST))
    seconds = retry_after(error)
    if seconds is not None:
        advice = error_details_pb2.RetryInfo()
        advice.retry_delay.FromNanoseconds(max(0, round(seconds * 1e9)))
        status.details.add().Pack(advice)
    return status


def answered(
    call: Callable[[Servicer, Request, Context], Awaitable[Response]],
) -> Callable[[Servicer, Request, Context], Coroutine[Any, Any, Response]]:
    """Turn an error of the tree that a servicer's call raises into the call's status.

    gRPC keeps what `abort` raises. Raised outside of `except` it does not keep the error, the
    frames in its traceback, and with them the model that was spoken with.
    """

    @functools.wraps(call)
    async def answer(servicer: Servicer, request: Request, context: Context) -> Response:
        try:
            return await call(servicer, request, context)
        except errors.ModelManagerError as error:
            if answer_to(error).grpc is StatusCode.INTERNAL:
                logger.error("a call of %s failed: %s", context.peer(), str(error))
            status = status_of(error)
        return await context.abort_with_status(rpc_status.to_status(status))

    return answer


def worker_error(error: grpc.aio.AioRpcError, address: str) -> errors.WorkerError:
    """Return, for the client, what a failed call means in one line."""
    code = error.code()
    status = status_in(error)
    if status is not None:
        return errors.WorkerError(status.message, code.name, _retry_info(status))
    if code is StatusCode.UNAVAILABLE:
        problem = f"no worker answers at {address}; start one with `greenroom serve`."
    elif code is StatusCode.DEADLINE_EXCEEDED:
        problem = f"the worker at {address} did not answer in time; allow it more."
    else:
        details = " ".join((error.details() or "no reason given").split())
        problem = f"the worker at {address} failed ({code.name}): {details}"
    return errors.WorkerError(problem, code.name)


def status_in(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """Return the whole status, if a worker sent one."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return None


def _retry_info(status: status_pb2.Status) -> float | None:
    advice = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(advice):
            return float(advice.retry_delay.ToNanoseconds()) / 1e9
    return None


class CallStatus:
    """How a call really ended, for a client that is still sending when the worker refuses.

    When a write fails because the worker has answered, gRPC replaces the worker's status by
    INTERNAL, before or after it arrives (grpc/grpc#36066). This keeps every status that the call
    was given; make it before anything is awaited.
    """

    def __init__(self, call: Any) -> None:
        self._workers: grpc.aio.AioRpcError | None = None
        self._arrived = asyncio.Event()
        call.add_done_callback(self._keep)

    async def error(self, raised: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return the error with the worker's status if there is one, else what was raised."""
        if raised.code() is grpc.StatusCode.INTERNAL and status_in(raised) is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LATE_STATUS_S):
                    await self._arrived.wait()
        return self._workers or raised

    def _keep(self, call: Any) -> None:
        """Keep the status of this moment; gRPC calls this again each time it changes the status."""
        error = grpc.aio.AioRpcError(
            _result_now(call.code()),
            grpc.aio.Metadata(),
            _result_now(call.trailing_metadata()),
            details=_result_now(call.details()),
        )
        if status_in(error) is not None:
            self._workers = error
            self._arrived.set()


def _result_now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that has nothing to wait for; `None` if it would wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    return None
