"""Bytes on a connection over HTTP, by an application that answers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from greenroom.config.address import Address
from greenroom.worker.http import http_connection
from greenroom.worker.http.server import HttpServer
from tests.waiting import until
from tests.worker.worker_client import LIMIT_S

_GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
_LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_POST = b"POST /p HTTP/1.1\r\nHost: a\r\n"
_REFUSED = b"HTTP/1.1 400 Bad Request"


class Echo:
    """Answers with what was asked; `/held` once it is let go, `/pieces` without a length."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.left: list[str] = []
        self.go = asyncio.Event()
        self.address: Address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        path = request.url.path
        self.asked.append(path)
        try:
            body = await request.body()
        except ClientDisconnect:
            self.left.append(path)
            return
        answer: Response = JSONResponse(
            {"path": path, "body": body.decode(), "headers": sorted(request.headers.keys())}
        )
        if path == "/held":
            gone = asyncio.create_task(_gone(receive))
            let_go = asyncio.create_task(self.go.wait())
            await asyncio.wait([gone, let_go], return_when="FIRST_COMPLETED")
            let_go.cancel()
            if gone.done():
                self.left.append(path)
                return
            gone.cancel()
        elif path == "/pieces":
            answer = StreamingResponse(_pieces())
        await answer(scope, receive, send)

    async def says(self, *said: bytes) -> bytes:
        """Return all that is answered to some bytes, up to the end of the connection."""
        reader, writer = await self.connect(*said)
        async with asyncio.timeout(LIMIT_S):
            heard = await reader.read()
        writer.close()
        return heard

    async def connect(self, *said: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and write each of some bytes by itself."""
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        for each in said:
            writer.write(each)
            await writer.drain()
            await asyncio.sleep(0)
        return reader, writer


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pieces() -> AsyncIterator[bytes]:
    for piece in (b"one", b"two", b"three"):
        yield piece


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    server = HttpServer(made, Address("127.0.0.1", 0), grace_s=1)
    await server.listen()
    made.address = server.address
    yield made
    made.go.set()
    await server.stop()


def bodies(heard: bytes) -> list[dict[str, Any]]:
    """Return the JSON of all answers."""
    parts = heard.decode().split("\r\n\r\n")[1:]
    return [json.JSONDecoder().raw_decode(part)[0] for part in parts]


def answered(heard: bytes) -> list[int]:
    """Return the statuses of all answers."""
    return [int(part[:3]) for part in heard.split(b"HTTP/1.1 ")[1:]]


SMUGGLED = [
    _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    _POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    _POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
    _POST + b"Content-Length: +3\r\n\r\n",
    _POST + b"Content-Length : 3\r\n\r\n",
    _POST + b"A: b\r\n folded\r\n\r\n",
    _POST + b"A: \x01\r\n\r\n",
    _POST + b"Host: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    b"GET /\r\n\r\n",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"CONNECT /p HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
]


@pytest.mark.parametrize("head", SMUGGLED)
async def test_a_head_that_two_servers_could_read_in_two_ways_is_refused(
    echo: Echo, head: bytes
) -> None:
    heard = await echo.says(head + _LAST)
    assert heard.startswith(_REFUSED)
    assert answered(heard) == [400]
    assert echo.asked == []


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: %d\r\n\r\n%s" % (len(_GET % b"inner"), _GET % b"inner"),
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (len(_GET % b"inner"), _GET % b"inner"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_body_after_a_wish_for_another_protocol_is_a_body(
    echo: Echo, framing: bytes, at_once: bool
) -> None:
    head = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
    said = _POST + head + framing + _LAST
    pieces = [said] if at_once else [said[i : i + 9] for i in range(0, len(said), 9)]
    first, last = bodies(await echo.says(*pieces))
    assert first["body"] == (_GET % b"inner").decode()
    assert last["path"] == "/last"
    assert echo.asked == ["/p", "/last"]


async def test_a_wish_for_another_protocol_without_a_body_is_answered_in_this_one(
    echo: Echo,
) -> None:
    asked = b"GET /w HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert answered(await echo.says(asked + asked + _LAST)) == [200, 200, 200]


async def test_what_follows_a_body_adds_no_header(echo: Echo) -> None:
    chunks = b"2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    heard = await echo.says(_POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + _LAST)
    first, last = bodies(heard)
    assert first == {"path": "/p", "body": "hi", "headers": ["host", "transfer-encoding"]}
    assert last["headers"] == ["connection", "host"]


async def test_a_head_without_an_end_is_refused_at_its_limit(echo: Echo) -> None:
    reader, writer = await echo.connect(b"GET / HTTP/1.1\r\nHost: a\r\n")
    async with asyncio.timeout(LIMIT_S):
        for _ in range(1_000):
            writer.write(b"A: %s\r\n" % (b"x" * 1_000))
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)
        else:
            assert (await reader.read()).startswith(_REFUSED)
    writer.close()
    assert echo.asked == []


async def test_heads_of_a_few_kilobytes_are_taken_however_many_follow(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "_HEADERS_LIMIT", 6_000)
    half = b"A: %s\r\n" % (b"x" * 2_000)
    reader, writer = await echo.connect()
    for _ in range(5):
        for part in (b"GET /x HTTP/1.1\r\nHost: a\r\n", half, half, b"\r\n"):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.001)
        async with asyncio.timeout(LIMIT_S):
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    writer.close()


# Requests that wait for no answer


async def test_what_was_asked_before_nonsense_is_answered_before_it_is_refused(echo: Echo) -> None:
    for nonsense in (b"nonsense\r\n\r\n", _POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"):
        heard = await echo.says(_GET % b"one" + _GET % b"two" + nonsense)
        assert answered(heard) == [200, 200, 400]
    assert echo.asked == ["/one", "/two"] * 2


async def test_what_follows_nonsense_takes_no_answer_from_what_was_asked_before(
    echo: Echo,
) -> None:
    broken = _POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"
    reader, writer = await echo.connect(_GET % b"held" + _GET % b"x" + broken)
    await until(lambda: echo.asked == ["/held"])
    writer.write(_GET % b"more")
    await echo.says(_LAST)
    echo.go.set()
    async with asyncio.timeout(LIMIT_S):
        assert answered(await reader.read()) == [200, 200, 400]
    writer.close()
    assert echo.asked == ["/held", "/last", "/x"]


async def test_nonsense_within_a_body_ends_its_request(echo: Echo) -> None:
    heard = await echo.says(_POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n")
    assert answered(heard) == [400]
    await until(lambda: echo.left == ["/p"])


async def test_only_so_many_requests_may_wait_for_answers_to_others(echo: Echo) -> None:
    reader, writer = await echo.connect(_GET % b"held" + _GET % b"x" * 1_000)
    await until(lambda: echo.asked == ["/held"])
    echo.go.set()
    async with asyncio.timeout(LIMIT_S):
        heard = await reader.read()
    writer.close()
    assert answered(heard) == [200] * (1 + http_connection._PIPELINE) + [400]


async def test_a_request_knows_that_its_client_left_though_others_wait_behind_it(
    echo: Echo,
) -> None:
    _, writer = await echo.connect(_GET % b"held", _POST + b"Content-Length: 9\r\n\r\n")
    await until(lambda: echo.asked == ["/held"])
    writer.transport.abort()
    await until(lambda: echo.left == ["/held"])
    assert echo.asked == ["/held"]


# Answers


async def test_a_body_is_asked_for_only_where_its_client_waits_for_that(echo: Echo) -> None:
    for version, told in (("1.1", True), ("1.0", False)):
        head = f"POST /p HTTP/{version}\r\nHost: a\r\nConnection: close\r\n"
        reader, writer = await echo.connect(
            f"{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode()
        )
        async with asyncio.timeout(LIMIT_S):
            if told:
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            heard = await reader.read()
        writer.close()
        assert answered(heard) == [200]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("path", [b"pieces", b"whole"])
async def test_an_answer_over_http_1_0_has_no_chunks_and_ends_with_the_connection(
    echo: Echo, method: bytes, path: bytes
) -> None:
    heard = await echo.says(b"%s /%s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % (method, path))
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"chunked" not in head
    expected = b"onetwothree" if path == b"pieces" else b'{"path":"/whole"'
    assert body.startswith(expected if method == b"GET" else b"")
    assert bool(body) == (method == b"GET")
