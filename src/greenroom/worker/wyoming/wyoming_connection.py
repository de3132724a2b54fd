"""One client's connection: what it asks for is answered in order, while it is read.

Two things go on at once. *Reading* takes frames as they come, so that the end of the connection is
noticed at any moment, and cancels what is spoken: its lease goes back. *Answering* takes one
request after the other. What waits between them is bounded: in number, and each text in length.

An error ends the connection, after the `error` event: Home Assistant reads no such event, and would
wait for the audio for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.ping import Pong
from wyoming.tts import SynthesizeStopped

from greenroom.audio.frames import AudioFrame
from greenroom.concurrency.stall_timeout import StallTimeout
from greenroom.concurrency.tasks import race
from greenroom.errors import InvalidInputError, ModelManagerError, StalledError, WorkerBusyError
from greenroom.speech.text import CheckedText
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import one_line
from greenroom.voice import Voice
from greenroom.worker.admission import RETRY_S, Admission, peer_of
from greenroom.worker.auth import Caller, owner_of
from greenroom.worker.errors import code_of
from greenroom.worker.synthesis import Synthesis
from greenroom.worker.wyoming.dialogue import Describe, Dialogue, Echo, Request, Say, SayPieces
from greenroom.worker.wyoming.event_frames import frame_of, read_frame
from greenroom.worker.wyoming.voice_choice import choose
from greenroom.worker.wyoming.voice_list import VoiceList

logger = safe_logger(__name__)

MAX_WAITING = 4
"""Requests of one connection that wait for the one before."""

_FAREWELL_S = 2.0
"""How long a client may take to read why its connection ends."""

_PREFETCH_S = 10.0
"""Within how many seconds of its start the first piece of a text is expected."""

_EMPTY = "text is empty; send at least one word."

_CLOSE_S = 1.0
_LONGEST_MESSAGE = 1_000
_DROPPED_AT_ONCE = 64 * 1024

_WIDTH, _CHANNELS = 2, 1
"""Of the audio: 16 bits, mono."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all connections of a server share."""

    synthesis: Synthesis
    admission: Admission
    voices: VoiceList
    caller: Caller
    """All clients together: the protocol has no keys."""


class WyomingConnection:
    """Answers one client: `run` until either side ends it."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, services: Services) -> None:
        self._reader = reader
        self._writer = writer
        self._services = services
        self._synthesis = services.synthesis
        self._patience = services.synthesis.patience
        self._requests: asyncio.Queue[Request | None] = asyncio.Queue(MAX_WAITING)
        self._stall = StallTimeout(self._patience)
        self._busy = False
        self._ending = False
        peer = writer.get_extra_info("peername")
        is_inet = isinstance(peer, tuple)
        self.host = peer_of(peer[0] if is_inet else None)
        """What is counted as one address."""
        self._name = f"{peer[0]}:{peer[1]}" if is_inet else "a local client"

    @property
    def is_idle(self) -> bool:
        """Whether nothing is answered; a text of which no piece has come counts as nothing."""
        return not self._busy and self._requests.empty()

    def cut(self) -> None:
        """End the connection now."""
        self._writer.transport.abort()

    def end(self) -> None:
        """End it as soon as what was asked for is answered."""
        self._ending = True
        if self._requests.empty():
            self._requests.put_nowait(None)

    async def run(self) -> None:
        """Read and answer until the client leaves, something is wrong, or it is idle for too long.

        Whatever was taken for it has gone back when this returns.
        """
        try:
            refusal = await self._talk()
            # Without the error in hand, which would keep the model that it came from in memory.
            if refusal is not None:
                await self._refuse(refusal)
        finally:
            await self._close()

    async def _talk(self) -> bytes | None:
        """Read and answer, and return the event that says what was wrong, if anything was."""
        try:
            await race(self._answer(), self._read(), name="wyoming")
        except ModelManagerError as error:
            logger.info("a Wyoming client at %s is refused: %s", self._name, str(error))
            return _refusal(error)
        except OSError:  # the connection is down
            pass
        return None

    # Reading

    async def _read(self) -> None:
        """Take what comes, and return when the client has ended the connection."""
        dialogue = Dialogue(self._synthesis.settings.max_text_chars)
        while (event := await read_frame(self._reader)) is not None:
            request = dialogue.take(event)
            if request is not None:
                self._put(request)
            await asyncio.sleep(0)  # what is there already is read without waiting

    def _put(self, request: Request) -> None:
        try:
            self._requests.put_nowait(request)
        except asyncio.QueueFull:
            problem = f"{MAX_WAITING} requests of this connection wait already"
            raise WorkerBusyError(problem, RETRY_S) from None

    # Answering

    async def _answer(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._stall:
                while (request := await self._next()) is not None:
                    await self._answer_one(request)
                    self._busy = False
                return
        self.cut()  # who takes no audio takes no error either
        raise StalledError(
            f"no audio was taken for {self._patience:g} s; read faster, or end the connection."
        )

    async def _next(self) -> Request | None:
        """Return the next request; `None` when none has come for too long, or may come any more."""
        if self._ending and self._requests.empty():
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                request = await self._requests.get()
                self._busy = not isinstance(request, SayPieces)
                return request
        return None

    async def _answer_one(self, request: Request) -> None:
        match request:
            case Describe():
                await self._send((await self._services.voices.listed()).event)
            case Echo(text):
                await self._send_event(Pong(text).event())
            case Say(text, asked):
                whole = self._synthesis.text(text)
                listed = await self._services.voices.listed()
                await self._speak(choose(asked, self._synthesis, listed), whole)
            case SayPieces():
                await self._speak_pieces(request)

    async def _speak_pieces(self, request: SayPieces) -> None:
        """Speak a text as it comes; until it does, only its model is got ready."""
        synthesis = self._synthesis
        voice = choose(request.voice, synthesis, await self._services.voices.listed())
        await synthesis.prefetch(voice.model_id, min(_PREFETCH_S, self._patience))
        if not await self._begun(request):
            raise InvalidInputError(_EMPTY)
        self._busy = True
        await self._speak(voice, synthesis.text(request.pieces))
        await self._send_event(SynthesizeStopped().event())

    async def _begun(self, request: SayPieces) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                return await request.pieces.begun()
        raise StalledError(
            f"no text came for {self._patience:g} s; send synthesize-chunk, or synthesize-stop."
        )

    async def _speak(self, voice: Voice, text: CheckedText) -> None:
        services, is_heard = self._services, False
        owner = owner_of("wyoming call", services.caller, self._name)
        with services.admission.calls.take(services.caller, self.host):
            async with self._synthesis.once(voice, text, owner=owner) as speech:
                async for frame in speech:
                    if not is_heard:
                        self._writer.write(_start(voice))
                        is_heard = True
                    await self._send_audio(voice, [frame, *speech.take_ready()])
        if not is_heard:  # a text that came in pieces, none of them with anything in it
            raise InvalidInputError(_EMPTY)
        # After the lease has gone back: whoever has heard all may unload the model at once.
        await self._send_event(AudioStop().event())

    async def _send_audio(self, voice: Voice, frames: list[AudioFrame]) -> None:
        pcm = b"".join([frame.pcm for frame in frames])
        chunk = AudioChunk(voice.sample_rate, _WIDTH, _CHANNELS, pcm)
        await self._send_event(chunk.event())

    async def _send_event(self, event: Event) -> None:
        await self._send(frame_of(event))

    async def _send(self, frame: bytes) -> None:
        """Send a frame, within `_answer`; raises `TimeoutError` when it is not taken in time."""
        self._writer.write(frame)
        await self._stall.wait(self._writer.drain())

    # Ending

    async def _refuse(self, refusal: bytes) -> None:
        """Say what is wrong, and end; what comes meanwhile is dropped.

        A connection that is closed with something unread is reset, and its client may never see
        what was sent last.
        """
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_FAREWELL_S):
                self._writer.write(refusal)
                self._writer.write_eof()
                await self._writer.drain()
                while await self._reader.read(_DROPPED_AT_ONCE):
                    pass

    async def _close(self) -> None:
        self._writer.close()
        try:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._writer.wait_closed()
        finally:
            self.cut()  # whatever is not sent by now; of one that is closed, nothing


def _start(voice: Voice) -> bytes:
    return frame_of(AudioStart(voice.sample_rate, _WIDTH, _CHANNELS).event())


def _refusal(error: ModelManagerError) -> bytes:
    """Return the `error` event, in the words and with the code of every other protocol."""
    return frame_of(Error(one_line(str(error), _LONGEST_MESSAGE), code_of(error)).event())
