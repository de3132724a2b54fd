"""Frames come with the words that begin in them, when they are asked for and the engine knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from greenroom import AudioFrame, ModelSpec, SynthesisError
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.audio.frames import WordTime
from tests.speech.telling_engine import TellingAdapter

TEXT = "One two three.\n\n...\n\nFour five."


def engine(told: Any = None) -> TellingAdapter:
    made = TellingAdapter(ModelSpec("telling", TellingAdapter))
    made.told = told
    made.load()
    return made


async def spoken(adapter: TellingAdapter, **asked: Any) -> list[AudioFrame]:
    return [frame async for frame in adapter.synthesize_stream(TEXT, **asked)]


@pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
async def test_each_word_comes_once_in_the_frame_that_it_begins_in(rate: int) -> None:
    frames = await spoken(engine(), word_times=True, sample_rate=rate)
    words = [(n, word) for n, frame in enumerate(frames) for word in frame.words or ()]
    # The sentence without anything to say is 0.25 s of silence, too.
    expected = [0.0, 0.1, 0.2, 0.8, 0.9]
    assert [word.text for _, word in words] == ["One", "two", "three.", "Four", "five."]
    assert [word.start_s for _, word in words] == pytest.approx(expected)
    assert [word.end_s for _, word in words] == pytest.approx([at + 0.08 for at in expected])
    assert [n for n, _ in words] == [round(at / 0.02) for at in expected]
    assert all(frame.words is not None for frame in frames)
    loud = [np.abs(np.frombuffer(frame.pcm, "<i2")).mean() > 8_000 for frame in frames]
    assert [loud.index(True), loud.index(True, 20)] == [0, round(0.8 / 0.02)]


async def test_nothing_is_told_unless_it_is_asked_for() -> None:
    frames = await spoken(engine())
    assert {frame.words for frame in frames} == {None}
    asked = await spoken(engine(), word_times=True)
    assert [frame.pcm for frame in asked] == [frame.pcm for frame in frames]


async def test_an_engine_that_does_not_know_speaks_and_leaves_the_words_absent() -> None:
    tone = ToneTTSAdapter(ModelSpec("tone", ToneTTSAdapter))
    tone.load()
    assert not tone.has_word_times
    frames = [frame async for frame in tone.synthesize_stream(TEXT, word_times=True)]
    assert {frame.words for frame in frames} == {None}


async def test_a_word_that_is_known_only_after_it_began_comes_with_the_next_frame() -> None:
    late = engine((WordTime("late", -0.5, 0.05),))
    frames = await spoken(late, word_times=True, sample_rate=16_000)
    (first, *_, second) = [(n, w) for n, frame in enumerate(frames) for w in frame.words or ()]
    assert first == (0, WordTime("late", 0.0, 0.05))  # nothing is heard before the beginning
    number, word = second
    assert (number, word.text) == (40, "late")
    assert (word.start_s, word.end_s) == pytest.approx((0.3, 0.85))


@pytest.mark.parametrize(
    "told",
    [
        ["a list"],
        ("a text",),
        (WordTime("a", float("nan"), 1.0),),
        (WordTime("a", 0.0, float("inf")),),
        (WordTime("a", 1.0, 0.5),),
        (WordTime(5, 0.0, 0.5),),  # type: ignore[arg-type]
        (WordTime("a", "0", 0.5),),  # type: ignore[arg-type]
        (WordTime("a", 0.0, 0.5),) * 900,
        (WordTime("a" * 2_001, 0.0, 0.5),),
    ],
)
async def test_words_that_are_none_end_the_stream_with_an_error(told: Any) -> None:
    with pytest.raises(SynthesisError, match="the engine told"):
        await spoken(engine(told), word_times=True)
    assert await spoken(engine(told))
