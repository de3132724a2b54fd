"""Streams over a real channel: frames as they are made, control, cancellation, back-pressure."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import pytest

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2
from tests.waiting import until
from tests.worker.worker_client import (
    FRAME_BYTES,
    LIMIT_S,
    Meter,
    WorkerClient,
    connected,
    metered,
    refused,
    running_worker,
)

TEXT = "Hello there, this is a tone."


def chunk(text: str = "", **more: object) -> tts_pb2.TextChunk:
    return tts_pb2.TextChunk(text=text, **more)  # type: ignore[arg-type]


class Reader:
    """Reads a call's frames as fast as they come."""

    def __init__(self, call: object) -> None:
        self.call = call
        self.frames: list[tts_pb2.AudioFrame] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for frame in self.call:  # type: ignore[attr-defined]
            self.frames.append(frame)

    @property
    def audio_ms(self) -> int:
        return 20 * sum(bool(frame.audio_data) for frame in self.frames)


async def test_frames_are_numbered_from_one_and_only_the_last_is_final(tones: WorkerClient) -> None:
    frames = await tones.speak(TEXT, model_id="tone-220")
    assert [frame.sequence_number for frame in frames] == list(range(1, len(frames) + 1))
    assert [frame.is_final for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert {len(frame.audio_data) for frame in frames} == {FRAME_BYTES}
    assert {(frame.sample_rate, frame.frame_duration_ms) for frame in frames} == {(48_000, 20)}
    assert len(frames) == pytest.approx(len(TEXT) * 60 / 20, abs=2)


async def test_frames_of_a_session_carry_its_id_and_its_rate(tones: WorkerClient) -> None:
    await tones.start("s", "tone-220", sample_rate=16_000)
    frames = await tones.speak(TEXT, session_id="s")
    assert {(f.session_id, f.sample_rate, len(f.audio_data)) for f in frames} == {
        ("s", 16_000, 640)
    }


async def test_aliases_of_the_worker_are_good_over_grpc_too(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    aliases = {"nova": "tone-220", "echo": "tone-247", "sage": "tone-330"}
    async with running_worker(manager, aliases=aliases) as served:
        for name, model_id in (("alloy", "tone-440"), ("nova", "tone-220")):
            assert (await served.start(name, name)).model_id == model_id
            assert await served.speak(TEXT, model_id=name)
            assert await served.speak(TEXT, model_id=name, session_id=name)
            listed = await served.stub.ListModels(tts_pb2.ListModelsRequest(model_id=name))
            assert [model.model_id for model in listed.models] == [model_id]
        await served.stub.LoadModel(tts_pb2.LoadModelRequest(model_id="echo"))
        assert "tone-247" in {each.model_id for each in manager.list_resident()}
        await served.stub.UnloadModel(tts_pb2.UnloadModelRequest(model_id="echo"))
        assert "tone-247" not in {each.model_id for each in manager.list_resident()}
        await served.stub.Prefetch(tts_pb2.PrefetchRequest(model_id="sage"))
        await until(lambda: "tone-330" in {each.model_id for each in manager.list_resident()})
        with refused(grpc.StatusCode.NOT_FOUND, "not in the catalog"):
            await served.speak(TEXT, model_id="aloy")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "speaks with 'tone-220'"):
            await served.speak(TEXT, model_id="alloy", session_id="nova")


@pytest.mark.parametrize("text", [".", "...", "!?", "😀"])
async def test_text_with_nothing_to_say_is_a_short_silence(tones: WorkerClient, text: str) -> None:
    frames = await tones.speak(text, model_id="tone-220")
    assert frames[-1].is_final
    assert 10 <= len(frames) <= 15
    assert not any(b"".join(frame.audio_data for frame in frames))


async def test_markdown_is_said_without_its_marks_where_the_worker_is_told_so(
    tone_catalog: Catalog,
) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with running_worker(manager, text="markdown") as served:
        frames = await served.speak("**Hello** `there`, [this](http://a.b/c) is *a* tone.")
    assert len(frames) == pytest.approx(len(TEXT) * 60 / 20, abs=2)


async def test_a_call_says_how_its_text_is_read_and_its_words_are_said() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager, text="markdown") as served:
        words = {"nginx": "engine x"}
        await served.speak("*nginx*", text_form=tts_pb2.PLAIN, pronunciations=words)
        await served.speak("*nginx*", pronunciations=words)
        await served.stub.StartSession(
            tts_pb2.StartSessionRequest(session_id="s", pronunciations=words)
        )
        await served.speak("_nginx_", session_id="s", text_form=tts_pb2.MARKDOWN)
        text = [chunk("*ng", text_form=tts_pb2.PLAIN, pronunciations=words), chunk("inx*")]
        async for _ in served.stub.Synthesize(_each(text), timeout=LIMIT_S):
            pass
        assert stage["a"].said == ["*engine x*", "engine x", "engine x", "*engine x*"]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (chunk("Hi.", text_form=7), "text_form 7"),
        (chunk("Hi.", pronunciations={str(n): "x" for n in range(10_000)}), "500 are allowed"),
        (chunk("Hi.", pronunciations={"a": "[[b]]"}), "phonemes"),
        (chunk("Hi.", session_id="s", pronunciations={"a": "b"}), "belong to StartSession"),
    ],
    ids=["form", "many", "phonemes", "session"],
)
async def test_words_and_forms_that_cannot_be_are_refused(
    tones: WorkerClient, first: tts_pb2.TextChunk, words: str
) -> None:
    await tones.stub.StartSession(tts_pb2.StartSessionRequest(session_id="s"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, words):
        async for _ in tones.stub.Synthesize(_each([first]), timeout=LIMIT_S):
            pass


async def _each(chunks: Sequence[tts_pb2.TextChunk]) -> AsyncIterator[tts_pb2.TextChunk]:
    for each in chunks:
        yield each


async def test_a_call_without_a_model_speaks_with_the_default(tones: WorkerClient) -> None:
    frames = await tones.speak(TEXT, sample_rate=8_000)
    assert {len(frame.audio_data) for frame in frames} == {320}
    assert tones.states == {"tone-440": "ready"}


async def test_audio_leaves_while_text_still_arrives(tones: WorkerClient) -> None:
    call = tones.stub.Synthesize(timeout=LIMIT_S)
    await call.write(chunk("The first sentence. The sec"))
    first = await call.read()
    assert first.sequence_number == 1
    assert not first.is_final
    await call.write(chunk("ond one."))
    await call.done_writing()
    rest = []
    while (frame := await call.read()) is not grpc.aio.EOF:
        rest.append(frame)
    heard_ms = 20 * (1 + len(rest))
    assert heard_ms == pytest.approx(60 * len("The first sentence.The second one."), abs=40)
    assert rest[-1].is_final


async def test_text_after_is_final_is_not_spoken(tones: WorkerClient) -> None:
    call = tones.pieces(chunk("One."), chunk("", is_final=True), chunk("And much, much more."))
    frames = [frame async for frame in call]
    assert len(frames) == pytest.approx(len("One.") * 3, abs=2)


async def test_what_was_made_before_a_bad_piece_is_heard_first(tones: WorkerClient) -> None:
    call = tones.stub.Synthesize(timeout=LIMIT_S)
    await call.write(chunk("A sentence. Another"))
    heard = 0
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "U+0007"):
        while await call.read() is not grpc.aio.EOF:
            heard += 1
            if heard == 1:
                await call.write(chunk("one \a bell."))
    assert heard == pytest.approx(len("A sentence.") * 3, abs=2)
    await until(lambda: not tones.in_use("tone-440"))


async def test_pause_holds_back_all_but_50_ms_and_resume_loses_nothing(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    await metered_worker.start("s", "b")
    reader = Reader(metered_worker.call(TEXT, session_id="s"))
    meters["b"].allow(3)
    await until(lambda: reader.audio_ms == 280)  # the 15th frame is held back
    assert await metered_worker.control("s", tts_pb2.PAUSE) == 1
    meters["b"].allow(10)
    await until(lambda: meters["b"].made >= 13)
    await metered_worker.round_trip()
    assert reader.audio_ms <= 280 + 50
    assert await metered_worker.control("s", tts_pb2.RESUME) == 1
    meters["b"].free.set()
    await reader.task
    assert reader.audio_ms == 10_000
    numbers = [frame.sequence_number for frame in reader.frames]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_stop_ends_with_one_empty_final_frame_while_the_engine_is_still_busy(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    await metered_worker.start("s", "b")
    reader = Reader(metered_worker.call(TEXT, session_id="s"))
    meters["b"].allow(3)
    await until(lambda: reader.audio_ms == 280)
    assert await metered_worker.control("s", tts_pb2.STOP) == 1
    await until(lambda: reader.frames[-1].is_final)
    assert reader.audio_ms <= 280 + 50
    assert reader.frames[-1].audio_data == b""
    assert reader.frames[-1].sequence_number == len(reader.frames)
    assert metered_worker.streams("b") == 1  # its thread is inside the engine
    meters["b"].allow(1)
    await reader.task
    assert metered_worker.streams("b") == 0
    assert metered_worker.refcount("b") == 1


async def test_stop_before_the_first_frame_ends_well(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    await metered_worker.start("s", "b")
    reader = Reader(metered_worker.call(TEXT, session_id="s"))
    await until(lambda: metered_worker.streams("b") == 1)
    await metered_worker.control("s", tts_pb2.STOP)
    meters["b"].allow(1)
    await reader.task
    assert [(f.is_final, f.audio_data, f.sequence_number) for f in reader.frames] == [
        (True, b"", 1)
    ]


async def test_stop_of_one_session_touches_no_other_and_new_ones_speak(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    for name in ("one", "two"):
        await metered_worker.start(name, "b")
    first = Reader(metered_worker.call(TEXT, session_id="one"))
    second = Reader(metered_worker.call(TEXT, session_id="two"))
    other = Reader(metered_worker.call(TEXT, model_id="b"))
    await until(lambda: metered_worker.streams("b") == 3)
    meters["b"].allow(6)
    await until(lambda: meters["b"].made == 6)
    assert await metered_worker.control("one", tts_pb2.STOP) == 1
    meters["b"].free.set()
    await asyncio.gather(first.task, second.task, other.task)
    assert first.audio_ms < 1_000
    assert second.audio_ms == other.audio_ms == 10_000
    await metered_worker.start("three", "b")
    assert len(await metered_worker.speak("Hi.", session_id="three")) == 500


async def test_control_without_a_running_stream_takes_effect_on_none(tones: WorkerClient) -> None:
    await tones.start("s")
    for command in (tts_pb2.PAUSE, tts_pb2.RESUME, tts_pb2.STOP):
        assert await tones.control("s", command) == 0
    assert len(await tones.speak("Hi.", session_id="s")) == pytest.approx(9, abs=2)


async def test_a_cancelled_call_stops_at_the_next_chunk_and_gives_its_lease_back(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    call = metered_worker.call(TEXT, model_id="b")
    meters["b"].allow(2)
    await call.read()
    await until(lambda: meters["b"].made == 2)
    assert metered_worker.refcount("b") == 1
    call.cancel()
    for _ in range(3):
        await metered_worker.round_trip()
    meters["b"].allow(1)
    await until(lambda: not metered_worker.in_use("b"))
    assert meters["b"].made in (2, 3)  # whether the third had been begun


async def test_an_exceeded_deadline_stops_the_synthesis_and_gives_the_lease_back(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    for timeout in (0.2, 2.0, 20.0):
        with refused_by_client(grpc.StatusCode.DEADLINE_EXCEEDED):
            await metered_worker.speak(TEXT, model_id="b", timeout=timeout)
        if meters["b"].asked:
            break  # else it was over before it had come to the engine
    meters["b"].allow(1)
    await until(lambda: not metered_worker.in_use("b"))
    assert meters["b"].made == 1


def refused_by_client(code: grpc.StatusCode) -> pytest.RaisesExc[grpc.aio.AioRpcError]:
    """Expect a status that the client's own gRPC made, so without details of the worker's."""
    return pytest.raises(grpc.aio.AioRpcError, check=lambda error: error.code() is code)


async def test_a_client_that_is_killed_mid_stream_gives_its_lease_back(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    script = (
        "import sys, grpc\n"
        "from greenroom.v1 import tts_pb2, tts_pb2_grpc\n"
        "stub = tts_pb2_grpc.TTSServiceStub(grpc.insecure_channel(sys.argv[1]))\n"
        "stub.StartSession(tts_pb2.StartSessionRequest(session_id='s', model_id='b'))\n"
        "chunk = tts_pb2.TextChunk(text='Hello.', is_final=True, model_id='b')\n"
        "for frame in stub.Synthesize(iter([chunk])): print(flush=True)\n"
    )
    meters["b"].allow(1)
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(metered_worker.worker.address), stdout=subprocess.PIPE
    )
    assert client.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        await client.stdout.readline()
    assert metered_worker.refcount("b") == 2
    client.kill()
    await client.communicate()
    meters["b"].free.set()
    await until(lambda: metered_worker.streams("b") == 0)
    # Its session is left to the idle limit.
    await until(lambda: metered_worker.refcount("b") == 1)


async def test_a_client_that_stops_reading_holds_seconds_of_audio_not_minutes() -> None:
    catalog, meters = metered("a", "b", chunks=10_000)
    meters["b"].free.set()
    manager = ModelManager(catalog=catalog, default_model_id="a")
    async with (
        running_worker(manager, session_idle_ms=1_000) as served,
        connected(served.worker, grpc__http2__bdp_probe=0) as slow,
    ):
        call = slow.call(TEXT, model_id="b")
        await call.read()
        await until(lambda: not served.in_use("b"))  # it was cut off for not reading
        assert meters["b"].made * 100 < 5_000
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "no audio was taken"):
            while await call.read() is not grpc.aio.EOF:
                pass


async def test_a_client_that_sends_no_text_is_cut_off(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_worker(manager, session_idle_ms=1_000) as served:
        silent = served.stub.Synthesize(timeout=LIMIT_S)
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
            await silent.read()
        begun = served.stub.Synthesize(timeout=LIMIT_S)
        await begun.write(chunk("One sentence. Another "))
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "no text came"):
            while await begun.read() is not grpc.aio.EOF:
                pass
        await until(lambda: not served.in_use("tone-440"))


async def test_a_stream_that_stays_paused_is_cut_off(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_worker(manager, session_idle_ms=1_000) as served:
        await served.start("s", "b")
        reader = Reader(served.call(TEXT, session_id="s"))
        await until(lambda: served.streams("b") == 1)
        await served.control("s", tts_pb2.PAUSE)
        meters["b"].free.set()
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "paused"):
            await reader.task
        await until(lambda: not served.in_use("b"))


async def test_an_engine_that_fails_answers_internal_and_harms_nobody_else() -> None:
    stage = Stage("a", "b")
    stage["b"].synthesize.error = ValueError("a broken engine")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        await served.start("s", "b")
        with refused(grpc.StatusCode.INTERNAL, "a broken engine"):
            await served.speak(TEXT, session_id="s")
        assert len(await served.speak(TEXT)) == 25
        stage["b"].synthesize.error = None
        assert len(await served.speak(TEXT, session_id="s")) == 25
        assert (served.refcount("b"), served.streams("b")) == (1, 0)


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Let nothing be freed but by the end of the last reference."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("end", ["well", "engine", "stop", "cancel", "text", "pause"])
async def test_however_a_stream_ends_nothing_keeps_its_unloaded_model_alive(end: str) -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    patience = {"session_idle_ms": 1_000} if end == "pause" else {}
    async with running_worker(manager, **patience) as served:
        await served.start("s", "b")
        if end in ("stop", "cancel", "pause"):
            stage["b"].synthesize.hold()
        if end == "engine":
            stage["b"].synthesize.error = ValueError
        text = "One sentence. A bell \a" if end == "text" else TEXT
        call = served.pieces(chunk("", session_id="s"), chunk(text))
        reading = Reader(call).task
        await until(lambda: served.streams("b") == 1 or reading.done())
        if end == "cancel":
            call.cancel()
        elif end in ("stop", "pause"):
            await served.control("s", getattr(tts_pb2, end.upper()))
        stage.open_all()
        await asyncio.wait([reading])
        assert reading.cancelled() or (reading.exception() is None) == (end in ("well", "stop"))
        await until(lambda: served.streams("b") == 0)
        if end != "pause":
            await served.end("s")
        await until(lambda: not served.in_use("b"))
        await served.stub.UnloadModel(tts_pb2.UnloadModelRequest(model_id="b"), timeout=LIMIT_S)
        await until(lambda: [adapter.spec.model_id for adapter in stage.living] == ["a"])


async def test_a_model_that_was_ready_took_no_time_to_load_however_late_the_answer(
    tones: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = tones.worker.synthesis.load_model

    async def load_and_dawdle(*args: Any, **options: Any) -> Any:
        loaded = await load(*args, **options)
        await asyncio.sleep(0.02)
        return loaded

    monkeypatch.setattr(tones.worker.synthesis, "load_model", load_and_dawdle)
    request = tts_pb2.LoadModelRequest(model_id="tone-220")
    assert (await tones.stub.LoadModel(request)).load_duration_ms >= 20
    assert (await tones.stub.LoadModel(request)).load_duration_ms == 0


async def test_64_callers_at_once_all_hear_everything(tones: WorkerClient) -> None:
    names = [spec.model_id for spec in tones.manager.list_catalog()]
    text = "A tone for everyone. " * 3
    alone = len(await tones.speak(text, model_id=names[0]))
    counts = await asyncio.gather(
        *(tones.speak(text, model_id=names[number % 8]) for number in range(64))
    )
    assert [len(frames) for frames in counts] == [alone] * 64
    assert all(frames[-1].is_final for frames in counts)
    assert tones.manager.statistics().loads == 8
    assert not any(tones.in_use(name) for name in names)


async def test_one_stream_more_than_allowed_is_refused_with_a_time(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_worker(manager, max_streams=2) as served:
        first, second = (Reader(served.call(TEXT, model_id=name)) for name in "ab")
        await until(lambda: served.streams("a") + served.streams("b") == 2)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "2 streams") as advice:
            await served.speak(TEXT)
        assert advice == [1.0]
        meters["a"].free.set()
        await first.task
        assert (await served.speak(TEXT))[-1].is_final
        meters["b"].free.set()
        await second.task
