"""Keys, roles and limits over gRPC; they are those of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from greenroom import Catalog, ConfigError, InvalidInputError, ModelManager
from greenroom.config.schema import Config
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2, tts_pb2_grpc
from greenroom.worker.app import Worker
from greenroom.worker.client import Client
from greenroom.worker.grpc.triton_messages import SERVICE, message
from tests.waiting import until
from tests.worker.http.http_client import connected_http_client
from tests.worker.worker_client import (
    LIMIT_S,
    Meter,
    WorkerClient,
    connected,
    refused,
    running_worker,
)

SPEAKER, OTHER, ADMIN = "speak-secret-1", "speak-secret-2", "admin-secret-1"
KEYS: list[dict[str, Any]] = [
    {"key": SPEAKER, "name": "kitchen", "max_streams": 1, "max_sessions": 2},
    {"key": OTHER, "name": "hall", "requests_per_minute": 3, "max_text_chars": 20},
    {"key": ADMIN, "name": "boss", "role": "admin"},
]
COMMAND = "import sys; from greenroom.cli import main; sys.exit(main())"
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


class Keyed:
    """The stub of a caller who sends a key, or anything else as `authorization`."""

    def __init__(self, served: WorkerClient, authorization: str) -> None:
        self._stub: Any = tts_pb2_grpc.TTSServiceStub(served.channel)
        self._metadata = [("authorization", authorization)] if authorization else []

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._stub, name)
        return lambda request: call(request, metadata=self._metadata, timeout=LIMIT_S)

    async def speak(self, *pieces: str, **first: Any) -> int:
        """Return how many frames a text came to."""
        chunks = [tts_pb2.TextChunk(text=text) for text in pieces or ["Hello."]]
        chunks[0].MergeFrom(tts_pb2.TextChunk(**first))
        chunks[-1].is_final = True
        call = self._stub.Synthesize(iter(chunks), metadata=self._metadata, timeout=LIMIT_S)
        return len([frame async for frame in call])

    async def knock(self) -> None:
        """Open a stream and send no text, for a refusal that does not wait for any.

        A write that meets such a refusal would hide its status behind INTERNAL (grpc/grpc#36066).
        """
        await self._stub.Synthesize(metadata=self._metadata, timeout=LIMIT_S).read()


def bearer(served: WorkerClient, key: str) -> Keyed:
    return Keyed(served, f"Bearer {key}")


@pytest.fixture
async def locked(tone_catalog: Catalog) -> AsyncIterator[WorkerClient]:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with running_worker(manager, api_keys=KEYS, http_listen="127.0.0.1:0") as made:
        yield made


@pytest.mark.parametrize("said", ["", "Bearer", f"Bearer {SPEAKER}x", f"Basic {SPEAKER}", SPEAKER])
async def test_a_call_without_a_known_key_is_unauthenticated(
    locked: WorkerClient, said: str
) -> None:
    with refused(UNAUTHENTICATED, "API keys"):
        await Keyed(locked, said).knock()
    with refused(UNAUTHENTICATED, "API keys"):
        await Keyed(locked, said).ListModels(tts_pb2.ListModelsRequest())


async def test_a_refused_call_is_told_before_it_sends_anything(locked: WorkerClient) -> None:
    async def silent() -> AsyncIterator[Any]:
        await until(lambda: False)
        yield

    with refused(UNAUTHENTICATED, "API keys"):
        async for _ in locked.stub.Synthesize(silent(), timeout=LIMIT_S):
            pass


async def test_a_role_does_what_it_may(locked: WorkerClient) -> None:
    load = tts_pb2.LoadModelRequest(model_id="tone-220")
    unload = tts_pb2.UnloadModelRequest(model_id="tone-220")
    speaker, admin = bearer(locked, SPEAKER), bearer(locked, ADMIN)
    assert await speaker.speak() > 0
    for call, request in ((speaker.LoadModel, load), (speaker.UnloadModel, unload)):
        with refused(DENIED, "kitchen", "role admin"):
            await call(request)
    await admin.LoadModel(load)
    assert "tone-220" in locked.states
    await admin.UnloadModel(unload)
    await speaker.Prefetch(tts_pb2.PrefetchRequest(model_id="tone-247"))
    await until(lambda: "tone-247" in locked.states)
    assert await admin.speak() > 0


async def test_a_reload_changes_what_is_in_memory_so_it_needs_an_admin(
    locked: WorkerClient,
) -> None:
    for key, model in ((SPEAKER, "tone-220"), (ADMIN, "tone-247")):
        asked = tts_pb2.StartSessionRequest(session_id="s", model_id=model)
        await bearer(locked, key).StartSession(asked)
    reload = tts_pb2.ControlRequest(session_id="s", command=tts_pb2.RELOAD)
    with refused(DENIED, "role admin"):
        await bearer(locked, SPEAKER).Control(reload)
    assert (await bearer(locked, ADMIN).Control(reload)).streams == 0
    stop = tts_pb2.ControlRequest(session_id="s", command=tts_pb2.STOP)
    assert (await bearer(locked, SPEAKER).Control(stop)).streams == 0


async def test_sessions_belong_to_the_key_that_opened_them(locked: WorkerClient) -> None:
    request = tts_pb2.StartSessionRequest(session_id="s", model_id="tone-220")
    speaker, other = bearer(locked, SPEAKER), bearer(locked, OTHER)
    await speaker.StartSession(request)
    (owner,) = (o for r in locked.manager.list_resident() for o in r.owners if "session" in o)
    assert owner == "session s of kitchen"
    with refused(grpc.StatusCode.NOT_FOUND):
        await other.EndSession(tts_pb2.EndSessionRequest(session_id="s"))
    with refused(grpc.StatusCode.NOT_FOUND):
        await other.Control(tts_pb2.ControlRequest(session_id="s", command=tts_pb2.STOP))
    with refused(grpc.StatusCode.NOT_FOUND):
        await other.speak(session_id="s")
    assert await speaker.speak(session_id="s") > 0
    await speaker.EndSession(tts_pb2.EndSessionRequest(session_id="s"))
    assert not locked.refcount("tone-220")


async def test_requests_of_a_key_are_counted_over_both_protocols(locked: WorkerClient) -> None:
    async with connected_http_client(locked, OTHER) as web:
        assert (await web.client.get("/api/ps")).status_code == 200
    async with connected_http_client(locked, ADMIN) as web:
        assert (await web.figures())['busy_total{reason="key_requests"}'] == 0
    other = bearer(locked, OTHER)
    assert await other.speak() > 0
    assert await other.speak() > 0
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "3 requests a minute") as advice:
        await other.knock()
    assert 0 < advice[0] <= 20
    async with connected_http_client(locked, ADMIN) as web:
        assert (await web.figures())['busy_total{reason="key_requests"}'] == 1


async def test_texts_of_a_key_may_be_shorter_than_everybodys(locked: WorkerClient) -> None:
    long = "Hello there, all of you."
    asked = {"model": "tts-1", "voice": "alloy", "response_format": "pcm", "input": long}
    async with connected_http_client(locked, OTHER) as web:
        answer = await web.post("/v1/audio/speech", asked)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
        assert "20 are allowed" in answer.text
    for chunks in ([long], [long[:12], long[12:]]):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "20"):
            await bearer(locked, OTHER).speak(*chunks)
    assert await bearer(locked, ADMIN).speak(long) > 0


async def test_streams_of_a_key_are_counted(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    metadata = [("authorization", f"Bearer {SPEAKER}")]
    async with running_worker(manager, api_keys=KEYS) as served:
        chunks = [tts_pb2.TextChunk(text="Hello.", is_final=True)]
        call = served.stub.Synthesize(iter(chunks), metadata=metadata, timeout=LIMIT_S)
        meters["a"].allow(2)
        assert await call.read()
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "this key has 1 streams"):
            await bearer(served, SPEAKER).knock()
        call.cancel()
        meters["a"].free.set()
        await until(lambda: not served.in_use("a"))
        assert await bearer(served, SPEAKER).speak() > 0


async def test_a_probe_and_a_look_at_what_can_be_done_need_no_key(locked: WorkerClient) -> None:
    health = health_pb2_grpc.HealthStub(locked.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=LIMIT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert (await Keyed(locked, "").GetCapabilities(tts_pb2.GetCapabilitiesRequest())).version


async def test_calls_without_an_end_are_for_keys_only(locked: WorkerClient) -> None:
    reflection: Any = locked.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    watch = health_pb2_grpc.HealthStub(locked.channel).Watch
    request = health_pb2.HealthCheckRequest()
    for call in (reflection(), watch(request)):
        with refused(UNAUTHENTICATED, "API keys"):
            await call.read()
    known = watch(request, metadata=[("authorization", f"Bearer {SPEAKER}")])
    assert (await known.read()).status == health_pb2.HealthCheckResponse.SERVING
    known.cancel()


async def test_more_than_one_authorization_is_none(locked: WorkerClient) -> None:
    both = [("authorization", f"Bearer {key}") for key in (SPEAKER, ADMIN)]
    with refused(UNAUTHENTICATED):
        await locked.stub.ListModels(tts_pb2.ListModelsRequest(), metadata=both)
    async with connected_http_client(locked) as web:
        headers = [("Authorization", f"Bearer {key}") for key in (SPEAKER, ADMIN)]
        assert (await web.client.get("/api/ps", headers=headers)).status_code == 401


async def test_sessions_of_a_key_are_counted(locked: WorkerClient) -> None:
    speaker = bearer(locked, SPEAKER)
    for name in ("one", "two", "one"):
        await speaker.StartSession(tts_pb2.StartSessionRequest(session_id=name))
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "this key has 2 sessions") as advice:
        await speaker.StartSession(tts_pb2.StartSessionRequest(session_id="three"))
    assert 240 < advice[0] <= 300
    await bearer(locked, ADMIN).StartSession(tts_pb2.StartSessionRequest(session_id="three"))
    await speaker.EndSession(tts_pb2.EndSessionRequest(session_id="one"))
    await speaker.StartSession(tts_pb2.StartSessionRequest(session_id="three"))
    async with connected_http_client(locked, ADMIN) as web:
        assert (await web.figures())['busy_total{reason="key_sessions"}'] == 1


async def test_a_stream_counts_from_its_beginning_text_or_not(locked: WorkerClient) -> None:
    metadata = [("authorization", f"Bearer {SPEAKER}")]
    silent = locked.stub.Synthesize(metadata=metadata)
    await silent.wait_for_connection()
    await locked.round_trip_with(metadata)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "this key has 1 streams"):
        await bearer(locked, SPEAKER).knock()
    silent.cancel()
    async with asyncio.timeout(LIMIT_S):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert await bearer(locked, SPEAKER).speak() > 0
                break


async def test_who_asks_is_named_in_the_journal_whatever_the_protocol() -> None:
    stage = Stage("a", "b")
    stage["b"].load.error = OSError("broken")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager, api_keys=KEYS) as served:
        manager._ledger.backoff._first = 60.0
        triton: Any = served.channel.unary_unary(f"/{SERVICE}/RepositoryModelLoad")
        request = message("RepositoryModelLoadRequest")(model_name="b").SerializeToString()
        for _ in range(2):  # the second is refused: it is too soon to try again
            with refused(grpc.StatusCode.UNAVAILABLE):
                await triton(request, metadata=[("authorization", f"Bearer {ADMIN}")])
        with refused(grpc.StatusCode.UNAVAILABLE):
            await bearer(served, ADMIN).LoadModel(tts_pb2.LoadModelRequest(model_id="b"))
        refusals = [e.owner for e in manager.journal.events("b") if e.kind == "refused"]
        names = ["RepositoryModelLoad of boss", "LoadModel of boss"]
        assert [str(owner).split(" at ")[0] for owner in refusals][-2:] == names


@pytest.mark.parametrize(
    ("name", "fields", "key", "code"),
    [
        ("ServerLive", {}, "", None),
        ("RepositoryIndex", {}, "", UNAUTHENTICATED),
        ("RepositoryIndex", {}, SPEAKER, None),
        ("RepositoryModelLoad", {"model_name": "tone-220"}, SPEAKER, DENIED),
        ("RepositoryModelLoad", {"model_name": "tone-220"}, ADMIN, None),
        ("ModelInfer", None, SPEAKER, DENIED),
        ("ModelInfer", None, ADMIN, grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_tritons_calls_have_the_roles_of_their_like(
    locked: WorkerClient, name: str, fields: Any, key: str, code: grpc.StatusCode | None
) -> None:
    request = b"" if fields is None else message(f"{name}Request")(**fields).SerializeToString()
    call: Any = locked.channel.unary_unary(f"/{SERVICE}/{name}")
    expected = contextlib.nullcontext() if code is None else pytest.raises(grpc.aio.AioRpcError)
    with expected as caught:
        await call(request, metadata=[("authorization", f"Bearer {key}")], timeout=LIMIT_S)
    assert (caught and caught.value.code()) is code


async def test_discovery_asks_for_a_key_when_it_is_not_public(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_worker(manager, api_keys=KEYS, public_discovery=False) as served:
        with refused(UNAUTHENTICATED):
            await Keyed(served, "").GetCapabilities(tts_pb2.GetCapabilitiesRequest())


async def test_our_client_and_the_command_line_send_the_key(locked: WorkerClient) -> None:
    address = str(locked.worker.address)
    async with Client(address, ADMIN) as client:
        await client.load("tone-220")
        assert [frame async for frame in client.speak("Hello.")]
    async with connected(locked.worker) as served:
        assert served.states["tone-220"] == "ready"
    command = [sys.executable, "-c", COMMAND, "ps", "--address", address]
    for key, code in ((SPEAKER, 0), (f"{SPEAKER}\r\n", 0), ("a-wrong-key", 1), ("bad\nkey", 2)):
        done = await _run(command, {**os.environ, "GREENROOM_API_KEY": key})
        assert done.returncode == code, done.stderr
        assert ("tone-220" in done.stdout) is (code == 0)
        assert key.strip() not in done.stdout + done.stderr
        assert ("GREENROOM_API_KEY" in done.stderr) is (code > 0)
    for bad in ("k\u00fcche-secret", "two words", "line\nfeed"):
        with pytest.raises(InvalidInputError, match="ASCII"):
            Client(address, bad)


async def _run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_key_without_a_name_gets_one_that_no_other_has(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    keys = [{"key": SPEAKER, "name": "key 2"}, {"key": OTHER}]
    with pytest.raises(ConfigError, match="2 keys have the name 'key 2'"):
        Worker(Config(worker={"api_keys": keys}), manager)
    Worker(Config(worker={"api_keys": [*keys[1:], {"key": ADMIN}]}), manager)


@pytest.mark.parametrize("key", ["listen", "http_listen"])
def test_it_refuses_to_listen_where_others_reach_it_without_keys(
    tone_catalog: Catalog, key: str
) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    with pytest.raises(ConfigError, match=rf"worker\.{key}: 0\.0\.0\.0:0 can be reached"):
        Worker(Config(worker={key: "0.0.0.0:0"}), manager)
    Worker(Config(worker={key: "0.0.0.0:0", "api_keys": KEYS}), manager)
    Worker(Config(worker={key: "0.0.0.0:0", "allow_unauthenticated": True}), manager)
