"""Sessions over a real channel: one lease each, given back by its own client or by the reaper."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2
from tests.waiting import until
from tests.worker.worker_client import Meter, WorkerClient, refused, running_worker

TEXT = "Hello there."


def reap_after(served: WorkerClient, seconds: float) -> None:
    """Shorten the idle time of sessions, though not the patience with speech and its text."""
    served.worker.synthesis._sessions.idle_limit = seconds


async def test_a_repeated_start_takes_no_second_reference(tones: WorkerClient) -> None:
    first = await tones.start("s", "tone-220")
    again = await tones.start("s", "tone-220")
    assert first == again
    assert tones.refcount("tone-220") == 1
    await tones.end("s")
    assert tones.refcount("tone-220") == 0


async def test_starts_at_once_share_one_load_and_take_one_reference() -> None:
    stage = Stage("a", "b")
    stage["b"].load.hold()
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        starts = [asyncio.create_task(served.start("s", "b")) for _ in range(5)]
        await until(lambda: stage["b"].load.waiting == 1)
        stage.open_all()
        answers = await asyncio.gather(*starts)
        assert {answer.session_id for answer in answers} == {"s"}
        assert served.refcount("b") == 1
        assert stage["b"].calls["load"] == 1


async def test_an_end_gives_back_its_own_reference_and_only_once(tones: WorkerClient) -> None:
    for name in ("one", "two"):
        await tones.start(name, "tone-220")
    assert tones.refcount("tone-220") == 2
    await tones.end("one")
    for name in ("one", "never-began"):
        with refused(grpc.StatusCode.NOT_FOUND, name, "not open"):
            await tones.end(name)
    assert tones.refcount("tone-220") == 1
    assert len(await tones.speak(TEXT, session_id="two")) > 0


async def test_the_holders_are_told_by_name(tones: WorkerClient) -> None:
    await tones.start("kitchen", "tone-220")
    request = tts_pb2.ListModelsRequest(model_id="tone-220")
    model = (await tones.stub.ListModels(request)).models[0]
    assert list(model.resident.owners) == ["session kitchen"]
    assert "held by session kitchen" in model.explanation


async def test_a_session_without_an_id_gets_one_of_its_own(tones: WorkerClient) -> None:
    ids = {(await tones.start()).session_id for _ in range(3)}
    assert len(ids) == 3
    assert "" not in ids
    assert tones.refcount("tone-440") == 3


async def test_the_answer_tells_the_voice_and_the_idle_limit(tones: WorkerClient) -> None:
    answer = await tones.start("s")
    assert (answer.model_id, answer.sample_rate) == ("tone-440", 48_000)
    assert answer.idle_limit_ms == 300_000


async def test_an_open_session_keeps_its_voice(tones: WorkerClient) -> None:
    await tones.start("s", "tone-220", options={"volume": "0.5"})
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "tone-220"):
        await tones.start("s", "tone-440", options={"volume": "0.5"})
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "options"):
        await tones.start("s", "tone-220")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "tone-220"):
        await tones.speak(TEXT, session_id="s", model_id="tone-440")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "StartSession"):
        await tones.speak(TEXT, session_id="s", options={"volume": "0.1"})
    assert len(await tones.speak(TEXT, session_id="s", model_id="tone-220")) > 0
    assert tones.refcount("tone-220") == 1
    assert "tone-440" not in {name for name in tones.states if tones.in_use(name)}


async def test_the_options_of_a_session_reach_the_engine_as_numbers() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        await served.start("s", options={"speed": "1.5", "speaker": "joe", "steps": "8"})
        await served.speak(TEXT, session_id="s")
    assert stage["a"].options == [{"speed": 1.5, "speaker": "joe", "steps": 8}]


async def test_an_idle_session_is_reaped_and_a_speaking_one_is_not(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_worker(manager) as served:
        await served.start("busy", "b")
        call = served.call(TEXT, session_id="busy")
        speaking = asyncio.create_task(call.read())
        await until(lambda: served.streams("b") == 1)
        reap_after(served, 0.1)
        await served.start("idle", "b")
        await until(lambda: served.refcount("b") == 1)
        with refused(grpc.StatusCode.NOT_FOUND, "idle"):
            await served.speak(TEXT, session_id="idle")
        await served.control("busy", tts_pb2.RESUME)
        meters["b"].free.set()
        await speaking
        while await call.read() is not grpc.aio.EOF:
            pass
        await until(lambda: not served.in_use("b"))


async def test_one_session_more_than_allowed_is_refused_with_a_time(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_worker(manager, max_sessions=2, session_idle_ms=60_000) as served:
        for name in ("one", "two"):
            await served.start(name)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "2 sessions") as advice:
            await served.start("three")
        assert 30 < advice[0] <= 60
        await served.start("one")
        await served.end("one")
        await served.start("three")


@pytest.mark.parametrize("session_id", ["x" * 129, "a\nb", "\x1b[2J"])
async def test_an_id_that_cannot_be_shown_is_refused(tones: WorkerClient, session_id: str) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "session id"):
        await tones.start(session_id)


async def test_a_start_that_its_client_gives_up_leaves_no_session() -> None:
    stage = Stage("a", "b")
    stage["b"].load.hold()
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        start = asyncio.create_task(served.start("s", "b"))
        await until(lambda: stage["b"].load.waiting == 1)
        start.cancel()
        await until(lambda: "0 sessions" in repr(served.worker.synthesis))
        stage.open_all()
        await until(lambda: served.states.get("b") == "ready")
        assert served.refcount("b") == 0
        with refused(grpc.StatusCode.NOT_FOUND):
            await served.end("s")


async def test_an_end_while_the_model_loads_ends_the_wait() -> None:
    stage = Stage("a", "b")
    stage["b"].load.hold()
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        start = asyncio.create_task(served.start("s", "b"))
        await until(lambda: stage["b"].load.waiting == 1)
        await served.end("s")
        with refused(grpc.StatusCode.NOT_FOUND, "s"):
            await start
        stage.open_all()
        await until(lambda: served.states.get("b") == "ready")
        assert served.refcount("b") == 0


async def test_a_load_that_fails_leaves_no_session_and_says_when_to_try_again() -> None:
    stage = Stage("a", "b")
    stage["b"].load.error = ValueError("a broken file")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        manager._ledger.backoff._first = 60.0
        for _ in range(2):
            with refused(grpc.StatusCode.UNAVAILABLE, "a broken file") as advice:
                await served.start("s", "b")
            assert 30 < advice[0] <= 60
        assert stage["b"].calls["load"] == 1
        with refused(grpc.StatusCode.NOT_FOUND):
            await served.end("s")
        await served.start("s", "a")


async def test_reload_loads_afresh_and_keeps_the_sessions_lease() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        await served.start("s", "b")
        assert await served.control("s", tts_pb2.RELOAD) == 0
        assert stage["b"].calls["load"] == 2
        assert stage["b"].calls["unload"] == 1
        assert served.refcount("b") == 1
        assert len(await served.speak(TEXT, session_id="s")) == 25
        await served.end("s")
        assert served.refcount("b") == 0


async def test_reload_lets_running_speech_end_and_what_comes_meanwhile_waits() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        await served.start("s", "b")
        stage["b"].synthesize.hold()
        old = asyncio.create_task(served.speak(TEXT, session_id="s"))
        await until(lambda: served.streams("b") == 1)
        reload = asyncio.create_task(served.control("s", tts_pb2.RELOAD))
        await until(lambda: served.states["b"] == "draining")
        new = asyncio.create_task(served.speak(TEXT, session_id="s"))
        stage["b"].synthesize.open()
        assert await reload == 1
        assert len(await old) == len(await new) == 25
        assert stage["b"].calls["load"] == 2
        assert served.refcount("b") == 1


async def test_a_reload_that_fails_ends_the_session() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        await served.start("s", "b")
        stage["b"].load.error = ValueError("a broken file")
        with refused(grpc.StatusCode.UNAVAILABLE, "a broken file"):
            await served.control("s", tts_pb2.RELOAD)
        with refused(grpc.StatusCode.NOT_FOUND):
            await served.speak(TEXT, session_id="s")
        assert "b" not in served.states


async def test_a_silent_session_gives_its_place_to_a_model_that_waits_and_has_it_back() -> None:
    stage = Stage("a", "b")
    settings: dict[str, Any] = {"resident_cap": 1, "cap_policy": "hard", "pin_default": False}
    waits: dict[str, Any] = {"turn_after_ms": 50, "min_residency_ms": 0}
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", **settings, **waits)
    async with running_worker(manager, session_park_ms=50) as served:
        await served.start("kitchen", "a")
        await served.start("hall", "b")
        assert [resident.model_id for resident in manager.list_resident()] == ["b"]
        assert len(await served.speak(TEXT, session_id="kitchen")) > 0
        assert served.refcount("a") == 1
        assert len(await served.speak(TEXT, session_id="hall")) > 0
        for session_id in ("hall", "kitchen"):
            await served.end(session_id)
        assert [resident.refcount for resident in manager.list_resident()] == [0]


async def test_a_session_that_is_refused_its_model_is_not_ended_but_reaped_when_idle() -> None:
    stage = Stage("a", "b")
    settings: dict[str, Any] = {"resident_cap": 1, "cap_policy": "hard", "pin_default": False}
    waits: dict[str, Any] = {
        "turn_after_ms": 50,
        "min_residency_ms": 0,
        "acquire_timeout_ms": 5_000,
    }
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", **settings, **waits)
    async with running_worker(manager, session_park_ms=50) as served:
        await served.start("kitchen", "a")
        await served.start("hall", "b")
        manager.pin("b")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "'a'"):
            await served.speak(TEXT, session_id="kitchen")
        manager.unpin("b")
        assert len(await served.speak(TEXT, session_id="kitchen")) > 0
        manager.pin("a")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "'b'"):
            await served.speak(TEXT, session_id="hall")
        reap_after(served, 0.1)
        for session_id in ("kitchen", "hall"):
            await served.control(session_id, tts_pb2.STOP)  # its idle time begins anew
        await until(lambda: len(served.worker.synthesis._sessions) == 0)
