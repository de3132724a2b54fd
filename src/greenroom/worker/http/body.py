"""A request's body on its way in: bounded in size and in how long it may take, then parsed.

Routes read their bodies by these, and not by FastAPI's parameters: those are read before the
caller's key is looked at, without a time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, TypeVar

from fastapi import Request
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.errors import InputTooLargeError, StalledError
from greenroom.worker.errors import FieldError
from greenroom.worker.http.errors import response_to

Body = TypeVar("Body", bound=BaseModel)

VoiceName = Annotated[str, Field(min_length=1, max_length=200)]
"""What a client calls a voice or a model."""

LIMIT_S = 30.0
"""How long a body may take at most, however patient the worker is."""

_ROOM = 64 * 1024
"""Bytes for all that is not text."""

_BYTES_PER_CHAR = 12
"""At most, in JSON: an emoji as two escaped surrogates."""


def limit_for(max_text_chars: int) -> int:
    """Return how many bytes a body with so much text may have."""
    return _ROOM + _BYTES_PER_CHAR * max_text_chars


class BodySizeLimit:
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

    Raises `InputTooLargeError`, and `StalledError`, also when the client leaves (it gets no answer
    then).
    """
    patience = min(patience, LIMIT_S)
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


async def read(request: Request, kind: type[Body], patience: float) -> Body:
    """Return the JSON body, checked; raises what `read_body` and `parsed` raise."""
    return parsed(kind, await read_body(request, patience=patience))


def parsed(kind: type[Body], body: bytes) -> Body:
    """Return the request; raises `FieldError` for the first field that cannot be."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem = _field_error(error)
    raise problem


def checked(kind: type[Body], fields: Mapping[str, str]) -> Body:
    """Return the request in query parameters; raises what `parsed` raises."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problem = _field_error(error)
    raise problem


def _field_error(error: ValidationError) -> FieldError:
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind, location = found["type"], found["loc"]
    if kind == "json_invalid":
        return FieldError(None, f"the body is not JSON: {found['msg']}.", code="invalid_json")
    if not location:
        return FieldError(None, "the body must be a JSON object.", code="invalid_json")
    param = str(location[0])
    if kind == "missing" and len(location) == 1:
        return FieldError(param, f"{param} is missing; add it.", code="missing_required_parameter")
    if param == "voice" and not kind.startswith("string_too"):
        return FieldError(param, 'voice must be a name, or an object such as {"id": "name"}.')
    told = found["msg"].replace("Input should", "must", 1).replace("String should", "must", 1)
    return FieldError(param, f"{param} {told}." if told.startswith("must") else f"{param}: {told}.")
