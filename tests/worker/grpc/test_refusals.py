"""What is refused: typed, with a time where one is known, before anything is started."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2
from tests.waiting import until
from tests.worker.worker_client import WorkerClient, refused, retry_info, running_worker

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "model_id",
    ["../../tone-440", "/etc/tone-440", "tone-440\x00", "tone-441", "TONE-440", "x" * 10_000],
)
async def test_an_id_is_looked_up_and_never_a_path(tones: WorkerClient, model_id: str) -> None:
    before = tones.states
    with refused(grpc.StatusCode.NOT_FOUND, "not in the catalog") as advice:
        await tones.speak("Hi.", model_id=model_id)
    with refused(grpc.StatusCode.NOT_FOUND):
        await tones.start("s", model_id)
    with refused(grpc.StatusCode.NOT_FOUND):
        await tones.stub.LoadModel(tts_pb2.LoadModelRequest(model_id=model_id))
    with refused(grpc.StatusCode.NOT_FOUND):
        await tones.stub.UnloadModel(tts_pb2.UnloadModelRequest(model_id=model_id))
    with refused(grpc.StatusCode.NOT_FOUND):
        await tones.stub.ListModels(tts_pb2.ListModelsRequest(model_id=model_id))
    assert advice == []
    assert tones.states == before


async def test_a_mistyped_id_is_answered_with_near_ones(tones: WorkerClient) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "did you mean", "tone-440"):
        await tones.speak("Hi.", model_id="../tone-44")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("\u200b\ufeff", "empty"),
        ("a" * 20_001, "20000"),
        ("a" * 1_000_000, "20000"),
        ("ring\x07", "U+0007"),
        ("esc\x1b[31m", "U+001B"),
    ],
    ids=["none", "blank", "invisible", "long", "1 MB", "bell", "escape"],
)
async def test_text_that_cannot_be_spoken_is_refused_before_a_model_is_loaded(
    tones: WorkerClient, text: str, words: str
) -> None:
    with refused(INVALID, words):
        await tones.speak(text, model_id="tone-220")
    with refused(INVALID, words):
        call = tones.pieces(tts_pb2.TextChunk(text=text, model_id="tone-220"))
        await call.read()
    assert words == "empty" or "tone-220" not in tones.states
    assert not tones.in_use("tone-220")


async def test_a_call_without_any_chunk_is_refused(tones: WorkerClient) -> None:
    with refused(INVALID, "no text"):
        await tones.pieces().read()


async def test_pieces_that_add_up_to_too_much_are_refused(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_worker(manager, max_text_chars=100) as served:
        with refused(INVALID, "100"):
            await served.speak("a" * 101)
        pieces = [tts_pb2.TextChunk(text="a word or two. " * 4) for _ in range(2)]
        with refused(INVALID, "100"):
            call = served.pieces(*pieces)
            while await call.read() is not grpc.aio.EOF:
                pass
        assert len(await served.speak("a" * 100)) == pytest.approx(300, abs=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"volume": "loud"}, "volume"),
        ({"volume": "nan"}, "volume"),
        ({"volume": "7"}, "volume"),
        ({"pitch": "1"}, "pitch"),
        ({"sample_rate": "16000"}, "field"),
        ({"text": "x"}, "field"),
        ({"self": "x"}, "field"),
        ({"volume": "1" * 201}, "longer"),
        ({f"o{number}": "1" for number in range(33)}, "33 options"),
    ],
    ids=str,
)
async def test_options_that_cannot_be_are_refused_before_the_first_frame(
    tones: WorkerClient, options: dict[str, str], words: str
) -> None:
    with refused(INVALID, words):
        await tones.speak("Hi.", model_id="tone-220", options=options)
    with refused(INVALID, words):
        await tones.start("s", "tone-220", options=options)
    assert "tone-220" not in tones.states


@pytest.mark.parametrize("rate", [-1, 1, 7_999, 16_001, 192_050])
async def test_rates_that_cannot_be_framed_are_refused(tones: WorkerClient, rate: int) -> None:
    with refused(INVALID, str(rate)):
        await tones.speak("Hi.", sample_rate=rate)
    with refused(INVALID, str(rate)):
        await tones.start("s", sample_rate=rate)


async def test_unknown_sessions_and_commands_are_refused(tones: WorkerClient) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "nobody"):
        await tones.speak("Hi.", session_id="nobody")
    with refused(grpc.StatusCode.NOT_FOUND, "nobody"):
        await tones.control("nobody", tts_pb2.STOP)
    await tones.start("s")
    with refused(INVALID, "command 9"):
        await tones.control("s", 9)


async def test_one_call_cannot_change_its_session_or_model_midway(tones: WorkerClient) -> None:
    for field in ("session_id", "model_id"):
        other: dict[str, Any] = {field: "other"}
        chunks = tts_pb2.TextChunk(text="Hi. "), tts_pb2.TextChunk(text="Ho.", **other)
        with refused(INVALID, "one session"):
            call = tones.pieces(*chunks)
            while await call.read() is not grpc.aio.EOF:
                pass


async def test_no_room_is_resource_exhausted_with_the_time_room_can_first_exist(
    tone_catalog: Catalog,
) -> None:
    manager = ModelManager(
        catalog=tone_catalog,
        default_model_id="tone-440",
        resident_cap=2,
        cap_policy="hard",
        min_residency_ms=600_000,
        acquire_timeout_ms=100,
    )
    async with running_worker(manager) as served:
        await served.speak("Hi.", model_id="tone-220")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "tone-247") as advice:
            await served.speak("Hi.", model_id="tone-247")
        assert advice == [pytest.approx(550, abs=50)]
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
            await served.start("s", "tone-247")
        assert len(await served.speak("Hi.", model_id="tone-220")) > 0


async def test_a_model_in_use_is_not_taken_from_its_holder_and_a_drain_can_be_given_up(
    tones: WorkerClient,
) -> None:
    await tones.start("s", "tone-220")
    unload = tts_pb2.UnloadModelRequest(model_id="tone-220")
    with pytest.raises(grpc.aio.AioRpcError):
        await tones.stub.UnloadModel(unload, timeout=0.2)
    await until(lambda: tones.states["tone-220"] == "ready")
    assert tones.refcount("tone-220") == 1
    assert len(await tones.speak("Hi.", session_id="s")) > 0


async def test_unloading_what_is_not_in_memory_is_a_failed_precondition(
    tones: WorkerClient,
) -> None:
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "not in memory"):
        await tones.stub.UnloadModel(tts_pb2.UnloadModelRequest(model_id="tone-220"))


async def test_loads_that_are_too_slow_are_deadline_exceeded_and_hold_up_nobody() -> None:
    stage = Stage("a", "b")
    stage["b"].load.hold()
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        manager._effects.loader.load_limit = 0.2  # for those to come: the default is there
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "load_timeout_ms") as advice:
            await served.speak("Hi.", model_id="b")
        assert len(advice) == 1
        assert len(await served.speak("Hi.")) == 25
        stage.open_all()


async def test_a_silent_model_is_refused_and_never_heard() -> None:
    stage = Stage("a", "b")
    stage["b"].amplitude = 0.0
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        with refused(grpc.StatusCode.UNAVAILABLE, "silent"):
            await served.speak("Hi.", model_id="b")


async def test_a_message_larger_than_allowed_is_refused_by_the_transport(
    tones: WorkerClient,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tones.speak("a" * 5_000_000)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(await tones.speak("Hi.")) > 0


async def test_a_message_of_emoji_still_fits_into_the_status(tones: WorkerClient) -> None:
    with refused(grpc.StatusCode.NOT_FOUND):
        await tones.speak("Hi.", session_id="🎙" * 10_000)
    with refused(INVALID):
        await tones.start("s", options={"🎙" * 199: "🎙" * 199})


async def test_every_refusal_of_a_closing_worker_is_unavailable(tones: WorkerClient) -> None:
    await tones.start("s")
    await tones.worker.synthesis.drain(0)
    closing = grpc.StatusCode.UNAVAILABLE, "shutting down"
    with refused(*closing):
        await tones.start("t")
    with refused(*closing):
        await tones.speak("Hi.")
    with refused(*closing):
        await tones.stub.LoadModel(tts_pb2.LoadModelRequest(model_id="tone-220"))
    assert (await tones.stub.ListModels(tts_pb2.ListModelsRequest())).models


async def test_waiters_for_a_load_hear_of_the_shutdown() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        stage["b"].load.hold()
        load = served.stub.LoadModel(tts_pb2.LoadModelRequest(model_id="b"))
        calls = [
            asyncio.create_task(load.code()),
            asyncio.create_task(served.start("s", "b")),
            asyncio.create_task(served.speak("Hi.", model_id="b")),
        ]
        await until(lambda: served.states.get("b") == "loading")
        await served.round_trip()
        stopping = asyncio.create_task(served.worker.stop())
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[0] is grpc.StatusCode.UNAVAILABLE
        for error in answers[1:]:
            assert isinstance(error, grpc.aio.AioRpcError)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert retry_info(error) == []
        stage.open_all()
        await stopping
