"""The worker as a process: where it listens, how it starts, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from greenroom import Catalog, ConfigError, ModelLoadError, ModelManager
from greenroom.config.schema import Config
from greenroom.errors import WorkerError
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2, tts_pb2_grpc
from greenroom.worker.app import Worker, serve
from greenroom.worker.client import Client
from tests.installed_adapter import install_adapter
from tests.waiting import until
from tests.worker.worker_client import LIMIT_S, connected

SCRIPT = """
import asyncio, json, logging, sys
from greenroom.config.schema import load_config
from greenroom.worker.app import serve
logging.basicConfig(level=logging.INFO)
def tell(worker):
    print(worker.address, flush=True)
asyncio.run(serve(load_config(None, json.loads(sys.argv[1])), tell))
"""
SLOW_TONE = """
import os, time
from greenroom.adapters.tone import ToneTTSAdapter
class SlowTone(ToneTTSAdapter):
    @classmethod
    def discover(cls, directories):
        return ()
    def synthesize(self, text, options):
        for chunk in super().synthesize(text, options):
            time.sleep(0.05)
            yield chunk
        while text.startswith("Hold") and not os.path.exists(os.environ["LET_GO"]):
            time.sleep(0.01)
"""


async def worker_on(catalog: Catalog, listen: str) -> Worker:
    default = next(iter(catalog)).model_id
    manager = ModelManager(catalog=catalog, default_model_id=default)
    settings = {"listen": listen, "http_listen": None, "drain_timeout_ms": 0}
    config = Config(worker={**settings, "allow_unauthenticated": True})
    return await asyncio.to_thread(Worker, config, manager)


async def test_port_zero_is_told_as_the_real_port(tone_catalog: Catalog) -> None:
    worker = await worker_on(tone_catalog, "127.0.0.1:0")
    await worker.listen()
    assert worker.address.port > 0
    async with Client(str(worker.address)) as client:
        assert (await client.capabilities()).default_model_id == "tone-220"
    await worker.stop()


async def test_an_address_in_use_is_one_sentence(tone_catalog: Catalog) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        worker = await worker_on(tone_catalog, address)
        with pytest.raises(ConfigError, match=f"listen on {address}: address already in use"):
            await worker.listen()
        await worker.stop()


async def test_two_workers_do_not_share_a_port(tone_catalog: Catalog) -> None:
    first = await worker_on(tone_catalog, "127.0.0.1:0")
    await first.listen()
    second = await worker_on(tone_catalog, str(first.address))
    with pytest.raises(ConfigError, match="in use"):
        await second.listen()
    for worker in (second, first):
        await worker.stop()


async def test_a_unix_socket_serves_is_not_taken_over_and_may_be_left_behind(
    tone_catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    first = await worker_on(tone_catalog, f"unix:{path}")
    await first.listen()
    second = await worker_on(tone_catalog, f"unix:{path}")
    with pytest.raises(ConfigError, match="another worker serves it"):
        await second.listen()
    async with Client(f"unix:{path}") as client:
        assert len((await client.list_models()).models) == 8
    for worker in (second, first):
        await worker.stop()


async def test_a_file_in_the_place_of_the_socket_is_left_alone(
    tone_catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    worker = await worker_on(tone_catalog, f"unix:{path}")
    with pytest.raises(ConfigError, match="in use"):
        await worker.listen()
    assert path.read_text() == "data"
    await worker.stop()


@pytest.mark.parametrize(("listen", "warned"), [("127.0.0.1:0", False), ("0.0.0.0:0", True)])
async def test_listening_beyond_this_machine_warns_once(
    tone_catalog: Catalog, caplog: pytest.LogCaptureFixture, listen: str, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING, "greenroom"):
        worker = await worker_on(tone_catalog, listen)
        await worker.listen()
        await worker.stop()
    warnings = [r.getMessage() for r in caplog.records if "without authentication" in r.msg]
    assert len(warnings) == warned


async def test_an_address_is_refused_before_the_default_is_loaded() -> None:
    stage = Stage("a")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        worker = await worker_on(stage.catalog, f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError):
            await worker.listen()
        await worker.stop()
    assert not stage["a"].calls


async def test_serve_raises_what_the_start_raises_and_lets_go_of_the_port(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"")
    broken = {"model_id": "broken", "adapter": "piper", "path": str(tmp_path / "broken.onnx")}
    config = Config(
        model_manager={"default_model_id": "broken"},
        models=[broken],
        worker={"listen": "127.0.0.1:0", "http_listen": None},
    )
    addresses: list[str] = []
    with pytest.raises(ModelLoadError, match=r"broken\.onnx\.json"):
        await serve(config, listening=lambda worker: addresses.append(str(worker.address)))
    async with Client(addresses[0]) as client:
        with pytest.raises(WorkerError, match="no worker answers"):
            await client.list_models()


async def answer(call: Awaitable[Any]) -> str:
    """Return the code that a call is answered with."""
    try:
        await call
    except WorkerError as error:
        return error.code
    return "OK"


class Child:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address

    async def ended(self) -> str:
        """Wait for the end; return what it logged."""
        async with asyncio.timeout(LIMIT_S):
            _, log = await self.process.communicate()
        return log.decode()


@contextlib.asynccontextmanager
async def child(tmp_path: Path, **worker: Any) -> AsyncIterator[Child]:
    """Run `serve` with a tone that takes half as long as it sounds."""
    install_adapter(tmp_path, "slow-tone", "SlowTone", SLOW_TONE)
    overrides = {
        "model_manager": {"default_model_id": "slow"},
        "models": [{"model_id": "slow", "adapter": "slow-tone"}],
        "worker": {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", **worker},
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, json.dumps(overrides)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "LET_GO": str(tmp_path / "go")},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(2 * LIMIT_S):
            address = (await process.stdout.readline()).decode().strip()
        yield Child(process, address)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_signal_lets_running_speech_end_and_refuses_new_calls(tmp_path: Path) -> None:
    settings = {"drain_timeout_ms": 60_000}
    async with (
        child(tmp_path, **settings) as worker,
        grpc.aio.insecure_channel(worker.address) as channel,
    ):
        stub: Any = tts_pb2_grpc.TTSServiceStub(channel)
        chunk = tts_pb2.TextChunk(text="Hold it. Go on.", is_final=True)
        call = stub.Synthesize(iter([chunk]), timeout=LIMIT_S)
        frames = [await call.read()]
        worker.process.send_signal(signal.SIGTERM)
        code = None
        while code is not grpc.StatusCode.UNAVAILABLE:
            load = stub.LoadModel(tts_pb2.LoadModelRequest(), timeout=LIMIT_S)
            code = await load.code()
        assert "shutting down" in await load.details()
        (tmp_path / "go").touch()
        while (frame := await call.read()) is not grpc.aio.EOF:
            frames.append(frame)
        assert frames[-1].is_final
        assert len(frames) == pytest.approx(3 * len("Hold it.Go on."), abs=4)
        assert await call.code() is grpc.StatusCode.OK
        log = await worker.ended()
    assert worker.process.returncode == 0
    assert "Traceback" not in log


async def test_speech_that_outlasts_the_drain_is_cut_off_as_unavailable(tmp_path: Path) -> None:
    async with child(tmp_path, drain_timeout_ms=200) as worker:
        async with Client(worker.address) as client:
            speech = client.speak("A very long sentence. " * 200)
            await anext(speech)
            worker.process.send_signal(signal.SIGTERM)
            with pytest.raises(WorkerError, match="shutting down") as caught:
                async for _ in speech:
                    pass
        assert caught.value.code == "UNAVAILABLE"
        log = await worker.ended()
    assert worker.process.returncode == 0
    assert "1 streams are cut off" in log


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    async with child(tmp_path, drain_timeout_ms=600_000) as worker:
        async with Client(worker.address) as client:
            speech = client.speak("A very long sentence. " * 200)
            await anext(speech)
            worker.process.send_signal(signal.SIGINT)
            while await answer(client.load("slow")) != "UNAVAILABLE":
                pass
            worker.process.send_signal(signal.SIGINT)
            with pytest.raises(WorkerError):
                async for _ in speech:
                    pass
        log = await worker.ended()
    assert worker.process.returncode == 0
    assert "stopping at once" in log
    assert "Traceback" not in log


async def test_a_signal_during_the_start_ends_it() -> None:
    stage = Stage("a")
    stage["a"].load.hold()
    worker = await worker_on(stage.catalog, "127.0.0.1:0")
    await worker.listen()
    starting = asyncio.create_task(worker.initialize())
    await until(lambda: stage["a"].load.waiting == 1)
    starting.cancel()
    stage.open_all()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await worker.stop()
    assert not stage.living


async def test_drain_waits_for_speech_and_ends_idle_sessions_at_once() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    config = Config(
        worker={"listen": "127.0.0.1:0", "http_listen": None, "drain_timeout_ms": 10_000}
    )
    worker = await asyncio.to_thread(Worker, config, manager)
    await worker.listen()
    await worker.initialize()
    async with connected(worker) as served:
        await served.start("idle", "b")
        await served.start("busy", "a")
        stage["a"].synthesize.hold()
        speech = asyncio.create_task(served.speak("Hi.", session_id="busy"))
        await until(lambda: served.streams("a") == 1)
        stopping = asyncio.create_task(worker.stop())
        await until(lambda: served.refcount("b") == 0)
        assert served.refcount("a") == 1
        stage.open_all()
        assert len(await speech) == 25
        await stopping
    assert manager.list_resident() == ()
    assert not stage.living
