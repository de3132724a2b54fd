"""One caller keeps nobody out, over gRPC or HTTP: calls, watches, followers, silence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from greenroom import Catalog, ModelManager
from greenroom.v1 import tts_pb2
from greenroom.worker.admission import Shares
from greenroom.worker.grpc import health
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, connected_http_client
from tests.worker.worker_client import LIMIT_S, WorkerClient, connected, refused, running_worker

SPEAKER, OTHER, ADMIN = "speak-secret-1", "speak-secret-2", "admin-secret-1"
KEYS: list[dict[str, Any]] = [
    {"key": SPEAKER, "name": "kitchen"},
    {"key": OTHER, "name": "hall"},
    {"key": ADMIN, "name": "boss", "role": "admin"},
]
BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED
CHECK = health_pb2.HealthCheckRequest()
SERVING = health_pb2.HealthCheckResponse.SERVING


def keyed(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def watch(served: WorkerClient, key: str = "", service: str = "") -> Any:
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    return stub.Watch(request, metadata=keyed(key) if key else [], timeout=3 * LIMIT_S)


async def probe(served: WorkerClient) -> int:
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    return int((await stub.Check(CHECK, timeout=LIMIT_S)).status)


async def lists(served: WorkerClient, key: str) -> None:
    request = tts_pb2.ListModelsRequest()
    await served.stub.ListModels(request, metadata=keyed(key), timeout=LIMIT_S)


def silent_calls(
    served: WorkerClient, count: int, method: str = "/grpc.health.v1.Health/Check"
) -> Any:
    """Open calls whose message never comes."""
    call: Any = served.channel.stream_unary(method)
    return [call(timeout=3 * LIMIT_S) for _ in range(count)]


@pytest.fixture
def manager(tone_catalog: Catalog) -> ModelManager:
    return ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)


@pytest.fixture
async def locked(manager: ModelManager) -> AsyncIterator[WorkerClient]:
    async with running_worker(manager, api_keys=KEYS, http_listen="127.0.0.1:0") as made:
        yield made


@pytest.fixture
async def open_worker(manager: ModelManager) -> AsyncIterator[WorkerClient]:
    async with running_worker(manager, http_listen="127.0.0.1:0") as made:
        yield made


async def test_hundreds_of_watches_of_one_key_keep_nobody_else_out(
    locked: WorkerClient,
) -> None:
    watches = [watch(locked, SPEAKER) for _ in range(600)]  # more than there is room for
    first = [asyncio.ensure_future(each.read()) for each in watches]
    shares = locked.worker.admission.watches.others.shares
    await until(lambda: sum(task.done() for task in first) == len(first))
    answers = await asyncio.gather(*first, return_exceptions=True)
    served = [a for a in answers if isinstance(a, health_pb2.HealthCheckResponse)]
    assert len(served) == shares.peer
    refusals = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    # A client whose message is on its way when it is refused may be told so by its own gRPC.
    assert {a.code() for a in refusals} - {grpc.StatusCode.CANCELLED} == {BUSY}
    assert await probe(locked) == SERVING
    await lists(locked, SPEAKER)
    async with connected(locked.worker) as other:
        assert await probe(other) == SERVING
        await lists(other, OTHER)
        await lists(other, ADMIN)
        for key in (OTHER, ADMIN):
            assert (await watch(other, key).read()).status == SERVING
    for each in watches:
        each.cancel()
    await until(lambda: len(locked.worker.admission.watches) == 0)


async def test_watches_without_keys_are_counted_by_address(open_worker: WorkerClient) -> None:
    open_worker.worker.admission.watches.others.shares = Shares(3, 3, 2)
    held = [watch(open_worker) for _ in range(2)]
    for each in held:
        await each.read()
    with refused(BUSY, "2 watches of this address") as advice:
        await watch(open_worker).read()
    assert advice == [1.0]
    assert await probe(open_worker) == SERVING
    held[0].cancel()
    await until(lambda: len(open_worker.worker.admission.watches) == 1)
    assert (await watch(open_worker).read()).status == SERVING


async def test_reflection_and_watches_share_their_slots(open_worker: WorkerClient) -> None:
    open_worker.worker.admission.watches.others.shares = Shares(1, 1, 1)
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(open_worker.channel)
    call = stub.ServerReflectionInfo(timeout=LIMIT_S)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    assert (await call.read()).list_services_response.service
    with refused(BUSY):
        await watch(open_worker).read()
    await call.done_writing()
    await until(lambda: len(open_worker.worker.admission.watches) == 0)


async def test_calls_of_one_key_leave_slots_for_others_and_come_back(locked: WorkerClient) -> None:
    calls = locked.worker.admission.calls
    calls.others.shares = Shares(4, 2, 2)
    stub = locked.stub.Synthesize
    held = [stub(metadata=keyed(SPEAKER), timeout=3 * LIMIT_S) for _ in range(2)]
    await until(lambda: len(calls) == 2)
    with refused(BUSY, "calls of this address"):
        await lists(locked, SPEAKER)
    async with connected_http_client(locked, SPEAKER) as web:
        answer = await web.client.get("/api/ps")  # over HTTP too
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert (await web.client.get("/health")).status_code == 200
    async with connected_http_client(locked, OTHER) as web:
        assert (await web.client.get("/api/ps")).status_code == 200
    await lists(locked, OTHER)
    await lists(locked, ADMIN)
    assert await probe(locked) == SERVING
    for each in held:
        each.cancel()
    await until(lambda: len(calls) == 0)
    await lists(locked, SPEAKER)
    async with connected_http_client(locked, ADMIN) as web:
        assert (await web.figures())['busy_total{reason="requests"}'] == 2


async def test_a_place_comes_back_however_a_call_ends(locked: WorkerClient) -> None:
    calls = locked.worker.admission.calls
    speaker = keyed(SPEAKER)
    with refused(grpc.StatusCode.NOT_FOUND):
        request = tts_pb2.ListModelsRequest(model_id="nobody")
        await locked.stub.ListModels(request, metadata=speaker)
    with refused(grpc.StatusCode.PERMISSION_DENIED):
        await locked.stub.LoadModel(tts_pb2.LoadModelRequest(), metadata=speaker)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        await locked.stub.Synthesize(iter(()), metadata=speaker).read()
    late = locked.stub.Synthesize(metadata=speaker, timeout=0.05)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await late.read()
    await until(lambda: len(calls) == 0)
    async with connected(locked.worker) as other:
        other.stub.Synthesize(metadata=speaker)
        await until(lambda: len(calls) == 1)
    await until(lambda: len(calls) == 0)  # the connection went


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_calls_that_never_send_their_message_keep_nobody_out(
    locked: WorkerClient, method: str
) -> None:
    locked.worker.interceptor.silent._limit = 8
    async with connected(locked.worker) as crowd:
        held = silent_calls(crowd, 400, f"/grpc.health.v1.Health/{method}")
        for _ in range(20):
            assert await probe(locked) == SERVING
            await lists(locked, SPEAKER)
            await lists(locked, ADMIN)
        for each in held:
            each.cancel()


async def test_a_call_without_its_message_is_ended(open_worker: WorkerClient) -> None:
    guard = open_worker.worker.interceptor
    guard.silent._patience = 0.05
    (call,) = silent_calls(open_worker, 1)
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "no message came"):
        await call
    assert len(guard.silent) == 0


@pytest.mark.parametrize(
    ("method", "streams"),
    [
        ("/grpc.health.v1.Health/Check", False),
        ("/grpc.health.v1.Health/Watch", True),
        ("/greenroom.v1.TTSService/ListModels", False),
        ("/greenroom.v1.TTSService/Synthesize", True),
        ("/inference.GRPCInferenceService/RepositoryIndex", False),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
    ],
)
async def test_a_message_that_cannot_be_read_is_an_invalid_argument(
    open_worker: WorkerClient, method: str, streams: bool
) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "cannot be read"):
        if streams:
            streaming: Any = open_worker.channel.unary_stream(method)
            await streaming(b"\xff\xff\xff").read()
        else:
            unary: Any = open_worker.channel.unary_unary(method)
            await unary(b"\xff\xff\xff")


async def test_a_watcher_that_does_not_read_holds_up_no_news_of_others(
    open_worker: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def stuck(context: Any, message: Any) -> None:
        if not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        await context.write(message)

    monkeypatch.setattr(health, "write", stuck)
    deaf = watch(open_worker, service="tone-220")
    reading = asyncio.ensure_future(deaf.read())
    await asked.wait()
    hearing = watch(open_worker, service="tone-220")
    assert (await hearing.read()).status != SERVING
    await open_worker.stub.LoadModel(tts_pb2.LoadModelRequest(model_id="tone-220"))
    assert (await hearing.read()).status == SERVING
    deaf.cancel()
    hearing.cancel()
    await asyncio.wait([reading])


async def test_models_are_named_to_callers_without_a_key_only_where_discovery_is_public(
    manager: ModelManager,
) -> None:
    async with running_worker(manager, api_keys=KEYS, public_discovery=False) as served:
        stub: Any = health_pb2_grpc.HealthStub(served.channel)
        known = await stub.List(health_pb2.HealthListRequest(), metadata=keyed(SPEAKER))
        assert "tone-440" in known.statuses
        found = await stub.List(health_pb2.HealthListRequest())
        assert set(found.statuses) == {"", "greenroom.v1.TTSService", "live"}
        hidden = health_pb2.HealthCheckRequest(service="tone-440")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(hidden)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await stub.Check(hidden, metadata=keyed(SPEAKER))).status == SERVING
        assert await probe(served) == SERVING
        metadata: Any = served.channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")
        with refused(grpc.StatusCode.UNAUTHENTICATED):
            await metadata(b"")
        await metadata(b"", metadata=keyed(SPEAKER))


async def test_models_are_named_to_anybody_where_discovery_is_public(locked: WorkerClient) -> None:
    stub: Any = health_pb2_grpc.HealthStub(locked.channel)
    assert "tone-440" in (await stub.List(health_pb2.HealthListRequest())).statuses


# Followers over HTTP


@contextlib.asynccontextmanager
async def followers(web: HttpClient, count: int) -> AsyncIterator[list[int]]:
    """Ask to follow that often at once; yield the answers' statuses."""
    requests = [web.client.build_request("GET", "/api/events") for _ in range(count)]
    answers = await asyncio.gather(*(web.client.send(r, stream=True) for r in requests))
    try:
        yield [answer.status_code for answer in answers]
    finally:
        for answer in answers:
            await answer.aclose()


async def test_followers_asked_for_at_once_are_no_more_than_there_are_slots(
    locked: WorkerClient,
) -> None:
    slots = locked.worker.admission.followers
    async with connected_http_client(locked, SPEAKER) as web:
        share = slots.others.shares.peer
        async with followers(web, share + 24) as statuses:
            assert sorted(statuses) == [200] * share + [429] * 24
            for key in (OTHER, ADMIN):
                async with connected_http_client(locked, key) as other, other.events() as events:
                    await anext(events)
        await until(lambda: len(slots) == 0)


async def test_a_follower_that_leaves_before_its_answer_gives_its_place_back(
    locked: WorkerClient,
) -> None:
    slots = locked.worker.admission.followers
    address = locked.worker.http_address
    assert address is not None
    for _ in range(40):
        _, writer = await asyncio.open_connection(address.host, address.port)
        head = f"GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SPEAKER}\r\n\r\n"
        writer.write(head.encode())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    async with connected_http_client(locked, SPEAKER) as web, web.events() as events:
        await anext(events)
        await until(lambda: len(slots) == 1)
    await until(lambda: len(slots) == 0)
    await until(lambda: len(locked.worker.admission.calls) == 0)


async def test_callers_without_a_key_are_counted_by_address_and_leave_keys_their_slots(
    locked: WorkerClient,
) -> None:
    locked.worker.admission.calls.others.shares = Shares(4, 2, 1)
    address = locked.worker.http_address
    assert address is not None
    _, writer = await asyncio.open_connection(address.host, address.port)
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SPEAKER}\r\n"
    writer.write(f"{head}Content-Length: 10\r\n\r\n{{".encode())
    await until(lambda: len(locked.worker.admission.calls) == 1)
    async with connected_http_client(locked) as nobody:
        assert (await nobody.client.get("/v1/models")).status_code == 200
    async with connected_http_client(locked, SPEAKER) as web:
        assert (await web.client.get("/api/ps")).status_code == 429
    async with connected_http_client(locked, OTHER) as web:
        assert (await web.client.get("/api/ps")).status_code == 200
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
