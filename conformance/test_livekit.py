"""`livekit-plugins-openai`: its TTS with default arguments, as an agent calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIConnectOptions, APIStatusError, tokenize, tts
from livekit.plugins import openai

from conformance.recipes import recipe
from conformance.started import PARAGRAPH, TEXT, Started

pytestmark = pytest.mark.client("livekit-plugins-openai", "livekit-agents")

ONCE = APIConnectOptions(max_retry=0)


@pytest.fixture
async def made(worker: Started) -> AsyncIterator[openai.TTS]:
    async with plugin(worker) as default:
        yield default


def plugin(worker: Started, **more: Any) -> Any:
    return openai.TTS(base_url=f"{worker.http}/v1", api_key="any", **more)


async def spoken(made: openai.TTS, text: str = TEXT) -> rtc.AudioFrame:
    async with made.synthesize(text, conn_options=ONCE) as stream:
        return await stream.collect()


def seconds_of(frame: rtc.AudioFrame) -> float:
    """Return how long the audio is, which must be at the promised rate and not silent."""
    assert (frame.sample_rate, frame.num_channels) == (24_000, 1)
    samples = np.frombuffer(frame.data, np.int16).astype(float)
    assert np.sqrt((samples**2).mean()) > 500
    return float(frame.samples_per_channel / frame.sample_rate)


async def test_default_arguments_speak(made: openai.TTS) -> None:
    made.prewarm()
    assert 1.5 < seconds_of(await spoken(made)) < 4


@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
@pytest.mark.parametrize("model", ["gpt-4o-mini-tts", "tts-1"])
async def test_every_format_as_events_and_as_audio(worker: Started, model: str, name: str) -> None:
    async with plugin(worker, model=model, response_format=name) as made:
        assert 1.5 < seconds_of(await spoken(made)) < 4


async def test_the_first_frame_comes_while_the_rest_is_made(
    made: openai.TTS, worker: Started
) -> None:
    async with made.synthesize(PARAGRAPH, conn_options=ONCE) as stream:
        assert (await anext(stream)).frame.samples_per_channel > 0
        assert await asyncio.to_thread(worker.streams) == 1
    await asyncio.to_thread(worker.until_quiet)


async def test_text_pushed_in_pieces_is_spoken_by_sentences(made: openai.TTS) -> None:
    adapter = tts.StreamAdapter(tts=made, sentence_tokenizer=tokenize.basic.SentenceTokenizer())
    async with adapter.stream(conn_options=ONCE) as stream:
        for word in f"{TEXT} {TEXT}".split():
            stream.push_text(f"{word} ")
        stream.end_input()
        frames = [event.frame async for event in stream]
    assert 3 < sum(frame.duration for frame in frames) < 8


async def test_a_refusal_says_what_was_wrong(worker: Started) -> None:
    async with plugin(worker, voice="tone-22") as made:
        with pytest.raises(APIStatusError, match="did you mean tone-220") as refused:
            await spoken(made)
        assert refused.value.status_code == 400


async def test_the_recipe_speaks(worker: Started) -> None:
    names: dict[str, Any] = {}
    exec(recipe("LiveKit", "python", worker.http), names)
    async with names["tts"] as made:
        assert 1.5 < seconds_of(await spoken(made)) < 4
