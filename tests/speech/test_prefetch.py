"""A sentence may begin while the one before it is spoken, and is heard in its turn all the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from greenroom import Catalog, ModelManager, ModelSpec, SynthesisError
from greenroom.adapter import TTSAdapter
from greenroom.audio.frames import AudioChunk

RATE = 16_000
TEXT = "One is here. Two is there. Three is nowhere."


class Reader(TTSAdapter):
    """Three chunks of 100 ms a sentence, each louder; what happens is written down."""

    concurrency = None
    sample_rate = RATE
    looks_ahead = True
    happened: list[str]
    second = threading.Event()
    """Passed before the second chunk of every sentence."""
    failing = ""

    def load(self) -> None:
        """Load nothing."""

    def unload(self) -> None:
        """Unload nothing."""

    def footprint_bytes(self) -> int:
        return 0

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        name = text.split()[0]
        try:
            for number in range(3):
                if number == 1:
                    self.second.wait(30)
                if name == self.failing:
                    raise ValueError("no voice")
                self.happened.append(f"{name} {number}")
                level = len(name) / 10 + number / 100
                yield AudioChunk(np.full(RATE // 10, level, np.float32), RATE)
        finally:
            self.happened.append(f"{name} left")


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    Reader.happened = []
    Reader.second = threading.Event()
    Reader.failing, Reader.looks_ahead = "", True
    catalog = Catalog([ModelSpec("reader", Reader)])
    async with ModelManager(catalog=catalog, default_model_id="reader", warmup_text="") as manager:
        async with manager.lease("reader") as lease:
            assert isinstance(lease.adapter, Reader)
            yield lease.adapter
        Reader.second.set()


async def until_happened(what: str) -> None:
    async with asyncio.timeout(30):
        while what not in Reader.happened:  # noqa: ASYNC110 - told by a thread
            await asyncio.sleep(0.001)


async def samples(stream: AsyncIterator[Any]) -> list[bytes]:
    return [frame.pcm async for frame in stream]


async def test_the_next_sentence_begins_while_one_is_spoken(reader: Reader) -> None:
    stream = reader.synthesize_stream(TEXT)
    await anext(stream)
    await until_happened("Two 0")
    assert "One 1" not in Reader.happened
    assert "Three 0" not in Reader.happened
    Reader.second.set()
    await samples(stream)
    assert [h for h in Reader.happened if h.endswith("left")] == [
        "One left",
        "Two left",
        "Three left",
    ]


async def test_it_sounds_as_if_one_followed_the_other(reader: Reader) -> None:
    Reader.second.set()
    ahead = await samples(reader.synthesize_stream(TEXT))
    Reader.looks_ahead = False
    Reader.happened.clear()
    assert await samples(reader.synthesize_stream(TEXT)) == ahead
    assert Reader.happened.index("One left") < Reader.happened.index("Two 0")


async def test_stopping_ends_both_sentences(reader: Reader) -> None:
    stream = reader.synthesize_stream(TEXT)
    await anext(stream)
    await until_happened("Two 0")
    stream.stop()
    Reader.second.set()
    await stream.aclose()
    assert sorted(h for h in Reader.happened if h.endswith("left")) == ["One left", "Two left"]
    assert "Three 0" not in Reader.happened


async def test_what_was_begun_fails_in_its_turn(reader: Reader) -> None:
    Reader.failing = "Two"
    stream = reader.synthesize_stream(TEXT)
    await anext(stream)
    await until_happened("Two left")
    Reader.second.set()
    for _ in range(11):  # of the 15 frames of the first sentence; the resampler holds a few back
        await anext(stream)
    with pytest.raises(SynthesisError, match="no voice"):
        await samples(stream)


async def test_text_that_comes_in_pieces_is_not_waited_for(reader: Reader) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield TEXT
        yield " Four."

    Reader.second.set()
    await samples(reader.synthesize_stream(pieces()))
    assert Reader.happened.index("One left") < Reader.happened.index("Two 0")
