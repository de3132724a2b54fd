"""The standard health service and reflection, as probes and tools use them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from greenroom import Catalog, ModelLoadError, ModelManager, SynthesisError
from greenroom.config.schema import Config
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2
from greenroom.worker.app import Worker
from tests.waiting import until
from tests.worker.worker_client import LIMIT_S, WorkerClient, connected

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
OVERALL = ("", "greenroom.v1.TTSService")


async def health_of(served: WorkerClient, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=LIMIT_S)
    return int(answer.status)


async def test_a_ready_worker_serves_and_each_model_serves_while_it_is_ready(
    tones: WorkerClient,
) -> None:
    for name in (*OVERALL, "live", "tone-440"):
        assert await health_of(tones, name) == SERVING
    assert await health_of(tones, "tone-220") == NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_of(tones, "tone-441")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watchers_see_a_model_come_and_go(tones: WorkerClient) -> None:
    stub: Any = health_pb2_grpc.HealthStub(tones.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="tone-220"), timeout=LIMIT_S)
    assert (await watch.read()).status == NOT_SERVING
    await tones.stub.LoadModel(tts_pb2.LoadModelRequest(model_id="tone-220"))
    assert (await watch.read()).status == SERVING
    await tones.stub.UnloadModel(tts_pb2.UnloadModelRequest(model_id="tone-220"))
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()


async def test_a_model_whose_drain_is_given_up_serves_again(tones: WorkerClient) -> None:
    await tones.start("s", "tone-220")
    stub: Any = health_pb2_grpc.HealthStub(tones.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="tone-220"), timeout=LIMIT_S)
    while (await watch.read()).status != SERVING:
        pass
    unload = tones.stub.UnloadModel(tts_pb2.UnloadModelRequest(model_id="tone-220"))
    assert (await watch.read()).status == NOT_SERVING
    unload.cancel()
    assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_a_worker_is_live_but_not_ready_while_its_default_loads() -> None:
    stage = Stage("a")
    stage["a"].load.hold()
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    config = Config(worker={"listen": "127.0.0.1:0", "http_listen": None, "drain_timeout_ms": 0})
    worker = await asyncio.to_thread(Worker, config, manager)
    await worker.listen()
    async with connected(worker) as served:
        starting = asyncio.create_task(worker.initialize())
        await until(lambda: stage["a"].load.waiting == 1)
        assert [await health_of(served, name) for name in OVERALL] == [NOT_SERVING] * 2
        assert await health_of(served, "live") == SERVING
        early = asyncio.create_task(served.speak("Hi."))
        stage.open_all()
        await starting
        assert [await health_of(served, name) for name in OVERALL] == [SERVING] * 2
        assert len(await early) == 25
        await worker.stop()


async def test_a_draining_worker_does_not_serve_and_stays_live(tones: WorkerClient) -> None:
    stub: Any = health_pb2_grpc.HealthStub(tones.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT_S)
    assert (await watch.read()).status == SERVING
    stopping = asyncio.create_task(tones.worker.stop())
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()
    await stopping


async def test_a_start_that_fails_never_serves() -> None:
    stage = Stage("a")
    stage["a"].load.error = ValueError("a broken file")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    config = Config(worker={"listen": "127.0.0.1:0", "http_listen": None})
    worker = await asyncio.to_thread(Worker, config, manager)
    await worker.listen()
    async with connected(worker) as served:
        with pytest.raises(ModelLoadError, match="a broken file"):
            await worker.initialize()
        assert await health_of(served, "") == NOT_SERVING
        await worker.stop()


async def test_only_the_model_that_hangs_does_not_serve_until_it_ends() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", synthesis_timeout_ms=200)
    config = Config(worker={"listen": "127.0.0.1:0", "http_listen": None, "drain_timeout_ms": 0})
    worker = await asyncio.to_thread(Worker, config, manager)
    await worker.listen()
    await worker.initialize()
    async with connected(worker) as served:
        stub: Any = health_pb2_grpc.HealthStub(served.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="b"), timeout=LIMIT_S)
        assert (await watch.read()).status == NOT_SERVING
        adapter = await manager.load("b")
        assert (await watch.read()).status == SERVING
        stage["b"].synthesize.hold()
        with pytest.raises(SynthesisError):
            await anext(adapter.synthesize_stream("Hi."))
        assert (await watch.read()).status == NOT_SERVING
        for name in (*OVERALL, "live", "a"):
            assert await health_of(served, name) == SERVING
        stage.open_all()
        assert (await watch.read()).status == SERVING
        watch.cancel()
        await manager.release("b")
        await worker.stop()


async def test_events_lost_in_a_crowd_leave_no_wrong_health(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    config = Config(worker={"listen": "127.0.0.1:0", "http_listen": None, "drain_timeout_ms": 0})
    worker = await asyncio.to_thread(Worker, config, manager)
    await worker.listen()
    await worker.initialize()
    await manager.load("tone-220")
    for _ in range(3_000):  # in one step, so that the follower cannot keep up
        manager.pin("tone-440")
    async with connected(worker) as served:
        assert await health_of(served, "tone-220") == SERVING
    await manager.release("tone-220")
    await worker.stop()


async def test_reflection_lists_and_describes_the_services(tones: WorkerClient) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(tones.channel)
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    symbol = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="greenroom.v1.TTSService"
    )
    answers = [a async for a in stub.ServerReflectionInfo(iter([listing, symbol]))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {"greenroom.v1.TTSService", "grpc.health.v1.Health"} <= names
    assert b"Synthesize" in answers[1].file_descriptor_response.file_descriptor_proto[0]
