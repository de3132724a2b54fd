"""Wyoming's door: events in any order, frames of any length, and bytes that are none."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from wyoming.audio import AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event, read_event
from wyoming.tts import Synthesize

from fuzz.documents import spoiled
from fuzz.served import LONGEST_TEXT, MODELS, ServedDoor, silence_or_end
from fuzz.shorter import one_left_out, parts_left_out
from greenroom.worker.errors import CODES

_KINDS = (
    *("synthesize", "synthesize", "synthesize-start", "synthesize-chunk", "synthesize-chunk"),
    *("synthesize-stop", "describe", "ping", "audio-chunk", "select-program", "", "x" * 300),
)
_ANSWERS = {
    *("info", "pong", "error", "synthesize-stopped"),
    *("audio-start", "audio-chunk", "audio-stop"),
}
_NAMES = (*MODELS, *MODELS, "alloy", "", "nobody", "en-US", "x" * 300, "\x00", "\ud800", "../..")
_TEXTS = (
    *(
        "Hello there.",
        "Hi. And again! And more?",
        "",
        " ",
        ".",
        "\n\n",
        "\x07",
        "\ud83d",
        "。" * 50,
    ),
    *("*a*", "<speak>", "\U0001f600", "a" * LONGEST_TEXT, "a" * (LONGEST_TEXT + 1)),
)
_ODD: tuple[Any, ...] = (None, 5, -1, 1.5, True, [], {}, [[]], {"a": {"b": [None]}}, "1", 2**70)
_LENGTHS = (None, 0, 1, 2, 200, 2**30, 2**40, -1, "5", True, 1.0)


@dataclass(frozen=True, slots=True)
class Sent:
    """What one client sends, frame by frame, and whether it ends its side or leaves at once."""

    frames: tuple[bytes, ...]
    ends: bool = False
    leaves: bool = False


class WyomingDoor(ServedDoor):
    """Whatever is sent, the answers are events, an error is the last, and the worker speaks on."""

    name = "wyoming"
    about = "events in any order over Wyoming, and bytes that are none"

    async def speak(self, text: str) -> int:
        """Return the bytes of all audio."""
        server, total = self.worker.wyoming_server, 0
        assert server is not None
        async with AsyncTcpClient(server.address.host, server.address.port) as client:
            await client.write_event(Synthesize(text).event())
            while (event := await client.read_event()) and not AudioStop.is_type(event.type):
                total += len(event.payload or b"")
        return total

    def one(self, dice: random.Random) -> Sent:
        """Return a few events; most are as a client sends them."""
        frames = tuple(_one(dice) for _ in range(dice.choice((1, 1, 2, 3, 6))))
        chance = dice.random()
        return Sent(frames, ends=chance < 0.1, leaves=chance > 0.9)

    def simpler_one(self, request: Sent) -> Iterator[Sent]:
        """Yield fewer frames, and shorter ones."""
        for frames in one_left_out(request.frames):
            yield replace(request, frames=frames)
        for number, data in enumerate(request.frames):
            for less in parts_left_out(data):
                changed = (*request.frames[:number], less, *request.frames[number + 1 :])
                yield replace(request, frames=changed)

    async def send(self, request: Sent) -> list[str]:
        """Send it, and look at what comes back."""
        return _judged(await self.in_time("wyoming", self._answers(request)) or [])

    async def _answers(self, request: Sent) -> list[Event]:
        server = self.worker.wyoming_server
        assert server is not None
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
            try:
                writer.write(b"".join(request.frames))
                if request.ends:
                    writer.write_eof()
                if not request.leaves:
                    return _events(await silence_or_end(reader, 0.2))
            finally:
                writer.transport.abort()
        return []


def _events(data: bytes) -> list[Event]:
    """Read what came; a frame that breaks off, as it was not all read, counts no more."""
    file, found = io.BytesIO(data), []
    while (event := read_event(file)) is not None:
        found.append(event)
    return found


def _judged(answers: list[Event]) -> list[str]:
    faults = [f"answered {each.type!r}" for each in answers if each.type not in _ANSWERS]
    kinds = [each.type for each in answers]
    if "error" in kinds[:-1]:
        faults.append(f"{kinds[kinds.index('error') + 1]} after an error")
    errors = [each.data for each in answers if each.type == "error"]
    return faults + [f"an undocumented error: {e}" for e in errors if e.get("code") not in CODES]


def _one(dice: random.Random) -> bytes:
    if dice.random() < 0.05:
        return dice.randbytes(dice.choice((1, 10, 5_000)))
    data: Any = {}
    if dice.random() < 0.9:
        data["text"] = dice.choice(_TEXTS)
    if dice.random() < 0.3:
        keys = ("name", "language", "speaker")
        data["voice"] = {key: dice.choice(_NAMES) for key in keys if dice.random() < 0.5}
    if dice.random() < 0.1:
        data["text_format"] = dice.choice(("text", "ssml", *_ODD))
    if dice.random() < 0.1 and data:
        data[dice.choice(list(data))] = dice.choice(_ODD)
    elif dice.random() < 0.05:
        data = dice.choice(_ODD)
    frame = _frame(dice.choice(_KINDS), data)
    if dice.random() < 0.1:
        lengths = {f"{key}_length": dice.choice(_LENGTHS) for key in ("data", "payload")}
        frame = _line({"type": dice.choice(_KINDS), "data": data, **lengths})
        frame += b"{}" + dice.randbytes(dice.choice((0, 0, 200)))
    return spoiled(dice, frame) if dice.random() < 0.1 else frame


def _frame(kind: str, data: Any) -> bytes:
    """Return an event as the library writes it."""
    more = json.dumps(data).encode()
    return _line({"type": kind, "data_length": len(more)}) + more


def _line(header: dict[str, Any]) -> bytes:
    return json.dumps(header).encode() + b"\n"
