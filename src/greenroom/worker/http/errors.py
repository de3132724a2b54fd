"""One table from the error tree to HTTP, and the one shape in which every error is answered.

The shape is OpenAI's, `{"error": {"message", "type", "param", "code"}}`: its clients look there.
Statuses 408, 409, 429 and 5xx make its SDK try again, at the time of `Retry-After`, unless
`x-should-retry` forbids it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from greenroom import errors
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

_LONGEST = 1_000
"""Characters of a message."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How one kind of error is answered."""

    status: int
    code: str | None = None
    again: bool = True
    """Whether the same request can succeed later; asked only of statuses that clients retry."""

    @property
    def type(self) -> str:
        """The `type` that OpenAI gives to errors of this status."""
        return _TYPES.get(self.status, _SERVER if self.status >= 500 else _REQUEST)


_REQUEST, _SERVER = "invalid_request_error", "server_error"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

ANSWERS: dict[type[errors.ModelManagerError], Answer] = {
    errors.ModelManagerError: Answer(500),
    errors.ConfigError: Answer(500, "misconfigured", again=False),
    errors.ModelNotFoundError: Answer(404, "model_not_found"),
    errors.ModelNotResidentError: Answer(409, "model_not_resident", again=False),
    errors.ModelInUseError: Answer(409, "model_in_use", again=False),
    errors.ModelLoadError: Answer(503, "model_load_failed"),
    errors.WarmupError: Answer(503, "model_load_failed"),
    errors.LoadTimeoutError: Answer(503, "model_load_failed"),
    errors.UnloadError: Answer(500, "model_unload_failed", again=False),
    errors.CapacityError: Answer(503, "no_room"),
    errors.LeaseReleasedError: Answer(409, "lease_released", again=False),
    errors.ManagerClosedError: Answer(503, "shutting_down"),
    errors.SynthesisError: Answer(500, "synthesis_failed"),
    errors.InvalidInputError: Answer(400, "invalid_value"),
    errors.InputTooLargeError: Answer(413, "request_too_large"),
    errors.SessionNotFoundError: Answer(404, "session_not_found"),
    errors.SessionMismatchError: Answer(409, "session_mismatch", again=False),
    errors.UnauthenticatedError: Answer(401, "invalid_api_key"),
    errors.ForbiddenError: Answer(403, "insufficient_permissions"),
    errors.WorkerBusyError: Answer(429, "too_many_requests"),
    errors.StalledError: Answer(408, "stalled"),
    errors.WorkerError: Answer(502, "worker_failed"),
}


class FieldError(errors.InvalidInputError):
    """A field of a request that cannot be; `param` names it, `code` says what is wrong."""

    def __init__(self, param: str | None, message: str, *, code: str = "invalid_value") -> None:
        self.param = param
        self.code = code
        super().__init__(message)


def answer_to(error: errors.ModelManagerError) -> Answer:
    """Return the answer; a class of somebody else's has that of its nearest base."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def body_of(error: errors.ModelManagerError) -> dict[str, Any]:
    """Return what stands in the body of the answer to `error`."""
    answer = answer_to(error)
    code = getattr(error, "code", None) if isinstance(error, FieldError) else answer.code
    param = "model" if isinstance(error, errors.ModelNotFoundError) else None
    return _body(str(error), answer.type, getattr(error, "param", param), code)


def response_to(error: errors.ModelManagerError) -> JSONResponse:
    """Return the whole answer, with when to try again where that is known."""
    answer = answer_to(error)
    if answer.status == 500:
        logger.error("a request failed: %s", str(error))
    headers = {}
    retry_after: float | None = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        headers["retry-after-ms"] = str(max(1, math.ceil(retry_after * 1000)))
    never = isinstance(error, errors.CapacityError) and retry_after is None
    if never or not answer.again:
        headers["x-should-retry"] = "false"
    if answer.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body_of(error), answer.status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Have `app` answer every error in the one shape."""
    app.add_exception_handler(errors.ModelManagerError, _known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.ModelManagerError)
    return response_to(error)


async def _http(request: Request, error: Exception) -> JSONResponse:
    """Answer what Starlette itself refuses: no such route, or not by that method."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    answer = Answer(error.status_code)
    return JSONResponse(_body(message, answer.type, None, None), answer.status, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer 400, not FastAPI's 422, which clients of OpenAI do not expect."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    param = ".".join(str(part) for part in found["loc"][1:])
    return response_to(FieldError(param or None, f"{param or 'the body'}: {found['msg']}."))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """Answer a mistake of ours; Starlette raises it again after that, so that it is logged."""
    name = {"x-request-id": request.state.request_id}  # its middleware is too far in for this
    content = _body("the worker failed; its log says why.", _SERVER, None, None)
    return JSONResponse(content, 500, name)


def _body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    line = " ".join(message.split())
    shown = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return {"error": {"message": shown, "type": kind, "param": param, "code": code}}
