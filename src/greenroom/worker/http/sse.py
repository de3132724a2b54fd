"""Ways to send audio: the bytes themselves, or OpenAI's server-sent events.

Beside them are those of `captions`; each of them has the same methods.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

from greenroom.audio.frames import FRAME_MS, WordTime
from greenroom.errors import ModelManagerError
from greenroom.worker.http.errors import body_of

_CHARS_PER_TOKEN = 4
"""Tokens of text are estimated, as no model here counts in them; a token of audio is a frame."""


Words = list[WordTime] | None
"""Those that begin in a piece of audio; `None` unless they are asked for and known."""


class Packets(Protocol):
    """How audio, and words, are put into the body of one answer."""

    @property
    def media_type(self) -> str:
        """What `Content-Type` says."""

    def of(self, audio: bytes, words: Words) -> bytes:
        """Return what to send for a piece of audio, which may be empty, with its words."""

    def end(self, seconds: float) -> bytes:
        """Return what to send after the last piece of so many seconds."""

    def failure(self, error: ModelManagerError) -> bytes | None:
        """Return what to send when it fails midway; `None`: the connection must be cut."""


class Bytes:
    """The audio is the body."""

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    def of(self, audio: bytes, words: Words) -> bytes:
        """Return what to send for a piece of audio."""
        return audio

    def end(self, seconds: float) -> bytes:
        """Return what to send after the last piece of so many seconds."""
        return b""

    def failure(self, error: ModelManagerError) -> bytes | None:
        """Return what to send when it fails midway; `None`: the connection must be cut."""
        return None


class Events:
    """The audio is in `speech.audio.delta` events, in the format that was asked for.

    Word times, where they are asked for, are in events of our own before the audio in which the
    words begin; the first says whether they are known.
    """

    media_type = "text/event-stream; charset=utf-8"

    def __init__(self, chars: int, *, word_times: bool = False) -> None:
        """`chars` are those of the text."""
        self._chars = chars
        self._must_tell = word_times

    def of(self, audio: bytes, words: Words) -> bytes:
        """Return an event with a piece of audio, and perhaps one with words before it."""
        told = b""
        if words or self._must_tell:
            told = _event({"type": "speech.audio.timestamps", "timestamps": timestamps(words)})
            self._must_tell = False
        if not audio:
            return told
        encoded = base64.b64encode(audio).decode()
        return told + _event({"type": "speech.audio.delta", "audio": encoded})

    def end(self, seconds: float) -> bytes:
        """Return the event that says what it took."""
        text = math.ceil(self._chars / _CHARS_PER_TOKEN)
        audio = round(seconds * 1000 / FRAME_MS)
        usage = {"input_tokens": text, "output_tokens": audio, "total_tokens": text + audio}
        return _event({"type": "speech.audio.done", "usage": usage})

    def failure(self, error: ModelManagerError) -> bytes | None:
        """Return an event with the error, where OpenAI's SDK looks for one."""
        return _event({"type": "error", **body_of(error)})


def timestamps(words: Words) -> list[dict[str, Any]] | None:
    """Return words as Kokoro-FastAPI names them, in seconds of the audio; `None` is not known."""
    if words is None:
        return None
    return [
        {"word": w.text, "start_time": round(w.start_s, 6), "end_time": round(w.end_s, 6)}
        for w in words
    ]


def _event(content: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n".encode()
