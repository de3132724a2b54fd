"""The figures of the last ten minutes over HTTP, and the streams that run: seen, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from greenroom import Catalog, ModelManager
from greenroom.memory.monitor import MemoryMonitor
from greenroom.memory.usage import MIB, ProcessUsage
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2
from greenroom.worker import history as worker_history
from greenroom.worker.http import events as following
from greenroom.worker.http import serializers
from tests.waiting import until
from tests.worker.http.http_client import (
    HttpClient,
    connected_http_client,
    metered_http_worker,
    running_http_worker,
)
from tests.worker.worker_client import Meter, refused

KEYS = [
    {"name": "ops", "key": "admin-key", "role": "admin"},
    {"name": "kitchen", "key": "speak-key", "role": "speak"},
]
ASKED = {"model": "a", "voice": "a", "input": "Hello.", "response_format": "pcm"}


@pytest.fixture(autouse=True)
def _no_steps_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps end when a test says so."""
    monkeypatch.setattr(worker_history, "STEP_S", 1e6)


@pytest.fixture
async def web(metered_catalog: Catalog, meters: dict[str, Meter]) -> AsyncIterator[HttpClient]:
    """A worker whose models speak what their meters allow."""
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    async with metered_http_worker(manager, meters.values()) as made:
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers look often."""
    monkeypatch.setattr(following, "_PERIOD_S", 0.05)


def end_step(web: HttpClient) -> None:
    web.served.worker.synthesis.history.end_step(web.manager.statistics(), cores_busy=0.25)


# The history


async def test_the_history_has_steps_with_what_happened(
    web: HttpClient, meters: dict[str, Meter]
) -> None:
    meters["a"].free.set()
    assert (await web.post("/v1/audio/speech", ASKED)).status_code == 200
    end_step(web)
    end_step(web)
    told = await web.get("/api/history")
    assert (told["step_s"], told["cores"] > 0) == (5.0, True)
    first, second = told["steps"]
    assert (first["number"], first["streams"], first["speeches"]) == (1, 1, 1)
    assert 0 < first["first_audio_p50_s"] <= first["first_audio_p95_s"]
    assert (first["gaps"], first["refused"], first["cores_busy"]) == (0, {}, 0.25)
    assert (first["memory"]["anonymous"] > 0, first["engines"]) == (True, 0)
    assert second["speeches"] == 0
    assert second["first_audio_p50_s"] == first["first_audio_p50_s"]  # of the same minute
    later = await web.get("/api/history", params={"after": 1})
    assert later["steps"] == [second]
    for wrong in ("-1", "many", str(2**60)):
        assert (await web.client.get(f"/api/history?after={wrong}")).status_code == 400


async def test_what_a_limit_refused_is_in_the_history(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_http_worker(manager, max_streams=1) as web:
        waiting = asyncio.create_task(web.post("/v1/audio/speech", ASKED))
        await until(web.served.worker.synthesis.running)
        assert (await web.post("/v1/audio/speech", ASKED)).status_code == 429
        waiting.cancel()
        meters["a"].free.set()
        await until(lambda: not web.served.worker.synthesis.running())
        end_step(web)
        (step,) = (await web.get("/api/history"))["steps"]
        assert step["refused"] == {"streams": 1}


async def test_followers_who_ask_for_it_get_past_steps_then_each_new_one(
    web: HttpClient, quick: None
) -> None:
    end_step(web)
    async with web.events(activity=True) as events:
        assert (await events.until("figures"))["number"] == 1
        end_step(web)
        assert (await events.until("figures"))["number"] == 2
    async with web.events() as events:
        assert (await anext(events))[0] == "state"
        await web.manager.load("b")
        assert (await anext(events))[0] == "journal"


async def test_memory_is_told_alike_by_state_history_and_metrics(
    web: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the process takes changes while it is asked for; here it stands still."""
    monkeypatch.setattr(MemoryMonitor, "whole", ProcessUsage(30 * MIB, 20 * MIB, 40 * MIB))
    end_step(web)
    (step,) = (await web.get("/api/history"))["steps"]
    told = (await web.get("/api/ps"))["memory"]
    figures = await web.figures()
    assert told == {"anonymous": 30 * MIB, "mapped": 20 * MIB, "proportional": 40 * MIB}
    assert step["memory"] == told
    for kind, size in told.items():
        assert figures[f'process_memory_bytes{{kind="{kind}"}}'] == size, kind


# The streams


async def test_a_stream_is_shown_with_who_since_when_and_how_far(
    web: HttpClient, meters: dict[str, Meter], quick: None
) -> None:
    async with web.events(activity=True) as events:
        assert (await events.until("streams"))["count"] == 0
        meters["a"].allow(3)
        async with web.client.stream("POST", "/v1/audio/speech", json=ASKED):
            (stream,) = (await events.until("streams", count=1))["streams"]
            while stream["state"] != "speaking":
                (stream,) = (await events.until("streams", count=1))["streams"]
            assert stream["model"] == "a"
            assert stream["owner"].startswith("http call of 127.0.0.1:")
            assert 0 < stream["first_audio_s"] <= stream["age_s"]
            assert 0 < stream["audio_s"] <= 0.3
            assert 0 <= stream["ahead_s"] <= 0.3
            assert (await web.get("/api/streams"))["streams"][0]["number"] == stream["number"]
        meters["a"].free.set()
        assert (await events.until("streams", count=0))["streams"] == []


async def test_one_that_waits_for_its_model_is_shown_and_can_be_ended() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        stage["b"].load.hold()
        asked = asyncio.create_task(
            web.post("/v1/audio/speech", {**ASKED, "model": "b", "voice": "b"})
        )
        await until(lambda: stage["b"].load.waiting == 1)
        (stream,) = (await web.get("/api/streams"))["streams"]
        assert (stream["state"], stream["first_audio_s"], stream["ahead_s"]) == (
            "waiting",
            None,
            None,
        )
        ended = await web.client.delete(f"/api/streams/{stream['number']}")
        assert ended.json() == {"ended": True}
        answer = await asked
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stream_ended")
        assert answer.headers["x-should-retry"] == "false"
        assert (await web.get("/api/streams")) == {"count": 0, "streams": []}
        stage.open_all()


async def test_a_paused_session_is_shown_as_such_and_gets_an_error_when_it_is_ended(
    web: HttpClient, meters: dict[str, Meter]
) -> None:
    await web.served.start("kitchen", "a")
    call = web.served.call("Hello.", session_id="kitchen")
    meters["a"].allow(1)
    await anext(aiter(call))
    await web.served.control("kitchen", tts_pb2.PAUSE)
    (stream,) = (await web.get("/api/streams"))["streams"]
    assert (stream["state"], stream["owner"]) == ("paused", "session kitchen")
    assert (await web.client.delete(f"/api/streams/{stream['number']}")).json()["ended"]
    meters["a"].free.set()
    with refused(grpc.StatusCode.ABORTED, "administrator"):
        async for _ in call:
            pass
    again = await web.client.delete(f"/api/streams/{stream['number']}")
    assert again.json() == {"ended": False}


async def test_ending_a_stream_touches_no_other(web: HttpClient, meters: dict[str, Meter]) -> None:
    first = asyncio.create_task(web.post("/v1/audio/speech", ASKED))
    await until(lambda: len(web.served.worker.synthesis.running()) == 1)
    second = asyncio.create_task(web.post("/v1/audio/speech", {**ASKED, "voice": "b"}))
    await until(lambda: len(web.served.worker.synthesis.running()) == 2)
    one, other = (await web.get("/api/streams"))["streams"]
    assert one["number"] < other["number"]
    await web.client.delete(f"/api/streams/{one['number']}")
    meters["a"].free.set()
    assert (await first).status_code == 503
    meters["b"].free.set()
    assert (await second).status_code == 200


async def test_a_look_needs_a_key_and_ending_one_that_of_an_administrator(
    metered_catalog: Catalog,
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with (
        running_http_worker(manager, api_keys=KEYS) as nobody,
        connected_http_client(nobody.served, "speak-key") as app,
        connected_http_client(nobody.served, "admin-key") as ops,
    ):
        for path in ("/api/history", "/api/streams"):
            assert (await nobody.client.get(path)).status_code == 401, path
            assert (await app.client.get(path)).status_code == 200, path
        statuses = [
            (await each.client.delete("/api/streams/7")).status_code for each in (nobody, app, ops)
        ]
        assert statuses == [401, 403, 200]
        for wrong in ("0", "x", str(2**60)):
            assert (await ops.client.delete(f"/api/streams/{wrong}")).status_code == 400


async def test_at_most_two_hundred_streams_are_listed_and_all_are_counted(
    web: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serializers, "_MOST_STREAMS", 1)
    asked = [asyncio.create_task(web.post("/v1/audio/speech", ASKED)) for _ in range(3)]
    await until(lambda: len(web.served.worker.synthesis.running()) == 3)
    told = await web.get("/api/streams")
    assert (told["count"], [each["number"] for each in told["streams"]]) == (3, [1])
    for each in asked:
        each.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


# The lists


async def test_the_state_says_which_models_are_pinned_and_which_catalog_it_is_of(
    web: HttpClient,
) -> None:
    await web.done("/api/pin", {"model": "c"})
    told = await web.get("/api/ps")
    assert (sorted(told["pinned"]), told["catalog_version"]) == (["a", "c"], 0)
    assert told["cores"] > 0
