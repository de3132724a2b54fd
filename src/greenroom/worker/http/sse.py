"""The two ways to send audio: the bytes themselves, or OpenAI's server-sent events."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

from greenroom.audio.frames import FRAME_MS
from greenroom.errors import ModelManagerError
from greenroom.worker.http.errors import body_of

_CHARS_PER_TOKEN = 4
"""Tokens of text are estimated, as no model here counts in them; a token of audio is a frame."""


class Bytes:
    """The audio is the body."""

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    def of(self, audio: bytes) -> bytes:
        """Return what to send for a piece of audio."""
        return audio

    def end(self, seconds: float) -> bytes:
        """Return what to send after the last piece of so many seconds."""
        return b""

    def failure(self, error: ModelManagerError) -> bytes | None:
        """Return what to send when it fails midway; `None`: the connection must be cut."""
        return None


class Events:
    """The audio is in `speech.audio.delta` events, in the format that was asked for."""

    media_type = "text/event-stream; charset=utf-8"

    def __init__(self, chars: int) -> None:
        """`chars` are those of the text."""
        self._chars = chars

    def of(self, audio: bytes) -> bytes:
        """Return an event with a piece of audio."""
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode()})

    def end(self, seconds: float) -> bytes:
        """Return the event that says what it took."""
        text = math.ceil(self._chars / _CHARS_PER_TOKEN)
        audio = round(seconds * 1000 / FRAME_MS)
        usage = {"input_tokens": text, "output_tokens": audio, "total_tokens": text + audio}
        return _event({"type": "speech.audio.done", "usage": usage})

    def failure(self, error: ModelManagerError) -> bytes | None:
        """Return an event with the error, where OpenAI's SDK looks for one."""
        return _event({"type": "error", **body_of(error)})


def _event(content: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n".encode()
