"""Deployments that a cluster on Ray Serve is measured with: ours, which count, and the peers'.

All are reached through the same way in, and speak with the same prepared voices by the same engine;
they differ in who decides where a request goes, and what is kept in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.request_router import RequestRouter

from greenroom import ModelSpec, State
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.cluster.asgi_answer import Message
from greenroom.cluster.ray_serve.replica import SpeechReplica
from greenroom.config.schema import Config

PLACES = 3
"""Of each replica."""

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"audio/pcm")],
}


class CountedReplica(SpeechReplica):
    """Ours, and what was found: requests, those whose voice was in memory, loads."""

    async def __init__(self, config: Config) -> None:  # type: ignore[misc]
        await super().__init__(config)
        self._requests = self._found = self._most = 0

    async def http(self, scope: Message, body: bytes) -> AsyncIterator[tuple[Message, ...]]:
        """Count, and answer."""
        if voice := _voice(body):
            self._requests += 1
            manager = self._worker.manager
            name = manager.catalog.get(voice).model_id
            residents = manager.list_resident()
            found = (r.state is State.READY for r in residents if r.model_id == name)
            self._found += any(found)
            self._most = max(self._most, len(residents))
        async for messages in super().http(scope, body):
            yield messages

    async def counts(self) -> tuple[int, int, int]:
        """Return requests, those that found their voice, and loads."""
        return self._requests, self._found, self._worker.manager.statistics().loads

    async def most_voices(self) -> int:
        """Return how many voices were in memory at once, of those moments when one was asked."""
        return self._most

    async def life(self) -> tuple[str, int]:
        """Return the id that its reports have, and that of the process."""
        return self._worker.synthesis.report().boot_id, os.getpid()


class MultiplexedReplica:
    """Ray's own multiplexing, as its guide has it: the decorator holds the voices."""

    def __init__(self, voices: dict[str, Path]) -> None:
        self._voices = voices
        self._requests = self._found = self._loads = self._most = 0
        self._in_memory: weakref.WeakSet[PiperTTSAdapter] = weakref.WeakSet()

    @serve.multiplexed(max_num_models_per_replica=PLACES)  # type: ignore[untyped-decorator]
    async def voice(self, model_id: str) -> PiperTTSAdapter:
        """Load a voice; whoever speaks with one that is evicted keeps it until then."""
        self._loads += 1
        adapter = PiperTTSAdapter(ModelSpec(model_id, PiperTTSAdapter, self._voices[model_id]))
        await asyncio.to_thread(adapter.load)
        self._in_memory.add(adapter)
        self._most = max(self._most, len(self._in_memory))
        return adapter

    async def http(self, scope: Message, body: bytes) -> AsyncIterator[tuple[Message, ...]]:
        """Speak, as ours does; the head leaves with the first audio."""
        said = json.loads(body)
        self._requests += 1
        held = getattr(self, "__serve_multiplex_wrapper", None)
        self._found += held is not None and said["voice"] in held.models
        voice = await self.voice(said["voice"])
        head: tuple[Message, ...] = (_START,)
        async with voice.synthesize_stream(said["input"], sample_rate=24_000) as stream:
            async for frame in stream:
                pcm = b"".join(each.pcm for each in (frame, *stream.take_ready()))
                yield (*head, {"type": "http.response.body", "body": pcm, "more_body": True})
                head = ()
        yield (*head, {"type": "http.response.body", "body": b"", "more_body": False})

    async def counts(self) -> tuple[int, int, int]:
        """Return requests, those that found their voice, and loads."""
        return self._requests, self._found, self._loads

    async def most_voices(self) -> int:
        """Return how many voices were in memory at once, those that it counts no longer as well."""
        return self._most


class RoundRobinRouter(RequestRouter):  # type: ignore[misc]
    """Asks the replicas in turn."""

    def initialize_state(self, **settings: Any) -> None:
        """Begin with the first."""
        self._numbers = itertools.count()

    async def choose_replicas(self, candidate_replicas: Any, pending_request: Any = None) -> Any:
        """Return the replica whose turn it is, then the others."""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        replicas = sorted(candidate_replicas, key=lambda each: str(each.replica_id))
        at = next(self._numbers) % len(replicas)
        return [[each] for each in (*replicas[at:], *replicas[:at])]


def _voice(body: bytes) -> str:
    return str(json.loads(body)["voice"]) if body else ""
