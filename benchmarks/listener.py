"""An HTTP caller that costs little: one kept-alive connection, answers read chunk by chunk.

It is the same for every server. Its floor is a head to parse and two reads for each chunk; for an
answer of 35 chunks it was measured at 0.3 ms of processor time, and the least server at 0.6 ms, so
that on a second core it is not what is measured.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from benchmarks.rounds import Stopwatch

SPEECH = "/v1/audio/speech"

_READ_AHEAD = 1 << 20


@dataclass(frozen=True, slots=True)
class Heard:
    """One whole answer."""

    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    pieces: tuple[bytes, ...]
    """The body as it was sent: the chunks, or the whole of one that has a length."""
    arrivals: tuple[float, ...]
    """Seconds from asking to each of them."""

    @property
    def first(self) -> float:
        """Seconds to the first piece; 0 if there is none."""
        return self.arrivals[0] if self.arrivals else 0.0

    @property
    def body(self) -> bytes:
        """All pieces together."""
        return b"".join(self.pieces)


class Listener:
    """One connection for an `async with` block; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, limit=_READ_AHEAD
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def say(self, text: str, model: str, response_format: str = "pcm") -> Heard:
        """Ask for speech and hear all of it; raises `ConnectionError` when it is cut off."""
        asked = {"model": model, "voice": model, "input": text, "response_format": response_format}
        return await self._ask("POST", SPEECH, json.dumps(asked).encode())

    async def text(self, path: str) -> str:
        """Return the text that is there."""
        return (await self._ask("GET", path, b"")).body.decode()

    async def get(self, path: str) -> Any:
        """Return the JSON that is there."""
        return json.loads((await self._ask("GET", path, b"")).body)

    async def _ask(self, method: str, path: str, body: bytes) -> Heard:
        watch = Stopwatch()
        self._writer.write(_request(method, path, body))
        try:
            status, headers = _parsed(await self._reader.readuntil(b"\r\n\r\n"))
            pieces: list[bytes] = []
            arrivals: list[float] = []
            while piece := await self._piece(headers, heard=bool(pieces)):
                arrivals.append(watch.read())
                pieces.append(piece)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the answer was cut off") from error
        return Heard(status, headers, tuple(pieces), tuple(arrivals))

    async def _piece(self, headers: dict[str, str], *, heard: bool) -> bytes:
        """Return the next piece; empty after the last."""
        length = headers.get("content-length")
        if length is not None:
            return b"" if heard else await self._reader.readexactly(int(length))
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]


def _request(method: str, path: str, body: bytes) -> bytes:
    head = (
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(body)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = head.decode("latin-1").rstrip().split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in fields}
