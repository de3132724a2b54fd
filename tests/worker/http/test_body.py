"""Bodies of every route: who sends them slowly, too large, broken, or without a key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from greenroom import Catalog, ModelManager
from greenroom.worker.admission import Shares
from greenroom.worker.http import body, http_connection
from tests.worker.http.http_client import HttpClient, connected_http_client, running_http_worker
from tests.worker.worker_client import LIMIT_S

ROUTES = (
    "/v1/audio/speech",
    "/synthesize",
    "/",
    "/api/load",
    "/api/unload",
    "/api/pin",
    "/api/unpin",
    "/api/keep-alive",
    "/api/generate",
    "/v2/repository/index",
    "/v2/repository/models/tone-220/load",
)
API = [route for route in ROUTES if route.startswith("/api")]
pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = [{"key": "admin-secret-1", "role": "admin"}]


@pytest.fixture
def manager(tone_catalog: Catalog) -> ModelManager:
    return ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)


@contextlib.asynccontextmanager
async def begun(
    web: HttpClient, route: str, *, length: int = 5_000
) -> AsyncIterator[asyncio.StreamReader]:
    """Send the head of a request and the first byte of its body."""
    address = web.served.worker.http_address
    assert address is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = f"POST {route} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{{"
    writer.write(head.encode())
    try:
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def status_of(reader: asyncio.StreamReader) -> int:
    line = await asyncio.wait_for(reader.readline(), LIMIT_S)
    return int(line.split()[1])


def code_of(answer: httpx.Response) -> Any:
    error = answer.json()["error"]
    return error["code"] if isinstance(error, dict) else error


async def answered(web: HttpClient, status: int) -> httpx.Response:
    """Ask until the answer has that status."""
    async with asyncio.timeout(LIMIT_S):
        while (answer := await web.client.get("/v1/models")).status_code != status:
            pass
        return answer


async def test_a_body_that_comes_slowly_is_cut_off_on_every_route(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "LIMIT_S", 0.2)

    async def one(web: HttpClient, route: str) -> int:
        async with begun(web, route) as reader:
            return await status_of(reader)

    async with running_http_worker(manager) as web:
        statuses = await asyncio.gather(*(one(web, route) for route in ROUTES))
    assert dict(zip(ROUTES, statuses, strict=True)) == dict.fromkeys(ROUTES, 408)


async def test_a_key_is_asked_for_before_any_of_the_body_is_read(manager: ModelManager) -> None:
    async with running_http_worker(manager, api_keys=KEYS) as web:
        for route in ROUTES:
            async with begun(web, route) as reader:
                assert await status_of(reader) == 401, route


async def test_what_is_no_json_is_refused_on_every_route(web: HttpClient) -> None:
    for route in ROUTES:
        for broken in (b"{", b"[" * 60_000, b'"text"', b"\xff"):
            answer = await web.client.post(route, content=broken)
            assert answer.status_code == 400, (route, broken[:5], answer.text)
            assert "Traceback" not in answer.text
    for route in API:
        assert code_of(await web.client.post(route, content=b"{")) == "invalid_json"


async def test_a_body_larger_than_any_text_is_too_large_on_every_route(web: HttpClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 50_000

    for route in ROUTES:
        assert (await web.client.post(route, content=b" " * 1_000_000)).status_code == 413, route
        assert (await web.client.post(route, content=pieces())).status_code == 413, route


async def test_the_content_type_does_not_matter(web: HttpClient) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        headers = {"Content-Type": kind}
        sent = b'{"model": "tone-220"}'
        answer = await web.client.post("/api/generate", content=sent, headers=headers)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        ("/api/load", {"model": "tone-220", "keep_alive": True}, "keep_alive"),
        ("/api/load", {"model": 3}, "model"),
        ("/api/load", {}, "model"),
        ("/api/load", {"model": "tone-221"}, "model"),
        ("/api/unload", {"model": "tone-220", "drain": "no"}, "drain"),
        ("/api/keep-alive", {"model": "tone-440"}, "keep_alive"),
        ("/api/pin", {"model": ""}, "model"),
        ("/v1/audio/speech", {"model": "a", "input": "b", "voice": "c" * 201}, "voice"),
    ],
    ids=repr,
)
async def test_a_field_that_cannot_be_is_named(
    web: HttpClient, route: str, fields: dict[str, Any], param: str
) -> None:
    answer = await web.post(route, fields)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param
    assert "tone-221" not in web.served.states


async def test_one_request_more_than_is_answered_at_once_is_told_when_to_come_back(
    manager: ModelManager,
) -> None:
    async with running_http_worker(manager) as web, connected_http_client(web.served) as other:
        web.served.worker.admission.calls.others.shares = Shares(1, 1, 1)
        async with begun(web, "/v1/audio/speech"):
            busy = await answered(other, 429)  # the head of the first may still be on its way
            assert (busy.status_code, code_of(busy)) == (429, "too_many_requests")
            assert busy.headers["retry-after"] == "1"
            for probe in ("/health", "/v2/health/live", "/v2/health/ready"):
                assert (await other.client.get(probe)).status_code == 200
        await answered(other, 200)
        assert (await other.figures())['busy_total{reason="requests"}'] >= 1


async def test_who_reads_no_answers_is_cut_off_and_gives_their_place_back(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "_STALLED_S", 1.0)
    monkeypatch.setattr(http_connection, "_PIPELINE", 400)
    async with running_http_worker(manager) as web:
        web.served.worker.admission.calls.others.shares = Shares(1, 1, 1)
        address = web.served.worker.http_address
        assert address is not None
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=1_024)
        asked = f"GET /openapi.json HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
        writer.write(asked * 400)
        async with connected_http_client(web.served) as other:
            await answered(other, 429)
            await answered(other, 200)
        heard = 0
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(100_000):
                heard += len(piece)
        writer.close()
        assert heard < 200 * len((await web.client.get("/openapi.json")).content)


@pytest.mark.parametrize("path", ["/", "/health", "/v2/health/live", "/v2/health/ready"])
async def test_a_probe_may_ask_for_the_head_only(web: HttpClient, path: str) -> None:
    answer = await web.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("name", ["host", "origin"])
@pytest.mark.parametrize("value", ["[", "http://[", "http://[::1", "\xff"])
async def test_a_name_that_is_none_is_a_strangers(web: HttpClient, name: str, value: str) -> None:
    answer = await web.client.get("/v1/models", headers=[(name.encode(), value.encode("latin-1"))])
    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["evil.example", ""])
async def test_a_body_that_turns_into_no_http_ends_its_connection_and_nothing_else(
    web: HttpClient, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    address = web.served.worker.http_address
    assert address is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = (
        f"POST /api/pin HTTP/1.1\r\nHost: {host or address}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    writer.write(head.encode() + b'15\r\n{"model"\r\n{"model": "tone-277"}')
    async with asyncio.timeout(LIMIT_S):
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await web.get("/health")
    assert not [r for r in caplog.records if r.levelname == "ERROR"]
