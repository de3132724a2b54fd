"""What an engine, a thread, or a source of text may do to a stream: typed, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from greenroom import Catalog, ModelManager, ModelSpec, SynthesisError
from greenroom.adapter import TTSAdapter
from greenroom.audio.frames import AudioChunk
from greenroom.errors import WarmupError
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

RATE = 16_000
GOOD = AudioChunk(np.full(1_600, 0.5, np.float32), RATE)
FLOATS = np.full(1_600, 0.5, np.float32)


class Playing(TTSAdapter):
    """Yields what a test gave it; an error in the list is raised."""

    concurrency = None
    sample_rate = RATE
    script: list[Any]
    warm: list[Any]

    def load(self) -> None:
        """Load nothing."""

    def unload(self) -> None:
        """Unload nothing."""

    def warm_up(self, text: str) -> Iterator[AudioChunk]:
        return self._play(self.warm)

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        return self._play(self.script)

    def _play(self, script: list[Any]) -> Iterator[AudioChunk]:
        for each in script:
            if isinstance(each, BaseException):
                raise each
            yield each


@pytest.fixture
async def manager() -> AsyncIterator[ModelManager]:
    Playing.script, Playing.warm = [GOOD], [GOOD]
    catalog = Catalog([ModelSpec("a", Playing), ModelSpec("b", Playing)])
    made = ModelManager(
        catalog=catalog,
        default_model_id="a",
        min_residency_ms=0,
        load_timeout_ms=5_000,
        synthesis_timeout_ms=5_000,
    )
    await made.initialize()
    yield made
    await made.shutdown(drain_timeout_ms=0)


def streams(manager: ModelManager, model_id: str = "a") -> int:
    return next(r.streams for r in manager.list_resident() if r.model_id == model_id)


NO_AUDIO = [
    (None, "NoneType"),
    (FLOATS, "ndarray"),
    (b"pcm", "bytes"),
    (AudioChunk(np.full(1_600, 20_000, np.int16), RATE), "int16"),
    (AudioChunk(np.full(1_600, True), RATE), "bool"),
    (AudioChunk([0.5] * 1_600, RATE), "list"),  # type: ignore[arg-type]
    (AudioChunk(np.full((2, 800), 0.5, np.float32), RATE), "shape"),
    (AudioChunk(np.full((800, 1), 0.5, np.float32), RATE), "shape"),
    (AudioChunk(np.full(1_600, np.nan, np.float32), RATE), "not numbers"),
    (AudioChunk(np.full(1_600, 1e300, np.float64), RATE), "not numbers"),
]


@pytest.mark.parametrize(("chunk", "message"), NO_AUDIO)
async def test_what_is_no_audio_ends_the_stream_with_an_error_after_what_was_heard(
    manager: ModelManager, chunk: Any, message: str
) -> None:
    adapter = await manager.load("a")
    Playing.script = [GOOD, chunk, GOOD]
    stream = adapter.synthesize_stream("Hello there.")
    await anext(stream)
    with pytest.raises(SynthesisError, match=message):
        async for _ in stream:
            pass
    assert streams(manager) == 0


@pytest.mark.parametrize(("chunk", "message"), NO_AUDIO)
async def test_what_is_no_audio_fails_the_warmup(
    manager: ModelManager, chunk: Any, message: str
) -> None:
    Playing.warm = [GOOD, chunk]
    with pytest.raises(WarmupError, match=message):
        await manager.load("b")


async def test_whole_numbers_written_as_float32_fail_the_warmup(manager: ModelManager) -> None:
    Playing.warm = [AudioChunk(np.full(1_600, 20_000, np.float32), RATE)]
    with pytest.raises(WarmupError, match=r"\[-1, 1\]"):
        await manager.load("b")


async def test_chunks_without_samples_are_no_speech(manager: ModelManager) -> None:
    adapter = await manager.load("a")
    Playing.script = [AudioChunk(np.zeros(0, np.float32), RATE)] * 3
    with pytest.raises(SynthesisError, match="no audio"):
        async for _ in adapter.synthesize_stream("Hello there."):
            pass
    assert streams(manager) == 0


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("the GPU"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopAsyncIteration(),
        MemoryError(),
    ],
)
async def test_what_an_engine_raises_is_told_as_its_own(
    manager: ModelManager, error: BaseException
) -> None:
    adapter = await manager.load("a")
    Playing.script = [GOOD, error]
    with pytest.raises(SynthesisError, match=f"failed: {type(error).__name__}") as raised:
        async for _ in adapter.synthesize_stream("Hello there."):
            pass
    assert "was not free" not in str(raised.value)
    assert streams(manager) == 0


async def test_an_error_that_cannot_be_told_ends_only_its_stream(manager: ModelManager) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    adapter = await manager.load("a")
    Playing.script = [MuteError()]
    with pytest.raises(SynthesisError, match="MuteError: its text cannot be told"):
        await anext(adapter.synthesize_stream("Hello there."))
    assert streams(manager) == 0


async def test_a_sentence_without_end_is_ended(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.speech.sentence._MOST_EMPTY", 20)
    adapter = await manager.load("a")
    Playing.script = [AudioChunk(np.zeros(0, np.float32), RATE)] * 30
    with pytest.raises(SynthesisError, match="does not come to the end"):
        await anext(adapter.synthesize_stream("Hello there."))
    monkeypatch.setattr("greenroom.speech.sentence._MOST_SECONDS", 1)
    Playing.script = [GOOD] * 20
    with pytest.raises(SynthesisError, match="does not come to the end"):
        async for _ in adapter.synthesize_stream("Hello there."):
            pass


async def test_an_engine_that_makes_empty_chunks_for_a_minute_is_ended(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    clock = SimpleNamespace(perf_counter=lambda: now, thread_time=lambda: now)
    monkeypatch.setattr("greenroom.speech.sentence.time", clock)
    empty = AudioChunk(np.zeros(0, np.float32), RATE)

    def play(self: Playing, script: list[AudioChunk]) -> Iterator[AudioChunk]:
        nonlocal now
        for chunk in script:
            now += 25.0
            yield chunk

    adapter = await manager.load("a")
    monkeypatch.setattr(Playing, "_play", play)
    Playing.script = [GOOD, empty, empty, GOOD] * 3
    assert [frame async for frame in adapter.synthesize_stream("Hello there.")]
    Playing.script = [GOOD, empty, empty, empty, GOOD]
    with pytest.raises(SynthesisError, match="made no audio for 60 s"):
        async for _ in adapter.synthesize_stream("Hello there."):
            pass


async def test_a_warmup_without_end_is_ended_and_its_generator_closed(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def without_end(self: Playing, text: str) -> Iterator[AudioChunk]:
        try:
            while True:
                yield GOOD
        finally:
            ended.set()

    monkeypatch.setattr(Playing, "warm_up", without_end)
    with pytest.raises(WarmupError, match="do not end"):
        await manager.load("b")
    assert ended.is_set()


async def test_a_warmup_that_outlasts_its_limit_is_ended_and_its_generator_closed(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch, clock: VirtualTimeLoop
) -> None:
    from greenroom import LoadTimeoutError
    from greenroom.testing import Gate

    gate, ended = Gate(), threading.Event()
    gate.hold()

    def without_end(self: Playing, text: str) -> Iterator[AudioChunk]:
        try:
            while True:
                gate.go_through()
                yield AudioChunk(np.zeros(0, np.float32), RATE)
        finally:
            ended.set()

    monkeypatch.setattr(Playing, "warm_up", without_end)
    loading = asyncio.create_task(manager.load("b"))
    await clock.advance(5.1)
    with pytest.raises(LoadTimeoutError):
        await loading
    gate.open()
    await clock.settle()
    assert ended.is_set()
    assert [r.model_id for r in manager.list_resident()] == ["a"]


async def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("greenroom.concurrency.threads._Worker.start", refuse)


async def test_a_stream_without_a_thread_ends_typed_and_gives_everything_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, clock: VirtualTimeLoop
) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", min_residency_ms=0)
    await manager.initialize()
    adapter = await manager.load("a")
    with monkeypatch.context() as patch:
        await no_threads(patch)
        for _ in range(40):  # more than there are places
            with pytest.raises(SynthesisError, match="no thread can be started"):
                await anext(adapter.synthesize_stream("Hello there."))
        assert streams(manager) == 0
    assert len([f async for f in adapter.synthesize_stream("Hello there.")]) == 25
    await manager.release("a")
    await manager.shutdown()


@pytest.mark.parametrize("used", [False, True])
async def test_a_stream_that_was_made_in_a_thread_counts_until_it_is_dropped(
    manager: ModelManager, clock: VirtualTimeLoop, used: bool
) -> None:
    adapter = await manager.load("a")
    stream = await asyncio.to_thread(adapter.synthesize_stream, "Hello there.")
    await asyncio.sleep(0)
    assert streams(manager) == 1
    if used:
        assert len([frame async for frame in stream]) == 5
    dropped = threading.Event()  # the thread that made it may hold it a moment longer
    weakref.finalize(stream, dropped.set)
    del stream
    assert await asyncio.to_thread(dropped.wait, 10)
    await clock.settle()
    assert streams(manager) == 0


def test_a_stream_that_was_made_outside_a_running_loop_counts_until_it_is_dropped() -> None:
    stage = Stage("a")
    loop = VirtualTimeLoop()
    try:
        manager = ModelManager(catalog=stage.catalog, default_model_id="a")
        loop.run_until_complete(manager.initialize())
        adapter = loop.run_until_complete(manager.load("a"))
        stream = adapter.synthesize_stream("Hello there.")
        assert streams_in(loop, manager) == 1
        del stream
        assert streams_in(loop, manager) == 0
        loop.run_until_complete(manager.shutdown(drain_timeout_ms=0))
    finally:
        loop.close()


def streams_in(loop: VirtualTimeLoop, manager: ModelManager) -> int:
    async def look() -> int:
        await asyncio.sleep(0)
        return streams(manager)

    return loop.run_until_complete(look())


class Stubborn:
    """A source of text that takes no notice of being cancelled, nor closes."""

    def __init__(self) -> None:
        self.free = asyncio.Event()

    def __aiter__(self) -> Stubborn:
        return self

    async def __anext__(self) -> str:
        while not self.free.is_set():
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                continue
        return "More of it. "

    async def aclose(self) -> None:
        await self.free.wait()


async def test_a_source_of_text_that_never_ends_holds_no_model(
    manager: ModelManager, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = await manager.load("a")
    source = Stubborn()
    stream = adapter.synthesize_stream(source)
    waiting = asyncio.create_task(anext(stream))
    await clock.settle()
    stream.stop()
    await clock.settle()
    assert streams(manager) == 0
    assert isinstance(waiting.exception(), StopAsyncIteration)
    closing = asyncio.create_task(stream.aclose())
    await clock.advance(2.1)
    await closing
    assert "a source of text is left behind" in caplog.text
    source.free.set()
    await clock.settle()


async def test_what_a_thread_that_was_written_off_raises_in_the_end_is_nobodys_surprise(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    unseen: list[dict[str, Any]] = []
    clock.set_exception_handler(lambda _, context: unseen.append(context))
    async with ModelManager(catalog=stage.catalog, default_model_id="a") as manager:
        stage["a"].synthesize.hold()
        adapter = await manager.load("a")
        speaking = asyncio.ensure_future(anext(adapter.synthesize_stream("Hello.")))
        await clock.advance(61)
        with pytest.raises(SynthesisError, match="made no audio within"):
            await speaking
        stage["a"].synthesize.error = RuntimeError("too late")
        stage["a"].synthesize.open()
        await clock.settle()
        assert streams(manager) == 0
        await manager.release("a")
        del adapter, speaking
        gc.collect()
    assert not unseen


async def test_a_source_of_text_that_cancels_itself_ends_the_stream_with_an_error(
    manager: ModelManager,
) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "One sentence. And"
        raise asyncio.CancelledError

    adapter = await manager.load("a")
    stream = adapter.synthesize_stream(broken())
    with pytest.raises(SynthesisError, match="the source of text broke off"):
        async for _ in stream:
            pass
    await manager.release("a")
