"""One table from the error tree to gRPC status codes, read in both directions.

Every error a worker answers carries a `google.rpc.Status`, with `RetryInfo` where a time is known.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from greenroom import errors
from greenroom.untrusted.logs import safe_logger

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Response = TypeVar("Response")
Context = TypeVar("Context", bound=grpc.aio.ServicerContext[Any, Any])

logger = safe_logger(__name__)

CODES: dict[type[errors.ModelManagerError], StatusCode] = {
    errors.ModelManagerError: StatusCode.INTERNAL,
    errors.ConfigError: StatusCode.FAILED_PRECONDITION,
    errors.ModelNotFoundError: StatusCode.NOT_FOUND,
    errors.ModelNotResidentError: StatusCode.FAILED_PRECONDITION,
    errors.ModelInUseError: StatusCode.FAILED_PRECONDITION,
    errors.ModelLoadError: StatusCode.UNAVAILABLE,
    errors.WarmupError: StatusCode.UNAVAILABLE,
    errors.LoadTimeoutError: StatusCode.DEADLINE_EXCEEDED,
    errors.UnloadError: StatusCode.INTERNAL,
    errors.CapacityError: StatusCode.RESOURCE_EXHAUSTED,
    errors.LeaseReleasedError: StatusCode.FAILED_PRECONDITION,
    errors.ManagerClosedError: StatusCode.UNAVAILABLE,
    errors.SynthesisError: StatusCode.INTERNAL,
    errors.InvalidInputError: StatusCode.INVALID_ARGUMENT,
    errors.InputTooLargeError: StatusCode.INVALID_ARGUMENT,
    errors.SessionNotFoundError: StatusCode.NOT_FOUND,
    errors.SessionMismatchError: StatusCode.FAILED_PRECONDITION,
    errors.UnauthenticatedError: StatusCode.UNAUTHENTICATED,
    errors.ForbiddenError: StatusCode.PERMISSION_DENIED,
    errors.WorkerBusyError: StatusCode.RESOURCE_EXHAUSTED,
    errors.StalledError: StatusCode.DEADLINE_EXCEEDED,
    errors.WorkerError: StatusCode.UNKNOWN,
}

_LONGEST = 400
"""Characters of a status message: twice in the trailing metadata, percent-encoded and in base64,
it must stay below gRPC's 8 KiB even when every character is an emoji."""


def code_of(error: errors.ModelManagerError) -> StatusCode:
    """Return the status code; a class of somebody else's has that of its nearest base."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def status_of(error: errors.ModelManagerError) -> status_pb2.Status:
    """Return the whole status: code, one line of message, and when to try again."""
    message = " ".join(str(error).split())
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 1] + "…"
    status = status_pb2.Status(code=code_of(error).value[0], message=message)
    retry_after: float | None = getattr(error, "retry_after", None)
    if retry_after is not None:
        advice = error_details_pb2.RetryInfo()
        advice.retry_delay.FromNanoseconds(max(0, round(retry_after * 1e9)))
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
            if code_of(error) is StatusCode.INTERNAL:
                logger.error("a call of %s failed: %s", context.peer(), str(error))
            status = status_of(error)
        return await context.abort_with_status(rpc_status.to_status(status))

    return answer


def worker_error(error: grpc.aio.AioRpcError, address: str) -> errors.WorkerError:
    """Return, for the client, what a failed call means in one line."""
    code = error.code()
    status = status_in(error)
    if status is not None:
        return errors.WorkerError(status.message, code.name, _retry_after(status))
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


def _retry_after(status: status_pb2.Status) -> float | None:
    advice = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(advice):
            return float(advice.retry_delay.ToNanoseconds()) / 1e9
    return None
