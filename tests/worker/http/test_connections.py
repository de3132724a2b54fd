"""Connections over HTTP: bounded in number, idle ones make room, one line when files run out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import Catalog, ModelManager
from greenroom.v1 import tts_pb2
from greenroom.worker import app, connections, listen
from greenroom.worker.connections import Acceptor, Connections
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.worker_client import LIMIT_S, WorkerClient, connected, running_worker


class Link:
    """A connection that is idle until a test says otherwise."""

    def __init__(self) -> None:
        self.is_idle = True
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


def test_the_connection_that_is_idle_for_longest_makes_room() -> None:
    found = Connections(limit=3, of_one=9)
    links = [Link() for _ in range(5)]
    links[0].is_idle = False
    for number, link in enumerate(links):
        found.add(link, f"10.0.0.{number}")
    assert [link.is_cut for link in links] == [False, True, True, False, False]
    assert len(found) == 3


def test_an_address_that_has_its_share_makes_room_for_itself() -> None:
    found = Connections(limit=9, of_one=2)
    quiet = Link()
    found.add(quiet, "good")
    crowd = [Link() for _ in range(6)]
    for link in crowd:
        found.add(link, "bad")
    assert not quiet.is_cut
    assert [link.is_cut for link in crowd] == [True] * 4 + [False] * 2
    for link in (quiet, *crowd, *crowd):
        found.remove(link)
    assert (len(found), found._peers) == (0, {})


def test_one_more_is_cut_off_when_all_others_are_answered() -> None:
    found = Connections(limit=1, of_one=1)
    busy, late = Link(), Link()
    found.add(busy, "a")
    busy.is_idle = False
    found.add(late, "a")
    assert (busy.is_cut, late.is_cut) == (False, True)


@pytest.fixture
async def web(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with running_http_worker(manager) as made:
        yield made


async def opened(web: HttpClient, said: bytes = b"") -> Any:
    address = web.served.worker.http_address
    assert address is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(said)
    return reader, writer


async def closed(pairs: list[Any]) -> None:
    for _, writer in pairs:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("said", [b"", b"GET /api/ps HT", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
async def test_connections_that_send_no_whole_request_keep_nobody_out(
    web: HttpClient, said: bytes
) -> None:
    server = web.served.worker.http_server
    assert server is not None
    server.connections._limit = server.connections._of_one = 8
    held = [await opened(web, said) for _ in range(40)]
    await until(lambda: len(server.connections) == 8)
    for path in ("/health", "/api/ps", "/v2/health/ready"):
        assert (await web.client.get(path)).status_code == 200
    await closed(held)
    await until(lambda: len(server.connections) == 1)


async def test_an_answer_that_is_under_way_is_not_cut_off_for_a_new_connection(
    web: HttpClient,
) -> None:
    server = web.served.worker.http_server
    assert server is not None
    async with web.events() as events:
        await anext(events)
        server.connections._limit = server.connections._of_one = 4
        held = [await opened(web) for _ in range(20)]
        await until(lambda: len(server.connections) == 4)
        web.manager.pin("tone-220")
        assert (await events.until("journal", kind="pinned"))["model"] == "tone-220"
        await closed(held)


async def test_pipelined_requests_are_answered_in_order(web: HttpClient) -> None:
    asked = b"".join(
        b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n" % pair
        for pair in ((b"v2/health/live", b"keep-alive"), (b"nowhere", b"close"))
    )
    reader, writer = await opened(web, asked)
    async with asyncio.timeout(LIMIT_S):
        heard = (await reader.read()).decode()
    assert heard.index("HTTP/1.1 200") < heard.index("HTTP/1.1 404")
    await closed([(reader, writer)])


async def test_a_request_for_a_websocket_is_answered_as_any_other_without_a_line_in_the_log(
    web: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    answer = await web.client.get("/v2/health/live", headers=headers)
    assert answer.status_code == 200
    reader, writer = await opened(web, b"nonsense\r\n\r\n")
    async with asyncio.timeout(LIMIT_S):
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
    await closed([(reader, writer)])
    assert not [r for r in caplog.records if r.name.startswith("uvicorn")]


# Out of file descriptors


async def test_a_worker_without_descriptors_says_so_once_and_goes_on_when_there_are_some(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PAUSE_S", 0.001)
    attempts, short = 0, True

    class Listener(socket.socket):
        def accept(self) -> Any:
            nonlocal attempts
            attempts += 1
            if short:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    begun = asyncio.Event()

    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            begun.set()
            transport.close()

    with Listener() as listener:
        listener.bind(("127.0.0.1", 0))
        acceptor = Acceptor(listener, Greeting)
        _, writer = await asyncio.open_connection(*listener.getsockname())
        await until(lambda: attempts > 20)
        lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert len(lines) == 1
        assert "too many open files" in lines[0]
        short = False
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        acceptor.close()
        await acceptor.wait_closed()
        await closed([(None, writer)])


def test_connections_are_bounded_below_the_limit_of_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for files, expected in ((1_024, 256), (1_000_000, 4_096), (2, 1), (-1, 4_096)):
        limits = (files, files)
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=limits: found)
        assert listen.connection_limit() == expected


def test_a_worker_takes_as_many_open_files_as_it_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: taken.append(limits))
    listen.raise_limit()
    assert taken == [(4_096, 4_096)]


async def test_connections_over_grpc_are_bounded_and_one_that_goes_makes_room(
    tone_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "connection_limit", lambda: 2)
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")

    async def asks(served: WorkerClient) -> None:
        # gRPC takes a moment to notice a connection that has gone; until then it refuses another.
        request = tts_pb2.ListModelsRequest()
        await served.stub.ListModels(request, timeout=LIMIT_S, wait_for_ready=True)

    async with running_worker(manager) as served:
        await asks(served)
        reader, writer = await asyncio.open_connection(*str(served.worker.address).split(":"))
        assert await reader.read(9)  # gRPC's first words
        third, more = await asyncio.open_connection(*str(served.worker.address).split(":"))
        async with asyncio.timeout(LIMIT_S):
            with contextlib.suppress(ConnectionError):
                assert await third.read() == b""
        await closed([(reader, writer), (third, more)])
        async with connected(served.worker) as other:
            await asks(other)


async def test_a_slow_head_is_cut_off(web: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from greenroom.worker.http import http_connection

    monkeypatch.setattr(http_connection, "_HEADERS_LIMIT_S", 0.05)
    reader, writer = await opened(web, b"GET / HTTP/1.1\r\n")
    async with asyncio.timeout(LIMIT_S):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    await closed([(reader, writer)])


@pytest.mark.parametrize("path", ["/health", "/v2/health/live", "/v2/health/ready"])
async def test_probes_are_answered_by_head_too_over_http_1_0(web: HttpClient, path: str) -> None:
    reader, writer = await opened(web, f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
    async with asyncio.timeout(LIMIT_S):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b""
    await closed([(reader, writer)])
