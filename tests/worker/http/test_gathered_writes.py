"""What leaves together: an answer's head with its first piece, the last piece with the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import Catalog, ModelManager
from greenroom.worker.http import http_connection
from greenroom.worker.http.gathered_writes import GatheredWrites
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.worker_client import LIMIT_S


class Wire(asyncio.Transport):
    """A transport that keeps what it is told to do."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def write(self, data: Any) -> None:
        self.done.append(bytes(data))

    def close(self) -> None:
        self.done.append("closed")

    def abort(self) -> None:
        self.done.append("aborted")


def test_what_is_held_is_written_once_in_order() -> None:
    wire = Wire()
    gathered = GatheredWrites(wire)
    gathered.write(b"before")
    gathered.hold()
    gathered.write(b"a")
    gathered.hold()
    gathered.write(b"")
    gathered.write(bytearray(b"b"))
    assert wire.done == [b"before"]
    gathered.release()
    gathered.release()
    gathered.write(b"after")
    assert wire.done == [b"before", b"ab", b"after"]


def test_nothing_held_is_no_write() -> None:
    wire = Wire()
    gathered = GatheredWrites(wire)
    gathered.hold()
    gathered.release()
    assert wire.done == []


def test_what_is_held_is_sent_before_a_close_and_lost_by_an_abort() -> None:
    for end, expected in (("close", [b"a", "closed"]), ("abort", ["aborted"])):
        wire = Wire()
        gathered = GatheredWrites(wire)
        gathered.hold()
        gathered.write(b"a")
        getattr(gathered, end)()
        gathered.release()
        assert wire.done == expected


@pytest.fixture
async def web(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as made:
        yield made


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What connections that are made from now on write, a write each."""
    made: list[bytes] = []

    class Overheard(GatheredWrites):
        def __init__(self, transport: asyncio.Transport) -> None:
            wire = Wire()
            wire.write = lambda data: (made.append(bytes(data)), transport.write(data))  # type: ignore[assignment, func-returns-value, method-assign]
            super().__init__(wire)
            wire.close, wire.abort = transport.close, transport.abort  # type: ignore[method-assign]
            wire.is_closing = transport.is_closing  # type: ignore[method-assign]
            wire.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
            wire.pause_reading = transport.pause_reading  # type: ignore[method-assign]
            wire.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    monkeypatch.setattr(http_connection, "GatheredWrites", Overheard)
    return made


async def test_a_head_leaves_with_the_first_audio_and_the_last_audio_with_the_end(
    web: HttpClient, written: list[bytes]
) -> None:
    asked = {"model": "tts-1", "input": "Hello.", "voice": "alloy", "response_format": "pcm"}
    answer = await web.post("/v1/audio/speech", asked)
    assert len(answer.content) / 48_000 == pytest.approx(0.36, abs=0.02)
    head, _, first = written[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(first) > 100
    assert written[-1].endswith(b"\r\n0\r\n\r\n")
    assert len(written[-1]) > 100


async def test_a_short_answer_is_one_write(web: HttpClient, written: list[bytes]) -> None:
    answer = await web.client.get("/v1/models")
    assert len(written) == 1
    assert written[0].endswith(answer.content)


async def test_a_head_whose_body_is_yet_to_come_leaves_at_once(
    web: HttpClient, written: list[bytes]
) -> None:
    async with web.events() as events:
        async with asyncio.timeout(LIMIT_S):
            await anext(events)
        assert written[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("version", "framed"), [("1.0", False), ("1.1", True)])
async def test_audio_is_framed_for_the_version_of_http_that_is_spoken(
    web: HttpClient, version: str, framed: bool
) -> None:
    address = web.served.worker.http_address
    assert address is not None
    body = json.dumps(
        {"model": "tts-1", "input": "Hello. " * 9, "voice": "alloy", "response_format": "pcm"}
    ).encode()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = f"POST /v1/audio/speech HTTP/{version}\r\nHost: {address}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    async with asyncio.timeout(LIMIT_S):
        said, _, heard = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert (b"chunked" in said) == framed
    audio = _unframed(heard) if framed else heard
    assert len(audio) / 48_000 == pytest.approx(9 * len("Hello.") * 0.06, abs=0.1)


def _unframed(heard: bytes) -> bytes:
    audio = b""
    while heard:
        size, _, rest = heard.partition(b"\r\n")
        length = int(size, 16)
        audio, end, heard = audio + rest[:length], rest[length : length + 2], rest[length + 2 :]
        assert end == b"\r\n"
        if not length:
            assert not heard
            return audio
    raise AssertionError("the answer has no end")
