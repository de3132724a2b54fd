"""Sentences of one engine are kept apart: a turn lasts from the first step to the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from greenroom import Catalog, ModelManager, ModelSpec, SynthesisError
from greenroom.adapter import TTSAdapter
from greenroom.audio.frames import AudioChunk
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

RATE = 16_000


class Locking(TTSAdapter):
    """Holds a lock while it speaks a sentence, and writes down who is inside."""

    concurrency: ClassVar[int | None] = 1
    sample_rate = RATE
    looks_ahead = True
    lock = threading.Lock()
    happened: ClassVar[list[str]] = []
    chunks: ClassVar[int] = 3

    def load(self) -> None:
        """Load nothing."""

    def unload(self) -> None:
        """Unload nothing."""

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        name = text.split()[0]
        with self.lock:
            for _ in range(self.chunks):
                self.happened.append(name)
                yield AudioChunk(np.full(RATE // 10, 0.5, np.float32), RATE)
        self.happened.append(f"{name} left")


@pytest.fixture
async def manager() -> AsyncIterator[ModelManager]:
    Locking.happened, Locking.chunks = [], 3
    catalog = Catalog([ModelSpec("one", Locking)])
    made = ModelManager(
        catalog=catalog, default_model_id="one", warmup_text="", synthesis_timeout_ms=5_000
    )
    await made.initialize()
    yield made
    await made.shutdown(drain_timeout_ms=0)


async def heard(stream: AsyncIterator[Any]) -> int:
    return len([frame async for frame in stream])


async def test_two_sentences_of_an_engine_for_one_never_interleave(manager: ModelManager) -> None:
    adapter = await manager.load("one")
    texts = ["A is here. B is there.", "C is near. D is far.", "E is it."]
    counts = await asyncio.gather(*(heard(adapter.synthesize_stream(text)) for text in texts))
    assert counts == [30, 30, 15]
    spoken = Locking.happened
    assert len(spoken) == 5 * 4
    for start in range(0, len(spoken), 4):
        name = spoken[start]
        assert spoken[start : start + 4] == [name, name, name, f"{name} left"]


async def test_no_stream_has_a_second_turn_before_all_had_their_first(
    manager: ModelManager,
) -> None:
    adapter = await manager.load("one")
    texts = [f"{a} one here. {a} two here." for a in "ABC"]
    await asyncio.gather(*(heard(adapter.synthesize_stream(text)) for text in texts))
    order = [each.split()[0] for each in Locking.happened if each.endswith("left")]
    assert order[:3] == ["A", "B", "C"]
    # By now all have as much left to hear, and who is first by a hair is no matter.
    assert sorted(order[3:]) == ["A", "B", "C"]


async def test_a_listener_who_pauses_locks_nobody_out(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    Locking.chunks = 100
    adapter = await manager.load("one")
    paused = adapter.synthesize_stream("A is here. B is there. C as well.")
    await anext(paused)
    paused.pause()
    await clock.settle()
    assert "A left" not in Locking.happened
    assert await heard(adapter.synthesize_stream("D is heard.")) == 500
    await clock.settle()
    assert "B" not in Locking.happened
    paused.resume()
    assert await heard(paused) == 1_499


async def test_a_stream_that_rests_alone_makes_no_more_than_two_seconds_ahead(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    Locking.chunks = 100
    adapter = await manager.load("one")
    stream = adapter.synthesize_stream("A is here. B is there.")
    await anext(stream)
    await clock.advance(1)
    assert len(Locking.happened) < 25
    await stream.aclose()


@pytest.mark.parametrize("how", ["stop", "drop", "cancel"])
async def test_a_stream_that_ends_amid_a_sentence_gives_its_turn_back(
    manager: ModelManager, clock: VirtualTimeLoop, how: str
) -> None:
    Locking.chunks = 100
    adapter = await manager.load("one")
    stream = adapter.synthesize_stream("A is here.")
    await anext(stream)
    if how == "stop":
        stream.stop()
    elif how == "cancel":
        Locking.chunks = 3
        stream.take_ready()
        consumer = asyncio.create_task(heard(stream))
        await asyncio.sleep(0)
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
    del stream
    await clock.settle()
    Locking.chunks = 3
    assert await heard(adapter.synthesize_stream("B is heard.")) == 15


async def test_who_waits_too_long_for_a_turn_gets_a_typed_error_and_the_next_goes_on(
    clock: VirtualTimeLoop,
) -> None:
    stage = Stage("a", concurrency=1)
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", synthesis_timeout_ms=5_000)
    await manager.initialize()
    adapter = await manager.load("a")
    stage["a"].synthesize.hold()
    hung = asyncio.create_task(heard(adapter.synthesize_stream("A hangs.")))
    await clock.advance(1)
    late = asyncio.create_task(heard(adapter.synthesize_stream("B waits.")))
    await clock.advance(4.5)
    with pytest.raises(
        SynthesisError, match="made no audio within 5 s; raise synthesis_timeout_ms"
    ):
        await hung
    await clock.advance(1)
    with pytest.raises(
        SynthesisError, match=r"was not free within 5 s; .* raise synthesis_timeout_ms"
    ):
        await late
    stage["a"].synthesize.open()
    await clock.settle()
    assert await heard(adapter.synthesize_stream("C speaks.")) == 25
    await manager.release("a")
    await manager.shutdown()


async def test_the_turn_of_an_engine_that_hangs_comes_back_when_its_thread_has_left(
    clock: VirtualTimeLoop,
) -> None:
    stage = Stage("a", concurrency=1)
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", synthesis_timeout_ms=5_000)
    await manager.initialize()
    adapter = await manager.load("a")
    stage["a"].synthesize.hold()
    hung = asyncio.create_task(heard(adapter.synthesize_stream("A hangs.")))
    await clock.advance(5.1)
    assert isinstance((await asyncio.gather(hung, return_exceptions=True))[0], SynthesisError)
    waiting = asyncio.create_task(heard(adapter.synthesize_stream("B waits.")))
    await clock.settle()
    assert stage["a"].synthesize.waiting == 1
    stage["a"].synthesize.open()
    assert await waiting == 25
    await manager.release("a")
    await manager.shutdown()
