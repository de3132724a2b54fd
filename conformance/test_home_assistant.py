"""`homeassistant`: its own Wyoming integration, which asks for voices and has texts said."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from conformance.home_assistant import ConfigEntry, TTSAudioRequest, integration
from conformance.started import PARAGRAPH, TEXT, Started

pytestmark = pytest.mark.client("homeassistant", "wyoming")

VOICE = {"voice": "piper-en-us-joe-medium"}


@pytest.fixture
async def entity(worker: Started) -> Any:
    service, provider = integration()
    place = urlsplit(worker.wyoming)
    found = await service.create(place.hostname, place.port)
    assert found is not None
    assert found.has_services()
    assert found.get_name() == "greenroom"
    made = provider(ConfigEntry(), found)
    made.hass = None
    return made


async def words(text: str) -> AsyncGenerator[str, None]:
    for word in text.split():
        yield f"{word} "
        await asyncio.sleep(0)


async def streamed(entity: Any, text: str, options: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    request = TTSAudioRequest("en-US", options, words(text))
    answer = await entity.async_stream_tts_audio(request)
    assert answer.extension == "wav"
    found: AsyncGenerator[bytes, None] = answer.data_gen
    return found


def seconds_of(pcm: bytes) -> float:
    """Return how long the audio is, which must not be silent."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    assert np.sqrt((samples**2).mean()) > 500
    return len(samples) / 22_050


async def test_languages_and_voices_are_offered(entity: Any) -> None:
    assert entity.supported_languages == ["en-US"]
    (voice,) = entity.async_get_supported_voices("en-US")
    assert voice.voice_id == "piper-en-us-joe-medium"
    assert entity.async_supports_streaming_input()


@pytest.mark.parametrize("options", [VOICE, {}, {"voice": "en_US-joe-medium", "speaker": None}])
async def test_a_text_is_said(entity: Any, options: dict[str, Any]) -> None:
    kind, data = await entity.async_get_tts_audio(TEXT, "en-US", options)
    assert kind == "wav"
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels()) == (22_050, 1)
        assert 1.5 < seconds_of(file.readframes(file.getnframes())) < 4


@pytest.mark.parametrize("options", [VOICE, {}])
async def test_a_text_is_said_as_it_is_written(entity: Any, options: dict[str, Any]) -> None:
    header, *rest = [part async for part in await streamed(entity, f"{TEXT} {TEXT}", options)]
    assert header.startswith(b"RIFF")
    assert 3 < seconds_of(b"".join(rest)) < 8


async def test_an_unknown_voice_is_no_audio(entity: Any) -> None:
    nobody = {"voice": "nobody"}
    assert await entity.async_get_tts_audio(TEXT, "en-US", nobody) == (None, None)
    assert [part async for part in await streamed(entity, TEXT, nobody)] == []


async def test_a_listener_who_leaves_ends_the_speech(entity: Any, worker: Started) -> None:
    before = await asyncio.to_thread(worker.cut_off)
    audio = await streamed(entity, PARAGRAPH, VOICE)
    await anext(audio)
    await anext(audio)
    await audio.aclose()
    await asyncio.to_thread(worker.until_quiet)
    assert await asyncio.to_thread(worker.cut_off) == before + 1
