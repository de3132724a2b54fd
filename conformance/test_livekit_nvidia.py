"""`livekit-plugins-nvidia`: its TTS with default arguments but the address."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from livekit.agents import APIConnectOptions
from livekit.plugins import nvidia

from conformance.started import PARAGRAPH, TEXT, Started

pytestmark = pytest.mark.client("livekit-plugins-nvidia", "livekit-agents")

ONCE = APIConnectOptions(max_retry=0)


async def spoken(made: nvidia.TTS, *pieces: str) -> float:
    """Return how many seconds a text that is pushed in pieces comes to."""
    async with made.stream(conn_options=ONCE) as stream:
        for piece in pieces:
            stream.push_text(piece)
        stream.end_input()
        frames = [event.frame async for event in stream]
    assert {(frame.sample_rate, frame.num_channels) for frame in frames} == {(16_000, 1)}
    samples = np.concatenate([np.frombuffer(frame.data, np.int16) for frame in frames])
    assert np.sqrt((samples.astype(float) ** 2).mean()) > 500
    return len(samples) / 16_000


async def test_default_arguments_without_TLS_speak(worker: Started) -> None:
    assert 1.5 < await spoken(nvidia.TTS(server=worker.grpc, use_ssl=False), TEXT) < 4


async def test_default_arguments_speak_through_what_ends_TLS(
    worker: Started, tls_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_API_KEY", "any")
    assert 1.5 < await spoken(nvidia.TTS(server=tls_address), TEXT) < 4


async def test_text_pushed_in_pieces_is_spoken_by_sentences(worker: Started) -> None:
    made = nvidia.TTS(server=worker.grpc, use_ssl=False)
    assert 3 < await spoken(made, *(f"{word} " for word in f"{TEXT} {TEXT}".split())) < 8


async def test_a_stream_that_is_closed_leaves_nothing_held(worker: Started) -> None:
    made = nvidia.TTS(server=worker.grpc, use_ssl=False)
    async with made.stream(conn_options=ONCE) as stream:
        stream.push_text(PARAGRAPH)
        stream.flush()
        assert (await anext(stream)).frame.samples_per_channel > 0
    await asyncio.to_thread(worker.until_quiet)


def test_voices_are_listed_by_language(worker: Started) -> None:
    voices: dict[str, Any] = nvidia.TTS(server=worker.grpc, use_ssl=False).list_voices()
    assert "piper-en-us-joe-medium" in voices["en-US"]["voices"]
