"""HTTP's door: heads and bodies of any bytes, on a real socket."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from fuzz.documents import JSON_VALUES, hostile_json, spoiled
from fuzz.served import ANSWER_S, LONGEST_TEXT, MODELS, ServedDoor, silence_or_end
from fuzz.shorter import parts_left_out

_BODIES: tuple[tuple[str, Any], ...] = (
    ("/v1/audio/speech", {"model": "tts-1", "voice": "alloy", "input": "Hello there."}),
    (
        "/v1/audio/speech",
        {
            "model": "tone-220",
            "voice": {"id": "tone-220"},
            "input": "Hello there. And again!",
            "instructions": None,
            "response_format": "pcm",
            "speed": 1.5,
            "stream_format": "sse",
            "sample_rate": 16_000,
            "keep_alive": "5m",
        },
    ),
    ("/v1/audio/speech", {"model": "tone-247", "voice": "x", "input": "Hi.", "keep_alive": 0}),
    ("/synthesize", {"text": "Hello.", "voice": "tone-220"}),
    ("/", {"text": "Hello.", "speaker": "1", "speaker_id": 2, "length_scale": 1.0}),
    ("/api/load", {"model": "tone-247", "keep_alive": "10s"}),
    ("/api/unload", {"model": "tone-247", "drain": True}),
    ("/api/unload", {"model": "tone-440", "drain": False}),
    ("/api/generate", {"model": "tone-277", "prompt": "", "keep_alive": 0}),
    ("/api/generate", {"model": "tone-277", "prompt": "say", "keep_alive": "-1s"}),
    ("/api/pin", {"model": "tone-277"}),
    ("/api/unpin", {"model": "tone-277"}),
    ("/api/keep-alive", {"model": "tone-440", "keep_alive": 3.5}),
    ("/v2/repository/index", {"ready": True}),
    ("/v2/repository/models/tone-277/load", {"parameters": {}}),
    ("/v2/repository/models/tone-277/unload", {"parameters": {}}),
)
_FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm", "mulaw", "WAV_alaw")
_PAGES = (
    *("/", "/static/page.js", "/static/../app.py", "/static/%2e%2e/app.py", "/metrics", "/health"),
    *(
        "/v1",
        "/v1/models",
        "/v1/models/tone-440",
        "/v1/audio/models",
        "/v1/audio/voices?model=tts-1",
        "/audio/speech/?input=x&speed=4&volume=0.1&response_format=ulaw",
        "/v1/audio/speech?input=%00&input=x&voice=%ff&sample_rate=1e9",
    ),
    *("/api/version", "/api/ps", "/api/tags", "/api/explain/tone-440", "/api/journal?limit=5"),
    *("/api/events", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/tone-440"),
    *(
        "/v2/models/tone-440/versions/1",
        "/v2/models/tone-440/ready",
        "/openapi.json",
        "/docs",
        "/x",
    ),
)
_QUERIES = (b"?", b"?since=", b"?model=", b"?limit=-1", b"?limit=9999999999999999999", b"?%", b"#")
_METHODS = (
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"OPTIONS",
    b"DELETE",
    b"PATCH",
    b"TRACE",
    b"X",
    b"get",
)
_HEADERS: tuple[bytes, ...] = (
    *(
        b"Host: ",
        b"Host: evil.example",
        b"Host: a\r\nHost: b",
        b"Origin: null",
        b"Origin: http://x",
    ),
    *(b"Authorization: Bearer ", b"Authorization: Bearer \xff", b"Authorization: Basic !"),
    *(b"Content-Type: text/plain", b"Content-Type: \x80", b"Content-Type: multipart/form-data"),
    *(
        b"Accept: application/openmetrics-text; version=99",
        b"Accept: ;;q=x",
        b"Accept: " + b"a," * 900,
    ),
    *(b"Expect: 100-continue", b"Upgrade: websocket\r\nConnection: Upgrade", b"Upgrade: h2c"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: x, chunked"),
    *(b"Content-Length: -1", b"Content-Length: +5", b"Content-Length: 99999999999999999999999"),
    *(b"Content-Length: 3\r\nContent-Length: 4", b"Content-Length: \xb2", b"Range: bytes=0-1"),
    *(b"Last-Event-ID: x", b"Last-Event-ID: 99999999999999999999", b"Cookie: " + b"a=b;" * 500),
    *(b"X-Request-ID: \x01", b"X-Request-ID: " + b"x" * 5_000, b": x", b" folded", b"A: b\r\n c"),
    *(b"If-None-Match: *", b"Content-Encoding: gzip", b"A: " + b"x" * 70_000, b"\xff: \xff"),
)
_RAW = (
    b"",
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(60),
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET /health HTTP/1.0\r\n\r\n",
    b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x:99999/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 80_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5_000 + b"\r\n",
    b"POST /api/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    b"POST /api/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n",
    b"POST /api/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"a" * 9_000,
    b"POST /api/load HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}",
)
_BROKEN = re.compile(rb"HTTP/1\.[01] (500|501|502|504|505)[^\r]*")


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes for one connection."""

    data: bytes
    whole: bool = False
    """Whether it is one sound request that closes the connection, so that it must be answered."""
    leaves: bool = False
    """Whether its client leaves in the middle of the answer."""


class HttpDoor(ServedDoor):
    """Whatever is sent, the answer is no 500, it comes in time, and the worker speaks on."""

    name = "http"
    about = "heads and bodies over HTTP, sound and unsound"

    async def speak(self, text: str) -> int:
        """Return the bytes of audio in a whole answer; in how many chunks it comes is free."""
        asked = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": "pcm"}
        answer = await self._exchange(Request(_written("/v1/audio/speech", asked), whole=True))
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"answered {answer[:200]!r}")
        return _chunked_bytes(body)

    def one(self, dice: random.Random) -> Request:
        """Return a request: most are sound but for their JSON."""
        match dice.randrange(10):
            case 0:
                return Request(dice.choice(_RAW))
            case 1 | 2:
                return Request(spoiled(dice, _any(dice)))
            case 3:
                return Request(_any(dice, close=False) + _any(dice, close=dice.random() < 0.5))
            case 4:
                return Request(_with_header(dice))
            case 5:
                return Request(_chunked(dice))
            case 6:
                page = dice.choice(_PAGES)
                return _page(dice, page)
            case _:
                return Request(_hostile(dice), whole=True, leaves=dice.random() < 0.1)

    def simpler_one(self, request: Request) -> Iterator[Request]:
        """Yield the request with less in it; one that must be answered only as it is."""
        if request.leaves:
            yield replace(request, leaves=False)
        if not request.whole:
            for data in parts_left_out(request.data):
                yield replace(request, data=data)

    async def send(self, request: Request) -> list[str]:
        """Send the bytes, and look at what comes back."""
        answer = await self.in_time(repr(request.data[:120]), self._exchange(request))
        if answer is None or request.leaves:
            return []
        broken = _BROKEN.search(answer)
        if broken:
            return [f"{broken[0].decode()} to {request.data[:300]!r}"]
        if request.whole and not answer.startswith(b"HTTP/1."):
            return [f"no answer to {request.data[:300]!r}"]
        return []

    async def _exchange(self, request: Request) -> bytes:
        address = self.worker.http_address
        assert address is not None
        host, _, port = str(address).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request.data)
            if request.leaves:
                return await reader.read(100)
            silence = 2 * ANSWER_S if request.whole else 0.1
            return await silence_or_end(reader, silence)
        except ConnectionError:
            return b""  # it was cut off in the middle of its nonsense
        finally:
            writer.transport.abort()


def _written(path: str, body: Any, *more: bytes, close: bool = True) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        b"POST " + path.encode() + b" HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(data),
        *more,
        *([b"Connection: close"] if close else []),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + data


def _any(dice: random.Random, *, close: bool = True) -> bytes:
    path, body = dice.choice(_BODIES)
    return _written(path, body, close=close)


def _hostile(dice: random.Random) -> bytes:
    path, body = dice.choice(_BODIES)
    if "input" in body:
        body = {**body, "response_format": dice.choice(_FORMATS)}
        if dice.random() < 0.2:
            text = dice.choice([t for t in JSON_VALUES if isinstance(t, str)])
            body["input"] = (text * LONGEST_TEXT)[
                : dice.choice((1, LONGEST_TEXT, LONGEST_TEXT + 1))
            ]
    if "model" in body and dice.random() < 0.5:
        body = {**body, "model": dice.choice(MODELS)}
    if "/models/" in path and dice.random() < 0.5:
        odd = dice.choice(
            ("../x", "tone-440/ready", "\x00", "ü", "a" * 3_000, "%", " ", "tone-440")
        )
        path = f"/v2/repository/models/{quote(odd, safe='/')}/{dice.choice(('load', 'unload'))}"
    return _written(path, hostile_json(dice, body))


def _with_header(dice: random.Random) -> bytes:
    path, body = dice.choice(_BODIES)
    more = [dice.choice(_HEADERS) for _ in range(dice.choice((1, 2, 4)))]
    return _written(path, body, *more, close=dice.random() < 0.5)


def _page(dice: random.Random, page: str) -> Request:
    endless = page == "/api/events"
    method, whole = b"GET", not endless
    if dice.random() < 0.3:
        method, whole = dice.choice(_METHODS), False
    path = page.encode()
    if dice.random() < 0.4:
        whole = False
        path += dice.choice(_QUERIES) + dice.choice((b"", b"\xff", b"%ff", b"nan", b"x" * 500))
    head = method + b" " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    return Request(head, whole=whole)


def _chunked(dice: random.Random) -> bytes:
    path, body = dice.choice(_BODIES)
    data = json.dumps(body).encode()
    size = dice.choice((1, 7, len(data)))
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    sent = spoiled(dice, sent) if dice.random() < 0.7 else sent
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + sent


def _chunked_bytes(body: bytes) -> int:
    """Return how many bytes a chunked body carries."""
    total = 0
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16)
        total += size
        body = body[size + 2 :]
    return total
