"""A worker in this process and a caller of it over loopback, for the tests of the worker."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from greenroom import AudioChunk, Catalog, ModelManager, ModelSpec, TTSAdapter
from greenroom.config.schema import Config
from greenroom.v1 import tts_pb2, tts_pb2_grpc
from greenroom.worker.app import Worker

LIMIT_S = 30.0
FRAME_BYTES = 1_920  # 20 ms at 48 kHz


class Meter:
    """How much a metered model may speak, and how much it has spoken."""

    def __init__(self) -> None:
        self.made = 0
        """Chunks of 100 ms."""
        self.asked = 0
        """Chunks that were made or are waited for."""
        self.free = threading.Event()
        """Set: every chunk passes."""
        self._permits = threading.Semaphore(0)

    def allow(self, chunks: int) -> None:
        """Let that many more chunks pass."""
        self._permits.release(chunks)

    def take(self) -> None:
        """Wait for a permit, in the engine's thread."""
        self.asked += 1
        for _ in range(int(LIMIT_S / 0.02)):
            if self.free.is_set() or self._permits.acquire(timeout=0.02):
                self.made += 1
                return
        raise TimeoutError("nobody allowed a chunk")


def metered(*names: str, chunks: int = 100) -> tuple[Catalog, dict[str, Meter]]:
    """Return models that speak a chunk of 100 ms for every permit, at most `chunks` of them."""
    meters = {name: Meter() for name in names}

    class Metered(TTSAdapter):
        concurrency: ClassVar[int | None] = None
        sample_rate = 48_000
        warm = False

        def load(self) -> None:
            pass

        def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
            warm, self.warm = self.warm, True
            for _ in range(chunks if warm else 1):
                if warm:
                    meters[self.spec.model_id].take()
                yield AudioChunk(np.full(4_800, 0.5, np.float32), 48_000)

        def unload(self) -> None:
            pass

    return Catalog([ModelSpec(name, Metered) for name in names]), meters


class WorkerClient:
    """A running worker, and one client's connection to it."""

    def __init__(self, worker: Worker, channel: grpc.aio.Channel) -> None:
        self.worker = worker
        self.manager = worker.manager
        self.channel = channel
        self.stub: Any = tts_pb2_grpc.TTSServiceStub(channel)

    async def start(self, session_id: str = "", model_id: str = "", **more: Any) -> Any:
        request = tts_pb2.StartSessionRequest(session_id=session_id, model_id=model_id, **more)
        return await self.stub.StartSession(request, timeout=LIMIT_S)

    async def end(self, session_id: str) -> None:
        await self.stub.EndSession(tts_pb2.EndSessionRequest(session_id=session_id))

    async def control(self, session_id: str, command: Any) -> int:
        request = tts_pb2.ControlRequest(session_id=session_id, command=command)
        return int((await self.stub.Control(request, timeout=LIMIT_S)).streams)

    def call(self, text: str, *, timeout: float = 120.0, **first: Any) -> Any:
        """Begin to speak the whole `text`."""
        return self.pieces(tts_pb2.TextChunk(text=text, is_final=True, **first), timeout=timeout)

    def pieces(self, *chunks: tts_pb2.TextChunk, timeout: float = 120.0) -> Any:
        """Begin to speak chunks."""
        return self.stub.Synthesize(_each(chunks), timeout=timeout)

    async def speak(self, text: str, **first: Any) -> list[tts_pb2.AudioFrame]:
        """Speak the whole `text` and return all its frames."""
        return [frame async for frame in self.call(text, **first)]

    async def round_trip(self) -> None:
        """Return when everything sent before has arrived: one connection keeps the order."""
        await self.stub.GetCapabilities(tts_pb2.GetCapabilitiesRequest(), timeout=LIMIT_S)

    async def round_trip_with(self, metadata: Any) -> None:
        """Return when everything sent before has arrived, for a caller with a key."""
        await self.stub.ListModels(tts_pb2.ListModelsRequest(), metadata=metadata, timeout=LIMIT_S)

    def refcount(self, model_id: str) -> int:
        return sum(r.refcount for r in self.manager.list_resident() if r.model_id == model_id)

    def streams(self, model_id: str) -> int:
        return sum(r.streams for r in self.manager.list_resident() if r.model_id == model_id)

    def in_use(self, model_id: str) -> bool:
        return bool(self.refcount(model_id) or self.streams(model_id))

    @property
    def states(self) -> dict[str, str]:
        return {r.model_id: str(r.state) for r in self.manager.list_resident()}


async def _each(chunks: Sequence[tts_pb2.TextChunk]) -> AsyncIterator[tts_pb2.TextChunk]:
    for chunk in chunks:
        yield chunk


@contextlib.asynccontextmanager
async def connected(worker: Worker, **options: Any) -> AsyncIterator[WorkerClient]:
    """Connect one more client."""
    pairs = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    pairs += [(key.replace("__", "."), value) for key, value in options.items()]
    async with grpc.aio.insecure_channel(str(worker.address), options=pairs) as channel:
        yield WorkerClient(worker, channel)


@contextlib.asynccontextmanager
async def running_worker(manager: ModelManager, **settings: Any) -> AsyncIterator[WorkerClient]:
    """Serve a manager that is not initialized yet; `settings` are those of the worker."""
    defaults = {"listen": "127.0.0.1:0", "http_listen": None, "drain_timeout_ms": 0}
    config = Config(worker={**defaults, **settings})
    worker = await asyncio.to_thread(Worker, config, manager)
    await worker.listen()
    try:
        await worker.initialize()
        async with connected(worker) as served:
            yield served
    finally:
        await worker.stop()


@contextlib.contextmanager
def refused(code: grpc.StatusCode, *words: str) -> Iterator[list[float]]:
    """Expect a status, with the words in its message; the list gets its RetryInfo in seconds."""
    advice: list[float] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield advice
    error = caught.value
    assert error.code() is code, error
    for word in words:
        assert word in (error.details() or ""), error
    advice += retry_info(error)


def retry_info(error: grpc.aio.AioRpcError) -> list[float]:
    """Return the seconds of the RetryInfo of an error's status, if it has one."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = rpc_status.status_pb2.Status.FromString(value)
            assert status.code == error.code().value[0]
            assert status.message == error.details()
            found = error_details_pb2.RetryInfo()
            return [
                found.retry_delay.ToNanoseconds() / 1e9
                for detail in status.details
                if detail.Unpack(found)
            ]
    raise AssertionError(f"no google.rpc.Status with {error!r}")
