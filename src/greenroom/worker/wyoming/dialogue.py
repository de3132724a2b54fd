"""What a client asks for: events in, requests out, and an order that makes no sense is refused.

::

    describe                                              -> Describe
    ping                                                  -> Echo
    synthesize                                            -> Say
    synthesize-start, synthesize-chunk*, synthesize-stop  -> SayPieces, at its start

A `synthesize` between `synthesize-start` and `synthesize-stop` has the whole text once more, for
servers that take no pieces, and is dropped. So is every event of another type: they belong to
services that a worker is not.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from wyoming.event import Event
from wyoming.info import Describe as DescribeEvent
from wyoming.ping import Ping
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

from greenroom.config.schema import MAX_NAME_CHARS
from greenroom.errors import InvalidInputError
from greenroom.untrusted.printable import printable_repr
from greenroom.worker.errors import FieldError

_HALF = re.compile("[\ud800-\udfff]")
"""A surrogate without the other one."""


@dataclass(frozen=True, slots=True)
class VoiceRequest:
    """Which voice a client asks for; empty is the default."""

    name: str = ""
    language: str = ""
    """Counts where there is no name."""
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Describe:
    """Which voices are there?"""


@dataclass(frozen=True, slots=True)
class Echo:
    """Is anyone there? The answer has the same text."""

    text: str | None


@dataclass(frozen=True, slots=True)
class Say:
    """Say a text that is all there."""

    text: str
    voice: VoiceRequest


@dataclass(frozen=True, slots=True)
class SayPieces:
    """Say a text that comes in pieces."""

    pieces: TextPieces
    voice: VoiceRequest


Request = Describe | Echo | Say | SayPieces


class TextPieces(AsyncIterator[str]):
    """The pieces of a text as they come, for one reader; what waits is bounded by their length."""

    def __init__(self, limit: int) -> None:
        """`limit` is in characters, over all pieces."""
        self._limit = limit
        self._left = limit
        self._waiting: deque[str] = deque()
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, text: str) -> None:
        """Take one more piece; raises `InvalidInputError` when all are too long together."""
        self._left -= len(text)
        if self._left < 0:
            raise InvalidInputError(
                f"the pieces of text add up to more than {self._limit} characters; start another "
                "stream."
            )
        if text:  # empty ones cost no characters, and so there could be any number of them
            self._waiting.append(text)
            self._changed.set()

    def end(self) -> None:
        """There are no more."""
        self._ended = True
        self._changed.set()

    async def begun(self) -> bool:
        """Return as soon as there is a piece, or the end: whether there is one."""
        await self._changed.wait()
        return bool(self._waiting)

    async def __anext__(self) -> str:
        """Return the pieces that have come, as one."""
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        text = "".join(self._waiting)
        self._waiting.clear()
        return text


class Dialogue:
    """Follows the events of one connection."""

    def __init__(self, text_limit: int) -> None:
        """`text_limit` is in characters, of one text."""
        self._text_limit = text_limit
        self._open: TextPieces | None = None
        """The text that comes in pieces, between its start and its stop."""

    def take(self, event: Event) -> Request | None:
        """Return what an event asks for, if that is something new.

        Raises `InvalidInputError` for a field that cannot be used, and for an order that cannot be.
        """
        kind, data = event.type, event.data
        if DescribeEvent.is_type(kind):
            return Describe()
        if Ping.is_type(kind):
            return Echo(None if data.get("text") is None else self._text(data))
        if SynthesizeStart.is_type(kind):
            return self._start(data)
        if SynthesizeChunk.is_type(kind):
            self._of_open(kind).add(self._text(data))
        elif SynthesizeStop.is_type(kind):
            self._of_open(kind).end()
            self._open = None
        elif Synthesize.is_type(kind) and self._open is None:
            _check_format(data)
            return Say(self._text(data), _voice(data))
        return None

    def _start(self, data: dict[str, Any]) -> SayPieces:
        if self._open is not None:
            raise InvalidInputError(
                "synthesize-start came before the synthesize-stop of the text before; send that "
                "first."
            )
        _check_format(data)
        voice = _voice(data)
        self._open = TextPieces(self._text_limit)
        return SayPieces(self._open, voice)

    def _of_open(self, kind: str) -> TextPieces:
        if self._open is None:
            raise InvalidInputError(f"{kind} came before synthesize-start; send that first.")
        return self._open

    def _text(self, data: dict[str, Any]) -> str:
        text = data.get("text")
        if text is None:
            problem = "there is no `text`; send it in the data of the event."
            raise FieldError("text", problem, code="missing_required_parameter")
        if not isinstance(text, str):
            raise FieldError("text", f"`text` must be text, not {printable_repr(text, 40)}.")
        if len(text) > self._text_limit:
            raise InvalidInputError(
                f"text has {len(text)} characters, {self._text_limit} are allowed; send it in "
                "parts."
            )
        if _HALF.search(text):  # which cannot be sent, as in an answer to a ping
            raise FieldError("text", "`text` has half of a character in it; send it whole.")
        return text


def _check_format(data: dict[str, Any]) -> None:
    said = data.get("text_format")
    if said not in (None, "text"):
        problem = f"text_format {printable_repr(said, 40)} is not spoken; send plain text."
        raise FieldError("text_format", problem)


def _voice(data: dict[str, Any]) -> VoiceRequest:
    voice = data.get("voice")
    if voice is None:
        return VoiceRequest()
    if not isinstance(voice, dict):
        problem = "`voice` must be an object with `name`, `language` or `speaker`."
        raise FieldError("voice", problem)
    return VoiceRequest(*(_name(voice, key) for key in ("name", "language", "speaker")))


def _name(voice: dict[str, Any], key: str) -> str:
    name = voice.get(key)
    if name is None:
        return ""
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS:
        problem = f"`{key}` of a voice must be a name of at most {MAX_NAME_CHARS} characters."
        raise FieldError(key, problem)
    return name
