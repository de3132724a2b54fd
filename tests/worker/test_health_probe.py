"""Which of a worker's two ports an address is; whatever else answers there is no worker's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from greenroom import Catalog, ModelManager
from greenroom.config.address import Address
from greenroom.errors import WorkerError
from greenroom.worker import health_probe
from greenroom.worker.client import Client
from greenroom.worker.health_probe import health_at
from tests.worker.http.http_client import HttpClient, running_http_worker

KEYS = [{"key": "for-the-operator", "role": "admin"}]


@pytest.fixture
async def web(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as served:
        yield served


async def test_each_port_tells_where_the_other_is(web: HttpClient) -> None:
    worker = web.served.worker
    assert worker.http_address is not None
    health = await health_at(worker.http_address)
    assert health is not None
    assert health["grpc"] == str(worker.address)
    assert await health_at(worker.address) is None
    async with Client(str(worker.address)) as client:
        assert (await client.capabilities()).http_address == str(worker.http_address)


async def test_a_client_of_the_wrong_port_is_told_the_right_one(web: HttpClient) -> None:
    worker = web.served.worker
    async with Client(str(worker.http_address)) as client:
        with pytest.raises(WorkerError, match=f"gRPC is at {worker.address}.$"):
            await client.list_models()
        with pytest.raises(WorkerError, match="is the worker's HTTP port"):
            await anext(client.speak("Hello."))


async def test_who_may_not_look_is_told_that_it_is_the_http_port_and_no_more(
    tone_catalog: Catalog,
) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager, api_keys=KEYS, public_discovery=False) as web:
        at = str(web.served.worker.http_address)
        for key, words in ((None, "give its gRPC address"), ("for-the-operator", "gRPC is at")):
            async with Client(at, key) as client:
                with pytest.raises(WorkerError, match=words):
                    await client.list_models()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff\xfe",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n[1]",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 60_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000,
    ],
)
async def test_what_answers_otherwise_is_no_workers_http(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    place = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(serve, place):
        assert await health_at(Address.parse(f"unix:{place}")) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_address_itself_is_the_host_that_is_asked_for(host: str) -> None:
    asked = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"ready": true}')
        writer.close()

    try:
        server = await asyncio.start_server(serve, host, 0)
    except OSError:
        pytest.skip(f"there is no {host} here")
    async with server:
        address = Address(host, server.sockets[0].getsockname()[1])
        assert await health_at(address) == {"ready": True}
    assert f"\r\nHost: {address}\r\n".encode() in asked


async def test_what_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_probe, "_LIMIT_S", 0.05)
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    place = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(serve, place):
        assert await health_at(Address.parse(f"unix:{place}")) is None
        done.set()


async def test_what_a_worker_says_of_itself_is_not_believed(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(3)
        body = b'{"ready": true, "grpc": ["\\u001b[2J"]}'
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        writer.close()

    place = f"unix:{tmp_path}/socket"
    server = await asyncio.start_unix_server(serve, place.removeprefix("unix:"))
    async with server, Client(place) as client:
        with pytest.raises(WorkerError, match="HTTP port; give its gRPC address"):
            await client.list_models()
