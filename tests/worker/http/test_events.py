"""Health, explanations, the journal and live events over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import Catalog, ModelLoadError, ModelManager
from greenroom.config.schema import Config
from greenroom.testing import Stage
from greenroom.worker.admission import Shares
from greenroom.worker.app import Worker
from greenroom.worker.http import events as following
from greenroom.worker.http import http_connection, serializers
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, connected_http_client, running_http_worker
from tests.worker.worker_client import WorkerClient, connected, metered


@pytest.fixture
async def web(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    manager = ModelManager(
        catalog=tone_catalog, default_model_id="tone-440", resident_cap=8, min_residency_ms=0
    )
    async with running_http_worker(manager) as made:
        yield made


# Health


async def test_a_worker_is_live_and_not_ready_while_its_default_loads_and_after() -> None:
    stage = Stage("a")
    stage["a"].load.hold()
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    address = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "drain_timeout_ms": 0}
    worker = await asyncio.to_thread(Worker, Config(worker=address), manager)
    await worker.listen()
    async with connected(worker) as served, connected_http_client(served) as web:
        starting = asyncio.create_task(worker.initialize())
        await until(lambda: stage["a"].load.waiting == 1)
        early = await web.client.get("/v2/health/ready")
        assert early.status_code == 503
        assert "starting" in early.json()["problems"][0]
        assert (await web.client.get("/v2/health/live")).status_code == 200
        assert (await web.get("/health"))["status"] == "not ready"
        stage.open_all()
        await starting
        assert (await web.client.get("/v2/health/ready")).status_code == 200
        assert (await web.get("/health"))["status"] == "ready"
        await worker.stop()


async def test_a_voice_that_hangs_is_named_and_the_others_are_served() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        manager._effects.loader.load_limit = 0.2  # for those to come: the default is there
        stage["b"].load.hold()
        with pytest.raises(ModelLoadError):
            await manager.load("b")
        stuck = await web.client.get("/v2/health/ready")
        assert (stuck.status_code, stuck.json()["ready"]) == (200, True)
        assert stuck.json()["problems"] == ["a thread hangs in model 'b'"]
        asked = {"model": "a", "voice": "a", "input": "Hi.", "response_format": "pcm"}
        assert (await web.post("/v1/audio/speech", asked)).status_code == 200
        stage.open_all()
        await until(lambda: not manager.statistics().hanging)
        assert (await web.get("/v2/health/ready"))["problems"] == []


async def test_a_default_that_hangs_says_so_and_gets_no_work() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", synthesis_timeout_ms=200)
    async with running_http_worker(manager) as web:
        stage["a"].synthesize.hold()
        asked = {"model": "a", "voice": "a", "input": "Hi.", "response_format": "pcm"}
        assert (await web.post("/v1/audio/speech", asked)).status_code == 500
        stuck = await web.client.get("/v2/health/ready")
        assert stuck.status_code == 503
        assert "the default model 'a' hangs" in stuck.json()["problems"]
        assert (await web.client.get("/v2/health/live")).status_code == 200
        stage.open_all()
        await until(lambda: not manager.statistics().hanging)
        assert (await web.client.get("/v2/health/ready")).status_code == 200


async def test_the_ages_of_the_oldest_waiter_and_load_are_told() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        assert (await web.get("/health"))["oldest_load_s"] == 0
        stage["b"].load.hold()
        loading = asyncio.create_task(manager.load("b"))
        await until(lambda: stage["b"].load.waiting == 1)
        told = await web.get("/health")
        assert told["oldest_load_s"] > 0
        assert told["oldest_wait_s"] > 0
        stage.open_all()
        await loading


# Why


async def test_a_model_is_explained_with_its_holders_and_history(web: HttpClient) -> None:
    await web.manager.load("tone-220", owner="me")
    told = await web.get("/api/explain/tone-220")
    assert told["summary"] == "ready, in use: 1 references"
    assert [each["owner"] for each in told["holders"]] == ["me"]
    assert [each["kind"] for each in told["history"]] == ["loading", "warming", "ready"]
    assert told["text"].startswith("tone-220: ready")
    assert told["memory"]["lives"] == 0
    absent = await web.get("/api/explain/tone-247")
    assert (absent["resident"], absent["memory"]) == (None, None)
    assert (await web.client.get("/api/explain/nobody")).status_code == 404


async def test_the_journal_tells_the_latest_of_all_and_of_one(web: HttpClient) -> None:
    await web.done("/api/load", {"model": "tone-220"})
    await web.done("/api/unload", {"model": "tone-220"})
    told = (await web.get("/api/journal", params={"model": "tone-220"}))["events"]
    kinds = ["loading", "warming", "ready", "unloading", "gone"]
    assert [each["kind"] for each in told] == kinds
    assert told[3]["reason"] == "unload was asked for"
    assert told[1]["took_s"] >= 0
    last = (await web.get("/api/journal", params={"limit": 1}))["events"]
    assert last == told[-1:]
    assert (await web.client.get("/api/journal", params={"limit": 0})).status_code == 400
    assert (await web.client.get("/api/journal?model=nobody")).status_code == 404


# Live


async def test_followers_get_the_past_then_the_state_then_what_happens(web: HttpClient) -> None:
    async with web.events(history=3) as events:
        past = [await anext(events) for _ in range(3)]
        assert [content["kind"] for _, content in past] == ["loading", "warming", "ready"]
        name, state = await anext(events)
        assert (name, state["models"][0]["model"]) == ("state", "tone-440")
        await web.manager.load("tone-220", owner="me")
        assert (await events.until("journal", kind="ready"))["model"] == "tone-220"
        state = await events.until("state")
        while len(state["models"]) < 2 or state["models"][1]["references"] < 1:
            state = await events.until("state")
        await web.manager.release("tone-220", owner="me")
        while state["models"][1]["references"]:  # a release makes no event, and shows all the same
            state = await events.until("state")


async def test_a_state_in_which_nothing_changes_is_told_once(
    web: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_PERIOD_S", 0.01)
    monkeypatch.setattr(following, "_SOON_S", 0.0)
    looks = 0
    real = serializers.unchanging

    def counted(snapshot: dict[str, Any]) -> object:
        nonlocal looks
        looks += 1
        # What the process takes crosses a step of what is told at any moment.
        return real({**snapshot, "memory": None})

    monkeypatch.setattr(serializers, "unchanging", counted)
    async with web.events() as events:
        assert (await anext(events))[0] == "state"
        await until(lambda: looks > 5)
        web.manager.pin("tone-220")
        name, told = await anext(events)
        # Whichever is seen first: a state that was told again would not have the pin.
        assert name == "journal" or sorted(told["pinned"]) == ["tone-220", "tone-440"]


async def test_events_end_with_the_worker(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as web, web.events() as events:
        await anext(events)
        stopping = asyncio.create_task(web.served.worker.stop())
        names = [name async for name, _ in events]
        assert names[-1] == "end"
        await stopping


async def test_a_follower_that_goes_makes_room_for_another(web: HttpClient) -> None:
    web.served.worker.admission.followers.others.shares = Shares(1, 1, 1)
    subscriptions = web.manager.journal._subscriptions
    own = len(subscriptions)
    async with web.events() as events:
        await anext(events)
        refused = await web.client.get("/api/events")
        assert refused.status_code == 429
        assert "retry-after" in refused.headers
    followers = web.served.worker.admission.followers
    await until(lambda: len(subscriptions) == own and not len(followers))
    async with web.events() as events:
        await anext(events)


async def test_a_follower_that_falls_behind_is_told_how_much_it_missed(web: HttpClient) -> None:
    async with web.events() as events:
        await anext(events)
        for _ in range(1_500):  # in one step, so that the follower cannot keep up
            web.manager.pin("tone-220")
        lost = await events.until("lost")
        assert lost["count"] > 0


async def test_a_follower_that_does_not_read_loses_its_place(
    web: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "_STALLED_S", 0.1)
    address = web.served.worker.http_address
    assert address is not None
    subscriptions = web.manager.journal._subscriptions
    own = len(subscriptions)
    _, writer = await asyncio.open_connection(address.host, address.port, limit=1_024)
    writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: len(subscriptions) == own + 1)

    def crowded() -> bool:
        for _ in range(200):
            web.manager.pin("tone-220")
        return len(subscriptions) == own

    try:
        await until(crowded)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# Metrics


async def test_metrics_are_scraped_in_both_formats(web: HttpClient) -> None:
    plain = await web.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert 'greenroom_residents{state="ready"} 1.0' in plain.text
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    other = await web.client.get("/metrics", headers=accept)
    assert other.headers["content-type"].startswith("application/openmetrics-text")
    assert other.text.endswith("# EOF\n")


async def test_speech_over_any_protocol_is_counted() -> None:
    catalog, meters = metered("a", chunks=3)
    meters["a"].free.set()
    async with running_http_worker(ModelManager(catalog=catalog, default_model_id="a")) as web:
        served: WorkerClient = web.served
        await served.speak("Hi.")
        body = {"model": "a", "voice": "a", "input": "Hi.", "response_format": "pcm"}
        assert (await web.post("/v1/audio/speech", body)).status_code == 200
        figures = await web.figures()
    assert figures['streams_ended_total{outcome="finished"}'] == 2
    assert figures['first_audio_seconds_count{model="a"}'] == 2
    assert figures['audio_seconds_total{model="a"}'] == pytest.approx(0.6)
    assert figures['load_seconds_count{model="a"}'] == 1
    assert figures["process_resident_memory_bytes"] > 0


# Requests for speech


async def test_a_follower_that_asks_for_it_is_told_how_each_request_went(web: HttpClient) -> None:
    asked = {"voice": "tone-440", "input": "Hi.", "response_format": "pcm"}
    async with web.events(speeches=True) as told, web.events() as others:
        await web.post("/v1/audio/speech", {"model": "tone-440", **asked})
        found = await told.until("speech")
        await web.post("/v1/audio/speech", {"model": "tone-220", **asked, "voice": "tone-220"})
        cold = await told.until("speech", model="tone-220")
        await others.until("journal", kind="ready", model="tone-220")
    assert (found["model"], found["outcome"]) == ("tone-440", "finished")
    assert 0 <= found["waited_s"] <= found["first_audio_s"] <= found["took_s"]
    assert 0 < cold["waited_s"] <= cold["took_s"]
    assert found["audio_s"] > 0
    assert not [each for each in web.manager.journal.events() if each.spoken is not None]


async def test_a_follower_that_does_not_ask_is_told_of_no_request(web: HttpClient) -> None:
    asked = {"model": "tone-440", "voice": "tone-440", "input": "Hi.", "response_format": "pcm"}
    async with web.events() as events:
        await web.post("/v1/audio/speech", asked)
        web.manager.pin("tone-440")
        async for name, content in events:
            assert name != "speech"
            if name == "journal" and content["kind"] == "pinned":
                break
