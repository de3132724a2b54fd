"""The way into a cluster: reads whose voice is asked for, and passes the rest on as it is.

Replicas answer by the worker's own application and services, so that routes, errors, keys and
limits are those of a worker.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import with_default
from greenroom.cluster.ray_serve.grpc_ingress import GrpcIngress
from greenroom.cluster.ray_serve.speech_calls import SpeechCalls, lost
from greenroom.cluster.requested_voice import RequestedVoice
from greenroom.config.schema import Config
from greenroom.errors import EngineCrashedError, ModelManagerError, StalledError
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.auth import Keys
from greenroom.worker.http.body import LIMIT_S, limit_for
from greenroom.worker.http.errors import response_to

logger = safe_logger(__name__)

CLUSTER = "/api/cluster"
"""Where the reports of all replicas are."""

_REPORT = "/api/report"

_HOP = (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"expect")
"""Headers of one connection, not of the request."""


class Ingress(GrpcIngress):
    """Sends each request where its voice is; Ray's proxies bring them, over HTTP and gRPC."""

    async def __init__(  # type: ignore[misc]
        self, speech: DeploymentHandle, config: Config
    ) -> None:
        """`config` is the replicas': it says what names mean. Raises `ConfigError`."""
        catalog = await asyncio.to_thread(Catalog.from_config, config, warn=False)
        self._voices = RequestedVoice(with_default(config, catalog), catalog)
        self._calls = SpeechCalls(speech)
        self._limit = limit_for(config.worker.max_text_chars)
        super().__init__(self._calls, self._voices, Keys(config.worker, _not_counted))

    async def __call__(self, request: Request) -> Response:
        """Answer one request over HTTP."""
        if request.url.path == CLUSTER:
            return await self._reports(request)
        try:
            body = await self._body(request)
        except StalledError as error:
            return response_to(error)
        voice = self._voices.of_http(request.method, request.url.path, body)
        return _PassedOn(self._calls, _scope(request), body, voice)

    async def _body(self, request: Request) -> bytes:
        """Return the body up to one byte more than a worker reads: it refuses what is longer.

        Raises `StalledError`.
        """
        parts, size = [], 0
        try:
            async with asyncio.timeout(LIMIT_S):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > self._limit:
                        break
        except TimeoutError:
            problem = f"the request was not whole after {LIMIT_S:g} s; send its body at once."
            raise StalledError(problem) from None
        return b"".join(parts)[: self._limit + 1]

    async def _reports(self, request: Request) -> Response:
        """Answer what each replica has, to whoever may see what one has; a refusal as it is."""
        scope = _scope(request) | {"method": "GET", "path": _REPORT, "raw_path": _REPORT.encode()}
        answers = await self._calls.everywhere("look", scope)
        known = [answer for answer in answers if not isinstance(answer, Exception)]
        for status, body in known:
            if status != 200:
                return Response(body, status, media_type="application/json")
        reports = [json.loads(body) for _, body in known]
        silent = len(answers) - len(known)
        found = json.dumps({"replicas": reports, "silent": silent})
        return Response(found, media_type="application/json")


class _PassedOn(Response):
    """The answer of a replica, as it is made.

    It begins with the replica's first message: a request whose replica ends before is sent to
    another. When one ends later, or fails, the answer ends without its end, so that the client
    knows that it is cut off.
    """

    def __init__(self, calls: SpeechCalls, asked: Scope, body: bytes, voice: str) -> None:
        super().__init__()
        self._calls = calls
        self._asked = asked
        self._body = body
        self._voice = voice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask, and pass on what comes; a client that leaves has Ray cancel this."""
        try:
            messages, answer = await self._calls.first(self._begin, self._voice)
        except EngineCrashedError as error:
            await response_to(error)(scope, receive, send)
            return
        try:
            for message in messages:
                await send(message)
            async for messages in answer:
                for message in messages:
                    await send(message)
        except Exception as error:  # noqa: BLE001 - Ray's, of any kind; what was sent cannot be undone
            reason = error if isinstance(error, ModelManagerError) else lost(self._voice)
            logger.warning("an answer broke off: %s (%s)", reason, type(error).__name__)
        finally:
            answer.cancel()

    def _begin(self) -> Any:
        return self._calls.begin("http", self._asked, self._body, voice=self._voice)


def _scope(request: Request) -> dict[str, Any]:
    """Return of a request what can be sent to another process."""
    given = request.scope
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": given["method"],
        "scheme": given.get("scheme", "http"),
        "path": given["path"],
        "raw_path": given.get("raw_path") or given["path"].encode(),
        "root_path": "",
        "query_string": given.get("query_string", b""),
        "headers": [(bytes(k), bytes(v)) for k, v in given["headers"] if k.lower() not in _HOP],
        "client": tuple(given["client"]) if given.get("client") else None,
        "server": None,
    }


def _not_counted(reason: str) -> None:
    pass
