"""A worker inside a Ray Serve deployment: the same manager, limits and protocols, no address."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from greenroom.cluster.asgi_answer import Message, answer_to
from greenroom.cluster.grpc_calls import CallEnd, GrpcMethods, Metadata
from greenroom.cluster.pushed_text import PushedTexts
from greenroom.cluster.replica_count import loads_of
from greenroom.cluster.requested_voice import session_key
from greenroom.cluster.route_memory import passed_on
from greenroom.config.schema import Config
from greenroom.errors import ManagerClosedError
from greenroom.worker.app import Worker


class SpeechReplica:
    """One replica; Ray calls every method on one event loop.

    Its residency is told to the routers by `record_routing_stats`, its readiness is its health.
    """

    async def __init__(self, config: Config) -> None:  # type: ignore[misc]
        """Load what is loaded at the start; raises what `Worker.initialize` raises."""
        self._worker = worker = await Worker.create(config, follows=False)
        self._app = await asyncio.to_thread(worker.app)  # which reads files
        self._methods = GrpcMethods(worker.interceptor)
        worker.add_services(self._methods)
        self._texts = PushedTexts()
        worker.begin()
        await worker.initialize()

    # Calls of the ingress

    async def http(self, scope: Message, body: bytes) -> AsyncIterator[tuple[Message, ...]]:
        """Answer one HTTP request, whose body is whole, as the worker does."""
        async with contextlib.aclosing(answer_to(self._app, scope, body)) as parts:
            async for messages in parts:
                yield messages

    async def look(self, scope: Message) -> tuple[int, bytes]:
        """Answer an HTTP request that has no body: its status, and the whole answer."""
        status, said = 0, []
        async with contextlib.aclosing(answer_to(self._app, scope, b"")) as parts:
            async for messages in parts:
                for message in messages:
                    status = message.get("status", status)
                    said.append(message.get("body", b""))
        return status, b"".join(said)

    async def grpc(
        self, method: str, metadata: Metadata, peer: str, requests: tuple[bytes, ...], call_id: str
    ) -> AsyncIterator[tuple[bytes | CallEnd, ...]]:
        """Answer one call over gRPC, as the worker does; last comes its end, unless it is OK.

        With a `call_id` more of its messages follow by `push`, once an empty part has come.
        """
        with self._texts.open(call_id, requests) as messages:
            if call_id:
                yield ()
            call = self._methods.call(method, metadata, peer, messages)
            async with contextlib.aclosing(call) as parts:
                async for answers in parts:
                    yield answers

    async def push(self, call_id: str, messages: tuple[bytes, ...], *, last: bool) -> bool:
        """Add messages to a call that is under way; whether it wants more."""
        return await self._texts.push(call_id, messages, last=last)

    # What Ray asks; what is no coroutine it would call in another thread.

    async def record_routing_stats(self) -> dict[str, Any]:
        """Return what this replica has, for the routers; Ray asks for it again and again."""
        synthesis = self._worker.synthesis
        sessions = [session_key(*key) for key in synthesis.open_sessions()]
        return passed_on(synthesis.report(), sessions, time.time())

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what decides how many replicas there should be (`replica_count.py`)."""
        return loads_of(self._worker.synthesis.report())

    async def check_health(self) -> None:
        """Raise what speaks against sending work here; Ray replaces a replica that stays so."""
        verdict = self._worker.synthesis.readiness.verdict()
        if not verdict.ready:
            raise ManagerClosedError("; ".join(verdict.problems))

    async def __del__(self) -> None:
        """Let running speech end and unload everything; Ray awaits it when the replica leaves."""
        await self._worker.stop()
