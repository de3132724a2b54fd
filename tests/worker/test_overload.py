"""One more stream than can be kept up, and a listener who hears nothing, as callers are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2
from tests.overload import cost_as_much_as_there_is
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.worker_client import LIMIT_S, Meter, WorkerClient, refused

ASKED = {"model": "a", "voice": "a", "input": "Me too.", "response_format": "pcm"}
SPEECH = "/v1/audio/speech"


@contextlib.asynccontextmanager
async def overloaded_worker(stage: Stage, **settings: Any) -> AsyncIterator[HttpClient]:
    """Serve a model of which one stream, which is heard, takes nearly all that there is."""
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager, **settings) as web:
        async with speaking_without_end(web.served):
            adapter = await manager.load("a", owner="test")
            cost_as_much_as_there_is(adapter)
            await manager.release("a", owner="test")
            yield web
        await until(lambda: not manager.list_resident()[0].streams)


@contextlib.asynccontextmanager
async def speaking_without_end(served: WorkerClient) -> AsyncIterator[Any]:
    """Speak a text of which more may come; it ends with the block, or with `done_writing`."""
    call = served.stub.Synthesize(timeout=3 * LIMIT_S)
    await call.write(tts_pb2.TextChunk(text="A sentence. And", model_id="a"))
    await call.read()
    yield call
    call.cancel()


async def test_it_is_refused_over_http_in_openai_s_shape_with_a_time_to_try_again(
    stage: Stage,
) -> None:
    async with overloaded_worker(stage, overload="refuse") as web:
        answer = await web.post(SPEECH, ASKED)
        figures = await web.figures()
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("overloaded", None)
    assert "cannot keep up one more stream" in error["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert figures['busy_total{reason="overload"}'] == 1
    assert 0.8 < figures["capacity_used_ratio"] < 1.0


async def test_it_is_refused_over_grpc_with_retry_info(stage: Stage) -> None:
    async with overloaded_worker(stage, overload="refuse") as web:
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "cannot keep up one more") as advice:
            await web.served.speak("Me too.", model_id="a")
        assert advice[0] > 0
        assert [f async for f in web.served.call("A cheap one.", model_id="b")]


async def test_it_waits_and_is_served_once_another_has_ended(stage: Stage) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web, speaking_without_end(web.served) as first:
        cost_as_much_as_there_is(await manager.load("a"))
        waiting = asyncio.create_task(web.post(SPEECH, ASKED))
        await until(lambda: manager.statistics().streams_waiting == 1)
        state = await web.get("/api/ps")
        assert state["streams_waiting"] == 1
        assert 0.8 < state["capacity_used"] < 1.0
        listed = await web.served.stub.ListModels(tts_pb2.ListModelsRequest())
        assert (listed.streams_waiting, listed.capacity_used > 0.8) == (1, True)
        first.cancel()
        answer = await waiting
        assert (answer.status_code, len(answer.content)) == (200, 24_000)
        assert (await web.get("/api/ps"))["streams_waiting"] == 0


async def test_one_that_waits_is_refused_after_its_limit(stage: Stage) -> None:
    async with overloaded_worker(stage, overload_wait_ms=50) as web:
        answer = await web.post(SPEECH, ASKED)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")


async def test_a_listener_who_hears_nothing_is_told_of_everywhere(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_http_worker(manager) as web, web.events() as events:
        meters["a"].allow(3)
        asked = {**ASKED, "input": "Listen."}
        async with web.client.stream("POST", SPEECH, json=asked) as answer:
            pieces = answer.aiter_bytes()
            await anext(pieces)
            await until(lambda: meters["a"].made == 3)
            await asyncio.sleep(0.6)  # longer than what is made lasts: the silence is sure
            meters["a"].allow(1)
            entry = await events.until("journal", kind="silent", model="a")
            assert "a listener heard nothing for " in entry["reason"]
            (running,) = (await web.get("/api/streams"))["streams"]
            assert running["gaps"] == 1
            assert running["late_s"] >= 0.2
            meters["a"].free.set()
            state = await events.until("state")
            async for _ in pieces:
                pass
        (resident,) = (await web.get("/api/ps"))["models"]
        assert resident["gaps"] >= 1
        assert resident["late_s"] >= 0.2
        assert state["models"][0]["gaps"] >= 1
        listed = await web.served.stub.ListModels(tts_pb2.ListModelsRequest(model_id="a"))
        assert listed.models[0].resident.gaps == resident["gaps"]
        assert listed.models[0].resident.late_s == pytest.approx(resident["late_s"], abs=1e-3)
        assert "silent: a listener heard nothing" in listed.models[0].explanation
        await until(lambda: not web.served.in_use("a"))  # it is counted before that
        assert (await web.figures())['speech_gaps_total{model="a"}'] >= 1
