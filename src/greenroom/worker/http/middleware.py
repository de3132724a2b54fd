"""ASGI middleware around every request: its name, and a slot that it has until its answer is sent.

What a request uses beside its slot it enters into the stack of `cleanups_of`, so that it is given
back with it, whatever happens: an error, a client that leaves, an answer that was never begun.
"""

from __future__ import annotations

import contextlib
import uuid

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.errors import WorkerBusyError
from greenroom.worker.admission import Admission, peer_of
from greenroom.worker.auth import Keys
from greenroom.worker.http.auth import authorizations
from greenroom.worker.http.errors import response_to


class RequestIds:
    """ASGI middleware; the name is also `request.state.request_id`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the request and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = name

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        await self._app(scope, receive, named)


class TrailingSlashes:
    """ASGI middleware: `/v1/models/` is `/v1/models`, without a redirect, which few clients follow.

    `/v1/` stays as it is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path.endswith("/") and len(path) > len("/v1/"):
            scope["path"] = path[:-1]
        await self._app(scope, receive, send)


_PROBES = frozenset({"/health", "/v2/health/live", "/v2/health/ready"})
"""Probes are answered however many others ask: a crowd is no reason to be restarted."""

_CLEANUPS = "greenroom_cleanups"


class ConcurrencyLimit:
    """ASGI middleware; a refused request is answered before any of its body is read."""

    def __init__(self, app: ASGIApp, keys: Keys, admission: Admission) -> None:
        self._app = app
        self._keys = keys
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with contextlib.ExitStack() as cleanups:
            scope.setdefault("state", {})[_CLEANUPS] = cleanups
            try:
                if scope["path"] not in _PROBES:
                    caller = self._keys.recognise(authorizations(Headers(scope=scope)))
                    cleanups.enter_context(self._admission.calls.take(caller, _peer(scope)))
            except WorkerBusyError as busy:
                await response_to(busy)(scope, receive, send)
                return
            await self._app(scope, receive, send)


def cleanups_of(request: Request) -> contextlib.ExitStack:
    """Return the stack that is closed when the request is over."""
    found: contextlib.ExitStack = request.scope["state"][_CLEANUPS]
    return found


def peer_in(request: Request) -> str:
    """Return the address that a request is counted for."""
    return _peer(request.scope)


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return peer_of(None if client is None else client[0])
