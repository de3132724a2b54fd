"""Callers of a worker that is being broken: they listen at real time, and say what they heard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from benchmarks.listener import Heard, Listener
from benchmarks.playback import Piece, play
from greenroom.v1 import tts_pb2, tts_pb2_grpc

TEXTS = (
    "The green room is where a voice waits until it is called. It has read its lines.",
    "It is late; the train has left. The next one goes in the morning, at a quarter to six.",
    "Good evening to all of you, and thank you. We begin in a moment. Please take your seats!",
)
BYTES_A_SECOND = 48_000
"""Of PCM at 24 kHz, over HTTP."""

_FRAMES_A_SECOND = 96_000
"""Of PCM at 48 kHz, over gRPC."""

_AHEAD_S = 1.0
"""Callers take so much more than they have played."""

_LIMIT_S = 60.0
_PAUSE_S = 0.05
_TICK_S, _STANDSTILL_S, _AFTER_S = 0.1, 1.0, 3.0


@dataclass(slots=True, eq=False)
class Stream:
    """One speech that a caller asked for."""

    model: str
    protocol: str
    text: str
    asked: float
    """On the loop's clock."""
    ended: float = 0.0
    whole: bool = False
    problem: str = ""
    """The code of a typed error, or what else it ended with."""
    detail: str = ""
    typed: bool = True
    """Whether the problem is one that the protocol has a code for."""
    first_s: float = 0.0
    """From asking to the first audio of a whole speech."""
    longest_gap_s: float = 0.0
    is_probe: bool = False
    """Whether it was asked for to see whether the model speaks at all."""
    is_first: bool = False
    """Whether all that is compared with what it has."""


class Standstills:
    """When this program itself stood still, as on a machine that is stopped for a while."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []

    async def watch(self) -> None:
        """Notice them, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(_TICK_S)
            if loop.time() - before > _STANDSTILL_S:
                self._found.append((before, loop.time()))

    def cover(self, begin: float, end: float) -> bool:
        """Whether there was one meanwhile, or just before: limits of the worker have passed."""
        return any(begin <= to + _AFTER_S and end >= since for since, to in self._found)


class Paced(Listener):
    """A connection over which audio is taken as it is played."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._began = 0.0
        self._audio_s = 0.0

    async def _piece(self, headers: dict[str, str], *, heard: bool) -> bytes:
        now = asyncio.get_running_loop().time()
        if not heard:
            self._audio_s = 0.0
        else:
            await asyncio.sleep(max(0.0, self._audio_s - (now - self._began) - _AHEAD_S))
        piece = await super()._piece(headers, heard=heard)
        if not heard:
            self._began = asyncio.get_running_loop().time()
        self._audio_s += len(piece) / BYTES_A_SECOND
        return piece


class Crowd:
    """Callers over HTTP and gRPC who never rest, and what they heard."""

    def __init__(self, http_port: int, address: str, seed: int) -> None:
        self.port = http_port
        options = [("grpc.enable_http_proxy", 0)]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self.stub: Any = tts_pb2_grpc.TTSServiceStub(self._channel)
        self._seed = seed
        self.whole: dict[tuple[str, str, str], int] = {}
        """Bytes by protocol, model and text, from a rendering when nothing was broken."""
        self.running: set[Stream] = set()
        self.ended: list[Stream] = []

    async def close(self) -> None:
        """Disconnect."""
        await self._channel.close()

    async def render_all(
        self, models: Sequence[str], protocols: Sequence[str] = ("http", "grpc")
    ) -> None:
        """Learn how much audio each model makes of each text, over each protocol."""
        for model in models:
            for text in TEXTS:
                for protocol in protocols:
                    stream = Stream(model, protocol, text, 0.0, is_probe=True, is_first=True)
                    await self.hear(stream)
                    if not stream.whole:
                        raise ConnectionError(f"{model}: {stream.problem} {stream.detail}")

    async def call(self, number: int, over: asyncio.Event, models: Sequence[str]) -> None:
        """Be one caller: every other one over gRPC, each for two models by turns."""
        dice = random.Random(self._seed * 1_000 + number)
        loop = asyncio.get_running_loop()
        protocol = "grpc" if number % 4 < 2 else "http"
        while not over.is_set():
            model = models[(number + dice.randrange(2)) % len(models)]
            stream = Stream(model, protocol, dice.choice(TEXTS), loop.time())
            await self.hear(stream)
            await asyncio.sleep(_PAUSE_S * (1 + dice.random()))

    async def hear(self, stream: Stream) -> None:
        """Ask for a speech and hear it to its end."""
        loop = asyncio.get_running_loop()
        self.running.add(stream)
        try:
            async with asyncio.timeout(_LIMIT_S):
                await self._take(stream)
        except TimeoutError:
            stream.problem, stream.typed = f"it did not end within {_LIMIT_S:g} s", False
        finally:
            stream.ended = loop.time()
            self.running.discard(stream)
            if not stream.is_probe:
                self.ended.append(stream)

    async def _take(self, stream: Stream) -> None:
        if stream.protocol == "grpc":
            await self._over_grpc(stream, model_id=stream.model)
        else:
            await self._over_http(stream)

    def _finish(self, stream: Stream, pieces: list[Piece], size: int) -> None:
        key = stream.protocol, stream.model, stream.text
        if stream.is_first:
            self.whole[key] = size
        wanted = self.whole[key]
        stream.whole = size == wanted
        if not stream.whole:
            stream.problem, stream.typed = f"{size} of {wanted} bytes", False
        else:
            stream.first_s = pieces[0].at
            stream.longest_gap_s = max((gap.seconds for gap in play(pieces).gaps), default=0.0)

    async def _over_http(self, stream: Stream) -> None:
        try:
            listener = Listener(self.port) if stream.is_first else Paced(self.port)
            async with listener:
                heard = await listener.say(stream.text, stream.model)
        except OSError:
            # How HTTP says that a speech broke off once its status is sent.
            stream.problem = "cut off"
            return
        self._judge(stream, heard)

    def _judge(self, stream: Stream, heard: Heard) -> None:
        if heard.status != 200:
            stream.problem, stream.typed = _code(heard)
            stream.detail = heard.body[:300].decode(errors="replace")
            return
        pieces = [
            Piece(at, len(piece) / BYTES_A_SECOND)
            for at, piece in zip(heard.arrivals, heard.pieces, strict=True)
        ]
        self._finish(stream, pieces, len(heard.body))

    async def _over_grpc(self, stream: Stream, **first: Any) -> None:
        loop = asyncio.get_running_loop()
        began, audio_s, size = 0.0, 0.0, 0
        pieces: list[Piece] = []
        with self._typed(stream):
            async for frame in self._frames(stream.text, **first):
                now = loop.time()
                began = began or now
                seconds = len(frame.audio_data) / _FRAMES_A_SECOND
                pieces.append(Piece(now - stream.asked, seconds))
                audio_s, size = audio_s + seconds, size + len(frame.audio_data)
                if audio_s - (now - began) > _AHEAD_S and not stream.is_first:
                    await asyncio.sleep(audio_s - (now - began) - _AHEAD_S)
        if not stream.problem:
            self._finish(stream, pieces, size)

    @contextlib.contextmanager
    def _typed(self, stream: Stream) -> Iterator[None]:
        """Take note of an error of gRPC's."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            stream.problem, stream.detail = error.code().name, str(error.details())
            stream.typed = stream.problem not in ("UNKNOWN", "CANCELLED")

    async def _frames(self, text: str, **first: Any) -> AsyncIterator[Any]:
        async def chunks() -> AsyncIterator[Any]:
            yield tts_pb2.TextChunk(text=text, is_final=True, **first)

        async for frame in self.stub.Synthesize(chunks(), timeout=_LIMIT_S):
            yield frame


def _code(heard: Heard) -> tuple[str, bool]:
    try:
        return f"{heard.status} {json.loads(heard.body)['error']['code']}", True
    except (ValueError, KeyError, TypeError):
        return f"{heard.status}, not typed", False
