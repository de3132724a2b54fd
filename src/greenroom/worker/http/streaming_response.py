"""The response that speaks: audio, or events with it, sent to one HTTP client as it is made.

The answer begins when the first audio is there: until then whatever fails is answered with its
status. A client that leaves, at any moment, cancels its speech; one that does not read holds what
its connection buffers and two seconds of audio, until the worker's patience is at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from greenroom.audio.encoding import Format
from greenroom.concurrency.stall_timeout import StallTimeout
from greenroom.concurrency.tasks import race
from greenroom.errors import ModelManagerError, ModelNotResidentError, StalledError
from greenroom.speech.text import CheckedText
from greenroom.untrusted.logs import safe_logger
from greenroom.voice import Voice
from greenroom.worker.auth import Caller, owner_of
from greenroom.worker.encoded_speech import encoded, words_in
from greenroom.worker.http.captioned_packets import JsonLines, JsonObject
from greenroom.worker.http.disconnect import disconnected
from greenroom.worker.http.http_connection import CONNECTION, PATIENCE, WRITE, PieceWriter
from greenroom.worker.http.sse import Bytes, Events, Packets, Words
from greenroom.worker.speech import Speech
from greenroom.worker.synthesis import Synthesis

logger = safe_logger(__name__)

_FAREWELL_S = 1.0
"""How long a connection that is closed may take to be gone."""


Carrier = Literal["audio", "sse", "json", "json lines"]
"""What audio comes in: the body as it is, events, one object, or an object in each line."""


@dataclass(frozen=True, slots=True)
class SpeechPlan:
    """A request that can be fulfilled, as far as that can be known before a model is loaded."""

    text: CheckedText
    voice: Voice
    format: Format
    carrier: Carrier
    keep_alive: float | None
    """Seconds; negative is for ever."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        width = self.format.sample_bytes
        return {
            "content-type": _packets(self).media_type,
            "cache-control": "no-store",
            "x-accel-buffering": "no",
            "x-sample-rate": str(int(self.voice.sample_rate)),
            "x-channels": "1",
            **({} if width is None else {"x-sample-width": str(width)}),
        }


class SpeechResponse(Response):
    """Speaks a plan, and sends the audio in its format."""

    def __init__(self, synthesis: Synthesis, plan: SpeechPlan, caller: Caller) -> None:
        super().__init__()
        self._synthesis = synthesis
        self._plan = plan
        self._caller = caller
        self._packets = _packets(plan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak until all is sent or the client has left.

        Raises `ModelManagerError` if nothing was sent yet.
        """
        extensions = scope["extensions"]
        extensions[PATIENCE] = None
        writer = _BodyWriter(send, extensions[WRITE], self._synthesis.patience)
        try:
            await race(self._speak(writer, _peer(scope)), disconnected(receive), name="http")
        except Exception as failure:
            if not writer.started:
                raise
            name = scope["state"]["request_id"]
            logger.warning("request %s failed midway: %s", name, str(failure))
            await _end_connection(scope, receive, at_once=isinstance(failure, StalledError))

    async def _speak(self, writer: _BodyWriter, peer: str) -> None:
        plan, synthesis = self._plan, self._synthesis
        owner = owner_of("http call", self._caller, peer)
        with self._caller.quota.stream():
            async with synthesis.once(plan.voice, plan.text, owner=owner) as speech:
                self._keep_alive()
                async with writer.patient():
                    last = await self._send(speech, writer)
        # After the lease has gone back: whoever has heard all may unload the model at once.
        async with writer.patient():
            await writer.finish(last)

    def _keep_alive(self) -> None:
        if self._plan.keep_alive is not None:
            with contextlib.suppress(ModelNotResidentError):  # it leaves after this speech anyway
                self._synthesis.manager.keep_alive(self._plan.voice.model_id, self._plan.keep_alive)

    async def _send(self, speech: Speech, writer: _BodyWriter) -> bytes:
        """Send all but the last piece of the body, and return that."""
        try:
            await self._send_audio(speech, writer)
        except ModelManagerError as error:
            failure = self._packets.failure(error) if writer.started else None
            if failure is None:
                raise
            return failure
        return self._packets.end(speech.timing.audio_s)

    async def _send_audio(self, speech: Speech, writer: _BodyWriter) -> None:
        words: Words = None
        async with contextlib.aclosing(encoded(speech, self._plan.format)) as pieces:
            async for audio, frames in pieces:
                if frames:
                    words = words_in(frames) if self._plan.voice.word_times else None
                elif words is not None:
                    words = []
                if not writer.started:
                    await writer.start(self._plan.headers)
                if part := self._packets.of(audio, words):
                    await writer.write(part, end_follows=speech.is_over)


def _packets(plan: SpeechPlan) -> Packets:
    match plan.carrier:
        case "audio":
            return Bytes(plan.format.media_type)
        case "sse":
            return Events(len(str(plan.text.source)), word_times=plan.voice.word_times)
        case "json":
            return JsonObject(plan.format.media_type)
        case "json lines":
            return JsonLines(plan.format.media_type)


class _BodyWriter:
    """Writes the body, inside `patient`: its client has so many seconds to take each piece."""

    def __init__(self, send: Send, write: PieceWriter, patience: float) -> None:
        self.started = False
        self._send_message = send
        self._write_piece = write
        self._kept = b""
        """The last piece, which leaves with the end of the answer."""
        self._patience = patience
        self._stall: StallTimeout

    @contextlib.asynccontextmanager
    async def patient(self) -> AsyncIterator[None]:
        """Write inside the block; raises `StalledError` when a piece is not taken in time."""
        with contextlib.suppress(TimeoutError):
            async with StallTimeout(self._patience) as self._stall:
                yield
                return
        raise StalledError(
            f"no audio was taken for {self._patience:g} s; read faster, or end the request."
        )

    async def start(self, headers: dict[str, str]) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, body: bytes, *, end_follows: bool = False) -> None:
        """Write a piece; the last one when `finish`, which follows at once, writes the end."""
        if end_follows:
            self._kept += body
            return
        await self._stall.wait(self._write_piece(body))

    async def finish(self, body: bytes) -> None:
        last = self._kept + body
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _send(self, message: Message) -> None:
        await self._stall.wait(self._send_message(message))


async def _end_connection(scope: Scope, receive: Receive, *, at_once: bool) -> None:
    """End the connection without ending the answer, so that the client knows that it is cut off.

    What was sent before is still delivered, unless `at_once`.
    """
    transport: asyncio.Transport | None = scope.get("extensions", {}).get(CONNECTION)
    if transport is None:
        return
    if not at_once:
        transport.close()
        await _left_soon(receive)
    transport.abort()
    await _left_soon(receive)


async def _left_soon(receive: Receive) -> None:
    """Wait for the connection to be down, but not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL_S):
            await disconnected(receive)


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "a local client"
