"""Pipecat's OpenAI, Piper and NVIDIA services for speech, in pipelines of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from pipecat.frames.frames import ErrorFrame, InterruptionFrame, TTSAudioRawFrame, TTSSpeakFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.worker import PipelineParams
from pipecat.services.nvidia.tts import NvidiaTTSService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.piper.tts import PiperHttpTTSService
from pipecat.tests.utils import SleepFrame, run_test

from conformance.recipes import recipe
from conformance.started import PARAGRAPH, TEXT, Started

pytestmark = pytest.mark.client("pipecat-ai")


def openai_service(worker: Started, **more: Any) -> OpenAITTSService:
    return OpenAITTSService(api_key="any", base_url=f"{worker.http}/v1", **more)


class FirstAudio(BaseObserver):  # type: ignore[misc]
    """Notices that audio has come through what follows the service."""

    def __init__(self, service: Any) -> None:
        super().__init__()
        self._service = service
        self.came = False

    async def on_push_frame(self, data: FramePushed) -> None:
        """Look at a frame that one part of the pipeline gives to the next."""
        if data.source is not self._service and isinstance(data.frame, TTSAudioRawFrame):
            self.came = True

    def frames(self) -> Iterator[Any]:
        """Yield a paragraph, and an interruption when the first of its audio has come."""
        yield TTSSpeakFrame(PARAGRAPH)
        for _ in range(1_000):
            if self.came:
                break
            yield SleepFrame(sleep=0.05)
        yield InterruptionFrame()
        yield SleepFrame(sleep=0.2)


async def through(service: Any, *frames: Any, rate: int = 24_000) -> tuple[list[Any], list[Any]]:
    """Return the audio that came out of a pipeline, and the errors."""
    return await observed(service, frames, rate=rate)


async def observed(
    service: Any, frames: Iterable[Any], *observers: Any, rate: int = 24_000
) -> tuple[list[Any], list[Any]]:
    params = PipelineParams(audio_out_sample_rate=rate)
    down, up = await run_test(
        service,
        frames_to_send=frames,
        observers=list(observers),
        pipeline_params=params,
        start_timeout=10,
    )
    audio = [frame for frame in down if isinstance(frame, TTSAudioRawFrame)]
    return audio, [frame for frame in up if isinstance(frame, ErrorFrame)]


def seconds_of(audio: list[Any], rate: int) -> float:
    assert {(frame.sample_rate, frame.num_channels) for frame in audio} == {(rate, 1)}
    samples = np.frombuffer(b"".join(frame.audio for frame in audio), np.int16).astype(float)
    assert np.sqrt((samples**2).mean()) > 500
    return len(samples) / rate


async def test_OpenAITTSService_speaks_with_default_arguments(worker: Started) -> None:
    audio, errors = await through(openai_service(worker), TTSSpeakFrame(TEXT))
    assert not errors
    assert 1.5 < seconds_of(audio, 24_000) < 4


async def test_OpenAITTSService_passes_instructions_and_speed(worker: Started) -> None:
    settings = OpenAITTSService.Settings(voice="nova", instructions="Calm.", speed=2.0)
    audio, errors = await through(openai_service(worker, settings=settings), TTSSpeakFrame(TEXT))
    assert not errors
    assert 0.6 < seconds_of(audio, 24_000) < 2


async def test_an_interruption_ends_the_synthesis(worker: Started) -> None:
    service = openai_service(worker)
    first = FirstAudio(service)
    audio, errors = await observed(service, first.frames(), first)
    assert not errors
    assert seconds_of(audio, 24_000) < 40
    await asyncio.to_thread(worker.until_quiet)


async def test_a_refusal_is_an_error_frame(worker: Started) -> None:
    settings = OpenAITTSService.Settings(speed=9.0)
    audio, errors = await through(openai_service(worker, settings=settings), TTSSpeakFrame(TEXT))
    assert not audio
    assert "speed" in errors[0].error


@pytest.mark.parametrize("path", ["/synthesize", ""])
@pytest.mark.parametrize("rate", [16_000, 24_000])
async def test_PiperHttpTTSService_speaks(worker: Started, path: str, rate: int) -> None:
    async with aiohttp.ClientSession() as session:
        service = PiperHttpTTSService(base_url=worker.http + path, aiohttp_session=session)
        audio, errors = await through(service, TTSSpeakFrame(TEXT), rate=rate)
    assert not errors
    assert 1.5 < seconds_of(audio, rate) < 4


async def test_PiperHttpTTSService_is_told_of_an_unknown_voice(worker: Started) -> None:
    async with aiohttp.ClientSession() as session:
        service = PiperHttpTTSService(
            base_url=f"{worker.http}/synthesize",
            aiohttp_session=session,
            settings=PiperHttpTTSService.Settings(voice="tone-22"),
        )
        audio, errors = await through(service, TTSSpeakFrame(TEXT))
    assert not audio
    assert "tone-220" in errors[0].error


async def test_the_recipe_speaks(worker: Started) -> None:
    names: dict[str, Any] = {}
    exec(recipe("Pipecat", "python", worker.http), names)
    audio, errors = await through(names["tts"], TTSSpeakFrame(TEXT))
    assert not errors
    assert 1.5 < seconds_of(audio, 24_000) < 4


@pytest.mark.client("pipecat-ai", "nvidia-riva-client")
@pytest.mark.parametrize("rate", [16_000, 24_000])
async def test_NvidiaTTSService_speaks_with_default_arguments_without_TLS(
    worker: Started, rate: int
) -> None:
    service = NvidiaTTSService(server=worker.grpc, use_ssl=False)
    audio, errors = await through(service, TTSSpeakFrame(TEXT), rate=rate)
    assert not errors
    assert 1.5 < seconds_of(audio, rate) < 4


@pytest.mark.client("pipecat-ai", "nvidia-riva-client")
async def test_NvidiaTTSService_speaks_with_default_arguments_through_what_ends_TLS(
    worker: Started, tls_address: str
) -> None:
    service = NvidiaTTSService(server=tls_address)
    audio, errors = await through(service, TTSSpeakFrame(TEXT))
    assert not errors
    assert 1.5 < seconds_of(audio, 24_000) < 4


@pytest.mark.client("pipecat-ai", "nvidia-riva-client")
async def test_NvidiaTTSService_speaks_a_long_text_whole(worker: Started) -> None:
    service = NvidiaTTSService(server=worker.grpc, use_ssl=False)
    audio, errors = await through(service, TTSSpeakFrame(" ".join([TEXT] * 8)))
    assert not errors
    assert 12 < seconds_of(audio, 24_000) < 32


@pytest.mark.client("pipecat-ai", "nvidia-riva-client")
async def test_an_interruption_of_NvidiaTTSService_ends_the_synthesis(worker: Started) -> None:
    service = NvidiaTTSService(server=worker.grpc, use_ssl=False)
    first = FirstAudio(service)
    audio, errors = await observed(service, first.frames(), first)
    assert not errors
    assert seconds_of(audio, 24_000) < 40
    await asyncio.to_thread(worker.until_quiet)


@pytest.mark.client("pipecat-ai", "nvidia-riva-client")
async def test_NvidiaTTSService_is_told_of_an_unknown_voice(worker: Started) -> None:
    settings = NvidiaTTSService.Settings(voice="tone-22")
    service = NvidiaTTSService(server=worker.grpc, use_ssl=False, settings=settings)
    audio, errors = await through(service, TTSSpeakFrame(TEXT))
    assert not audio
    assert "tone-220" in errors[0].error
