"""How a speech over HTTP ends: heard, left, stalled, broken, shut down; nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage
from greenroom.worker.http import http_connection
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, metered_http_worker, running_http_worker
from tests.worker.worker_client import LIMIT_S, Meter, WorkerClient, metered

SPEECH = "/v1/audio/speech"


def body(voice: str = "b", **more: Any) -> dict[str, Any]:
    asked = {"model": "tts-1", "input": "Hello.", "voice": voice, "response_format": "pcm"}
    return {**asked, **more}


async def rest(pieces: AsyncIterator[bytes]) -> bytes:
    """Read to the end."""
    return b"".join([piece async for piece in pieces])


class Caller:
    """A client on a bare socket, which may do what no library would."""

    def __init__(self, served: WorkerClient) -> None:
        address = served.worker.http_address
        assert address is not None
        self._address = (address.host, address.port)
        self._host = str(address)
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Caller:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, self._address)
        self.reader, self.writer = await asyncio.open_connection(sock=plain, limit=1_024)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def ask(self, content: dict[str, Any], *, keep_back: int = 0) -> None:
        """Send a request, but for its last bytes."""
        text = json.dumps(content).encode()
        head = (
            f"POST {SPEECH} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(text)}\r\n\r\n"
        )
        self.writer.write((head.encode() + text)[: -keep_back or None])
        await self.writer.drain()

    def leave(self) -> None:
        """Vanish without a word."""
        self.writer.transport.abort()


@pytest.fixture
async def web(metered_catalog: Catalog, meters: dict[str, Meter]) -> AsyncIterator[HttpClient]:
    """A worker whose models speak what their meters allow."""
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    async with metered_http_worker(manager, meters.values()) as made:
        yield made


async def test_a_client_that_leaves_before_its_request_is_whole_starts_nothing(
    web: HttpClient,
) -> None:
    async with Caller(web.served) as caller:
        await caller.ask(body(), keep_back=5)
        await web.get("/v1/models")
        caller.leave()
    await web.get("/v1/models")
    assert web.served.states == {"a": "ready"}


async def test_a_client_that_leaves_while_its_model_loads_waits_no_longer() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        stage["b"].load.hold()
        async with Caller(web.served) as caller:
            await caller.ask(body())
            await until(lambda: web.served.states.get("b") == "loading")
            caller.leave()
        await until(lambda: "0 streams" in repr(web.served.worker.synthesis))
        stage.open_all()
        await until(lambda: web.served.states["b"] == "ready")
        assert not web.served.in_use("b")
        assert stage["b"].said == []


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
@pytest.mark.parametrize("made", [0, 1, 3])
async def test_a_client_that_leaves_stops_its_synthesis_at_the_next_chunk(
    web: HttpClient, meters: dict[str, Meter], made: int, stream_format: str
) -> None:
    async with Caller(web.served) as caller:
        await caller.ask(body(stream_format=stream_format))
        if made:
            meters["b"].allow(made)
        await until(lambda: meters["b"].asked == made + 1 and web.served.streams("b") == 1)
        assert meters["b"].made == made
        if made:
            await caller.reader.readuntil(b"\r\n\r\n")
        assert web.served.refcount("b") == 1
        caller.leave()
    for _ in range(3):
        await web.get("/v1/models")
    meters["b"].allow(1)
    await until(lambda: not web.served.in_use("b"))
    assert meters["b"].made == made + 1


async def test_what_is_made_reaches_a_listener_who_is_ahead_though_the_next_chunk_hangs(
    web: HttpClient, meters: dict[str, Meter]
) -> None:
    meters["b"].allow(8)
    async with web.client.stream("POST", SPEECH, json=body()) as answer:
        pieces, heard = answer.aiter_raw(), 0
        for made in (8, 16):
            while heard < (made / 10 - 0.1) * 48_000:  # the resampler keeps some
                async with asyncio.timeout(LIMIT_S):
                    heard += len(await anext(pieces))
            assert meters["b"].made == made
            meters["b"].allow(8)


@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
async def test_a_cancelled_request_frees_its_voice_whatever_the_format(
    web: HttpClient, meters: dict[str, Meter], name: str
) -> None:
    meters["b"].allow(8)
    async with web.client.stream("POST", SPEECH, json=body(response_format=name)) as answer:
        await anext(answer.aiter_raw())

    def freed() -> bool:
        meters["b"].allow(1)  # its thread may be waiting for one more chunk
        return not web.served.in_use("b")

    await until(freed)
    assert meters["b"].made < 100


async def test_a_client_that_sends_slowly_is_cut_off(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with (
        running_http_worker(manager, session_idle_ms=200) as web,
        Caller(web.served) as caller,
    ):
        await caller.ask(body("alloy"), keep_back=5)
        async with asyncio.timeout(LIMIT_S):
            answer = await caller.reader.readuntil(b"}}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"not whole after 0.2 s" in answer


async def test_a_connection_without_a_request_is_not_kept(
    tone_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "_HEADERS_LIMIT_S", 0.2)
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as web:
        for sent in (b"", b"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\n"):
            async with Caller(web.served) as caller:
                caller.writer.write(sent)
                async with asyncio.timeout(LIMIT_S):
                    with contextlib.suppress(ConnectionError):
                        assert await caller.reader.read() == b""


async def test_a_client_that_stops_reading_holds_seconds_of_audio_and_is_cut_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog, meters = metered("a", "b", chunks=10_000)
    meters["b"].free.set()
    manager = ModelManager(catalog=catalog, default_model_id="a")
    async with (
        running_http_worker(manager, session_idle_ms=1_000) as web,
        Caller(web.served) as caller,
    ):
        await caller.ask(body(sample_rate=48_000))
        await until(lambda: web.served.in_use("b"))
        await caller.reader.readuntil(b"\r\n\r\n")
        await until(lambda: not web.served.in_use("b"))
        assert meters["b"].made * 100 < 60_000  # of 1,000,000 ms: what sockets buffer, and 2 s
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(LIMIT_S):
                assert not (await caller.reader.read()).endswith(b"0\r\n\r\n")
    assert "no audio was taken" in caplog.text


async def test_an_engine_that_fails_midway_ends_the_connection_and_not_the_answer() -> None:
    stage = Stage("a", "b")
    stage["b"].chunks = 3
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        async with web.client.stream(
            "POST", SPEECH, json=body(input="One sentence. " * 50)
        ) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces)
            stage["b"].synthesize.error = ValueError("a broken engine")
            with pytest.raises(httpx.RemoteProtocolError):
                await rest(pieces)
        assert not web.served.in_use("b")


async def test_an_engine_that_fails_midway_is_an_event_of_its_own() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        asked = body(stream_format="sse", input="One sentence. " * 50)
        async with web.client.stream("POST", SPEECH, json=asked) as answer:
            text = ""
            async for piece in answer.aiter_text():
                text += piece
                stage["b"].synthesize.error = ValueError("a broken engine")
        last = json.loads(text.strip().rpartition("data: ")[2])
        assert last["type"] == "error"
        assert "a broken engine" in last["error"]["message"]
        assert "speech.audio.done" not in text


async def test_running_speech_ends_well_while_the_worker_drains(
    web: HttpClient, meters: dict[str, Meter]
) -> None:
    meters["b"].allow(1)
    async with web.client.stream("POST", SPEECH, json=body()) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        draining = asyncio.create_task(web.served.worker.synthesis.drain(LIMIT_S))
        await asyncio.sleep(0)
        assert (await web.post(SPEECH, body("a"))).status_code == 503
        meters["b"].free.set()
        assert len(await rest(pieces)) / 48_000 > 9
    await draining


async def test_speech_that_outlasts_the_drain_is_cut_off(
    metered_catalog: Catalog, meters: dict[str, Meter], caplog: pytest.LogCaptureFixture
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        meters["b"].allow(1)
        async with web.client.stream("POST", SPEECH, json=body()) as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            stopping = asyncio.create_task(web.served.worker.stop())
            await until(lambda: "1 streams are cut off" in caplog.text)
            meters["b"].allow(2)
            with pytest.raises(httpx.RemoteProtocolError):
                await rest(pieces)
        await stopping


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Let nothing be freed but by the end of the last reference."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("stream_format", ["audio", "sse"])
@pytest.mark.parametrize("end", ["well", "engine", "midway", "leave", "text"])
async def test_however_a_speech_ends_nothing_keeps_its_unloaded_model_alive(
    end: str, stream_format: str
) -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        await manager.load("b")
        await manager.release("b")
        text = "A bell \a" if end == "text" else "One sentence. " * 50
        if end == "engine":
            stage["b"].synthesize.error = ValueError
        if end == "leave":
            stage["b"].synthesize.hold()
        async with Caller(web.served) as caller:
            await caller.ask(body(stream_format=stream_format, input=text))
            if end == "leave":
                await until(lambda: web.served.streams("b") == 1)
                caller.leave()
            else:
                async with asyncio.timeout(LIMIT_S):
                    await caller.reader.readuntil(b"\r\n\r\n")
            if end == "midway":
                stage["b"].synthesize.error = ValueError
            if end in ("well", "midway"):
                while web.served.in_use("b"):
                    await caller.reader.read(65_536)
        stage.open_all()
        await until(lambda: not web.served.in_use("b"))
        await manager.unload("b")
        await until(lambda: [adapter.spec.model_id for adapter in stage.living] == ["a"])
