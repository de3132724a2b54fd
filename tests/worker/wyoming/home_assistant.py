"""A client that calls in the order in which Home Assistant does, with the library's own client.

Source: `homeassistant/components/wyoming` (`data.py`, `tts.py`): a connection for each request; the
one-shot form reads to `audio-stop`, the other to `synthesize-stopped`, and neither reads `error`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info, TtsVoice
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from greenroom import ModelManager
from tests.audio_files import Sound
from tests.worker.worker_client import LIMIT_S, WorkerClient, running_worker


@dataclass
class Answer:
    """What came back, event by event."""

    types: list[str] = field(default_factory=list)
    """Of the events, those of the audio once for all that followed each other."""
    rate: int = 0
    audio: bytes = b""
    error: Error | None = None
    was_closed: bool = False
    """Whether the server ended the connection."""

    @property
    def sound(self) -> Sound:
        samples = np.frombuffer(self.audio, "<i2").astype(float) / 32_768
        return Sound(samples, self.rate, 1)

    @property
    def refusal(self) -> tuple[str, str]:
        """The code of the error and its text; the connection ended with it."""
        assert self.error is not None, self.types
        assert self.was_closed
        return self.error.code or "", self.error.text

    def take(self, event: Event) -> None:
        if not self.types or self.types[-1] != event.type:
            self.types.append(event.type)
        if AudioStart.is_type(event.type):
            self.rate = AudioStart.from_event(event).rate
        elif AudioChunk.is_type(event.type):
            chunk = AudioChunk.from_event(event)
            self.rate = self.rate or chunk.rate
            assert (chunk.rate, chunk.width, chunk.channels) == (self.rate, 2, 1)
            self.audio += chunk.audio
        elif Error.is_type(event.type):
            self.error = Error.from_event(event)


class HomeAssistant:
    """Speaks with one worker."""

    def __init__(self, served: WorkerClient) -> None:
        server = served.worker.wyoming_server
        assert server is not None
        self.served = served
        self.server = server
        self.manager: ModelManager = served.manager

    def client(self) -> AsyncTcpClient:
        address = self.server.address
        return AsyncTcpClient(address.host, address.port)

    async def voices(self) -> dict[str, TtsVoice]:
        """Ask which there are, as at the start of the integration."""
        async with self.client() as client:
            await client.write_event(Describe().event())
            event = await event_of(client)
        assert event is not None
        (program,) = Info.from_event(event).tts
        assert program.installed
        assert program.supports_synthesize_streaming
        return {voice.name: voice for voice in program.voices if voice.installed}

    async def say(self, text: str, voice: SynthesizeVoice | None = None) -> Answer:
        """Have a text said that is all there."""
        async with self.client() as client:
            await client.write_event(Synthesize(text, voice).event())
            return await heard_until(client, AudioStop.is_type)

    async def say_pieces(
        self, pieces: Iterable[str], voice: SynthesizeVoice | None = None
    ) -> Answer:
        """Have a text said as it comes; another task reads meanwhile."""
        async with self.client() as client:
            writing = asyncio.ensure_future(write_pieces(client, pieces, voice))
            try:
                return await heard_until(client, SynthesizeStopped.is_type)
            finally:
                with contextlib.suppress(OSError):
                    await writing

    async def exchange(self, sent: bytes, *, ends: bool = False) -> Answer:
        """Send bytes that no library would, and read to the end; `ends` says that it is all."""
        async with self.client() as client:
            assert client._writer is not None
            client._writer.write(sent)
            if ends:
                client._writer.write_eof()
            return await heard_until(client, lambda kind: False)


async def write_pieces(
    client: AsyncTcpClient, pieces: Iterable[str], voice: SynthesizeVoice | None = None
) -> None:
    """Send a text in pieces, and then once more as a whole, for servers that take no pieces."""
    await client.write_event(SynthesizeStart(voice).event())
    message = ""
    for piece in pieces:
        message += piece
        await client.write_event(SynthesizeChunk(piece).event())
    await client.write_event(Synthesize(message, voice).event())
    await client.write_event(SynthesizeStop().event())


async def event_of(client: AsyncTcpClient) -> Event | None:
    """Return the next event; `None` at the end of the connection."""
    async with asyncio.timeout(LIMIT_S):
        return await client.read_event()


async def heard_until(client: AsyncTcpClient, is_last: Callable[[str], bool]) -> Answer:
    """Read to a type of event, or to the end of the connection."""
    answer = Answer()
    while (event := await event_of(client)) is not None:
        answer.take(event)
        if is_last(event.type):
            return answer
    answer.was_closed = True
    return answer


@contextlib.asynccontextmanager
async def running_wyoming_worker(
    manager: ModelManager, **settings: object
) -> AsyncIterator[HomeAssistant]:
    """Serve a manager that is not initialized yet, over Wyoming too."""
    async with running_worker(manager, wyoming_listen="127.0.0.1:0", **settings) as served:
        yield HomeAssistant(served)
