"""Errors over HTTP: from the table to the one shape in which every error is answered.

The shape is OpenAI's, `{"error": {"message", "type", "param", "code"}}`: its clients look there.
Statuses 408, 409, 429 and 5xx make its SDK try again, at the time of `Retry-After`, unless
`x-should-retry` forbids it.
"""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from greenroom import errors
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.errors import (
    FieldError,
    answer_to,
    can_succeed_later,
    code_of,
    is_retried,
    one_line,
    retry_after,
)

logger = safe_logger(__name__)

_METHODS = ("DELETE", "GET", "HEAD", "POST")
"""Those that routes have here."""

_LONGEST = 1_000
"""Characters of a message."""

_REQUEST, _SERVER = "invalid_request_error", "server_error"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def body_of(error: errors.ModelManagerError) -> dict[str, Any]:
    """Return the body of the answer to `error`."""
    param = "model" if isinstance(error, errors.ModelNotFoundError) else None
    kind = _type_of(answer_to(error).http)
    return _body(str(error), kind, getattr(error, "param", param), code_of(error))


def response_to(error: errors.ModelManagerError) -> JSONResponse:
    """Return the whole answer, with when to try again where that is known."""
    status = answer_to(error).http
    if status == 500:
        logger.error("a request failed: %s", str(error))
    headers = {}
    seconds = retry_after(error)
    if seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
        headers["retry-after-ms"] = str(max(1, math.ceil(seconds * 1000)))
    if is_retried(status) and not can_succeed_later(error):
        headers["x-should-retry"] = "false"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body_of(error), status, headers)


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
    status = error.status_code
    headers = {"Allow": _methods_of(request)} if status == 405 else error.headers
    return JSONResponse(_body(message, _type_of(status), None, None), status, headers)


def _methods_of(request: Request) -> str:
    """Return the methods that a path has, of all routes: Starlette knows those of the first."""
    return ", ".join(method for method in _METHODS if _has_route(request, method))


def _has_route(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


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


def _type_of(status: int) -> str:
    """Return the `type` that OpenAI gives to errors of this status."""
    return _TYPES.get(status, _SERVER if status >= 500 else _REQUEST)


def _body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    shown = one_line(message, _LONGEST)
    return {"error": {"message": shown, "type": kind, "param": param, "code": code}}
