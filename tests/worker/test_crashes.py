"""Engines that crash in their process while a worker serves: who notices, and what they notice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.hosts import processes
from greenroom.hosts.launcher import Launcher
from greenroom.hosts.processes import modules_of
from greenroom.speech.speaker import _BUFFER_FRAMES
from greenroom.v1 import tts_pb2
from tests.hosts.hostile_engines import HostileAdapter
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.worker_client import LIMIT_S, refused

SENTENCE_FRAMES = 50
"""The hostile engine speaks a second for each sentence."""

CRASH = {"at": "speak", "deed": "segmentation fault"}


@pytest.fixture
def once(tmp_path: Path) -> Path:
    """As long as this file is there, the model `once` crashes."""
    path = tmp_path / "crash"
    path.touch()
    return path


@pytest.fixture(scope="module")
def shared_launcher() -> Iterator[Launcher]:
    """One fork server for all tests: to start it takes longer than most of them."""
    launcher = Launcher(modules_of([HostileAdapter]))
    launcher.start()
    yield launcher
    launcher.close()


@pytest.fixture
async def worker(
    once: Path, shared_launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HttpClient]:
    """A worker with an engine that crashes: `once`, `always`, or as it is told."""
    monkeypatch.setattr(shared_launcher, "close", lambda: None)
    monkeypatch.setattr(processes, "Launcher", lambda _: shared_launcher)
    options: dict[str, dict[str, Any]] = {
        "told": {},
        "once": {**CRASH, "once": str(once)},
        "always": CRASH,
        "default": {},
    }
    specs = [
        ModelSpec(name, HostileAdapter, options=given, isolation="model")
        for name, given in options.items()
    ]
    manager = ModelManager(catalog=Catalog(specs), default_model_id="default", resident_cap=4)
    async with running_http_worker(manager) as served:
        yield served


def kill(worker: HttpClient, name: str) -> None:
    """Kill the process of a model."""
    (process,) = [p for p in worker.manager._effects.processes.all if p.name == name]
    os.kill(process.pid, signal.SIGKILL)


def speech(text: str, model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "voice": model, "input": text, "response_format": "pcm", **more}


async def test_a_speech_that_sent_nothing_is_spoken_again_by_the_model_loaded_afresh(
    worker: HttpClient, once: Path
) -> None:
    answer = await worker.post("/v1/audio/speech", speech("first.", "once"))
    assert answer.status_code == 200
    assert len(answer.content) == 2 * 24_000
    assert not once.exists()
    assert not worker.served.in_use("once")


async def test_text_that_came_in_pieces_is_spoken_again_from_its_first_piece(
    worker: HttpClient, once: Path
) -> None:
    async def pieces() -> AsyncIterator[tts_pb2.TextChunk]:
        for text in ("fir", "st of all. One thing. "):
            yield tts_pb2.TextChunk(text=text, model_id="once")
        await until(lambda: not once.exists())
        yield tts_pb2.TextChunk(text="Two things. ", model_id="once")
        yield tts_pb2.TextChunk(text="Three things.", model_id="once", is_final=True)

    frames = [frame async for frame in worker.served.stub.Synthesize(pieces(), timeout=LIMIT_S)]
    assert len(frames) == 4 * SENTENCE_FRAMES
    assert [frame.is_final for frame in frames[-2:]] == [False, True]


async def test_a_speech_is_tried_once_more_and_not_again(worker: HttpClient) -> None:
    worker.manager._ledger.backoff._first = 60.0
    answer = await worker.post("/v1/audio/speech", speech("first.", "always"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_crashed")
    assert "killed by SIGSEGV" in answer.json()["error"]["message"]
    assert worker.manager.statistics().departures["crashed"] == 2
    answer = await worker.post("/v1/audio/speech", speech("first.", "always"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_load_failed")
    assert int(answer.headers["retry-after"]) >= 1
    with refused(grpc.StatusCode.UNAVAILABLE, "killed by SIGSEGV") as advice:
        await worker.served.speak("first.", model_id="always")
    assert advice


async def test_a_speech_that_was_heard_ends_with_the_crash_as_its_error(worker: HttpClient) -> None:
    frames: list[tts_pb2.AudioFrame] = []
    call = worker.served.call("abort", model_id="told")
    with refused(grpc.StatusCode.UNAVAILABLE, "model 'told' broke off", "killed by SIGABRT"):
        while (frame := await call.read()) is not grpc.aio.EOF:
            frames.append(frame)
    assert len(frames) == 4, "the 100 ms before the crash, less what the resampler holds back"
    assert not any(frame.is_final for frame in frames)
    assert len(await worker.served.speak("Hello.", model_id="told")) == SENTENCE_FRAMES


async def test_an_answer_that_has_begun_is_cut_off_or_says_why(worker: HttpClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        await worker.post("/v1/audio/speech", speech("abort", "told"))
    answer = await worker.post("/v1/audio/speech", speech("abort", "told", stream_format="sse"))
    assert answer.status_code == 200
    *_, last = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert '"code":"engine_crashed"' in last.replace(" ", "")


async def test_a_session_outlives_the_crash_of_its_model(worker: HttpClient) -> None:
    await worker.served.start("s", "told")
    kill(worker, "told")
    await until(lambda: "told" not in worker.served.states)
    for _ in range(2):
        assert len(await worker.served.speak("Hello.", session_id="s")) == SENTENCE_FRAMES
    assert worker.served.refcount("told") == 1
    await worker.served.end("s")
    assert worker.served.refcount("told") == 0
    assert worker.manager._ledger._lost == {}


async def test_a_word_in_the_midst_of_a_crash_is_spoken_with_the_session_s_new_lease(
    worker: HttpClient, once: Path
) -> None:
    await worker.served.start("s", "once")
    both = [worker.served.speak("first.", session_id="s") for _ in range(2)]
    assert [len(frames) for frames in await asyncio.gather(*both)] == [SENTENCE_FRAMES] * 2
    assert worker.served.refcount("once") == 1


async def test_a_session_stays_though_its_model_cannot_be_loaded_afresh_yet(
    worker: HttpClient,
) -> None:
    backoff = worker.manager._ledger.backoff
    backoff._first = 60.0
    await worker.served.start("s", "always")
    with refused(grpc.StatusCode.UNAVAILABLE, "killed by SIGSEGV"):
        await worker.served.speak("first.", session_id="s")
    with refused(grpc.StatusCode.UNAVAILABLE, "next try in"):
        await worker.served.speak("Hello.", session_id="s")
    assert len(worker.served.worker.synthesis._sessions) == 1

    backoff._failures["always"].retry_at = 0.0  # the wait is over
    assert len(await worker.served.speak("Hello.", session_id="s")) == SENTENCE_FRAMES
    assert worker.served.refcount("always") == 1


async def test_a_listener_who_rests_does_not_hold_up_the_next_load(worker: HttpClient) -> None:
    await worker.served.start("s", "told")
    call = worker.served.call("One thing. " * 30, session_id="s")
    await call.read()
    await worker.served.control("s", tts_pb2.PAUSE)
    (speech,) = worker.served.worker.synthesis._speeches
    stream = speech._stream
    assert stream is not None
    await until(lambda: len(stream._speaker._frames) > _BUFFER_FRAMES)
    kill(worker, "told")
    assert len(await worker.served.speak("Hello.", model_id="told")) == SENTENCE_FRAMES
    await worker.served.control("s", tts_pb2.RESUME)
    with refused(grpc.StatusCode.UNAVAILABLE, "killed by SIGKILL"):
        while await call.read() is not grpc.aio.EOF:
            pass


async def test_a_speech_that_waits_for_its_text_goes_on_with_the_model_loaded_afresh(
    worker: HttpClient,
) -> None:
    async def pieces() -> AsyncIterator[tts_pb2.TextChunk]:
        yield tts_pb2.TextChunk(text="Then ", model_id="told")
        await until(lambda: worker.served.streams("told"))
        kill(worker, "told")
        await until(lambda: worker.manager.statistics().departures.get("crashed"))
        await until(lambda: worker.served.streams("told"))
        yield tts_pb2.TextChunk(text="we go. ", model_id="told")
        yield tts_pb2.TextChunk(text="And stay.", model_id="told", is_final=True)

    frames = [frame async for frame in worker.served.stub.Synthesize(pieces(), timeout=LIMIT_S)]
    assert len(frames) == 2 * SENTENCE_FRAMES


async def test_where_a_model_lives_is_told_by_every_protocol(worker: HttpClient) -> None:
    await worker.done("/api/load", {"model": "told"})
    kill(worker, "told")
    await until(lambda: "told" not in worker.served.states)
    await worker.done("/api/load", {"model": "told"})
    (pid,) = [p.pid for p in worker.manager._effects.processes.all if p.name == "told"]

    def process() -> Any:
        (found,) = [r for r in worker.manager.list_resident() if r.model_id == "told"]
        return found.process

    await until(lambda: process().memory_mb is not None)
    assert (process().name, process().pid, process().restarts) == ("told", pid, 1)
    assert 1 < process().memory_mb < 1_000
    models = (await worker.get("/api/ps"))["models"]
    (over_http,) = [each["process"] for each in models if each["model"] == "told"]
    assert (over_http["name"], over_http["pid"], over_http["restarts"]) == ("told", pid, 1)
    assert over_http["memory"] > 1_000_000
    assert over_http["age_s"] > 0
    answer = await worker.served.stub.ListModels(tts_pb2.ListModelsRequest(model_id="told"))
    over_grpc = answer.models[0].resident.process
    assert (over_grpc.name, over_grpc.pid, over_grpc.restarts) == ("told", pid, 1)
    assert over_grpc.memory_mb > 1
    assert f"lives in process told (pid {pid}), " in answer.models[0].explanation
    assert "crashed: it was killed by SIGKILL" in answer.models[0].explanation
    figures = await worker.figures()
    assert figures["engine_processes"] == 2
    assert figures['engine_process_memory_bytes{process="told"}'] > 1_000_000
    assert figures['engine_process_restarts{process="told"}'] == 1
    assert figures['engine_crashes_total{adapter="HostileAdapter",how="signal"}'] == 1
    assert figures['engine_crashes_total{adapter="HostileAdapter",how="time_limit"}'] == 0
    assert figures['departures_total{reason="crashed"}'] == 1
    crash = {"adapter": "HostileAdapter", "how": "signal", "count": 1}
    assert (await worker.get("/api/ps"))["crashes"] == [crash]
