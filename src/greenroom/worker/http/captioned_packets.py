"""Audio with the times of its words in JSON: one object, or one in each line."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from greenroom.errors import ModelManagerError
from greenroom.worker.http.errors import body_of
from greenroom.worker.http.sse import Words, timestamps


class JsonLines:
    """Each piece of audio is an object in a line of its own, with the words that begin in it."""

    media_type = "application/x-ndjson"

    def __init__(self, audio_format: str) -> None:
        """`audio_format` is the media type of the audio."""
        self._format = audio_format

    def of(self, audio: bytes, words: Words) -> bytes:
        """Return a line."""
        if not audio and not words:
            return b""
        encoded = base64.b64encode(audio).decode()
        line = {"audio": encoded, "audio_format": self._format, "timestamps": timestamps(words)}
        return _json(line) + b"\n"

    def end(self, seconds: float) -> bytes:
        """Return nothing: the end of the body is the end."""
        return b""

    def failure(self, error: ModelManagerError) -> bytes | None:
        """Return a line with the error."""
        return _json(body_of(error)) + b"\n"


class JsonObject:
    """All audio and all words are one object; the audio in it is sent as it is made."""

    media_type = "application/json"

    def __init__(self, audio_format: str) -> None:
        """`audio_format` is the media type of the audio."""
        self._begin = b'{"audio_format":%s,"audio":"' % _json(audio_format)
        self._rest = b""
        """Bytes that make no whole group of base64 yet."""
        self._words: Words = None

    def of(self, audio: bytes, words: Words) -> bytes:
        """Return the next part of the object; its words are kept for the end."""
        if words is not None:
            self._words = [*(self._words or ()), *words]
        audio = self._rest + audio
        whole = len(audio) - len(audio) % 3
        self._rest = audio[whole:]
        return self._begun() + base64.b64encode(audio[:whole])

    def end(self, seconds: float) -> bytes:
        """Return what is left of the object."""
        rest = self._begun() + base64.b64encode(self._rest)
        return b'%s","timestamps":%s}' % (rest, _json(timestamps(self._words)))

    def failure(self, error: ModelManagerError) -> bytes | None:
        """Return `None`: half an object is none."""
        return None

    def _begun(self) -> bytes:
        begin, self._begin = self._begin, b""
        return begin


def _json(content: Mapping[str, Any] | list[dict[str, Any]] | str | None) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
