"""`wyoming`: its client, in the order in which Home Assistant's integration calls it.

Source of the order: `homeassistant/components/wyoming`, `data.py` and `tts.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from conformance.started import PARAGRAPH, TEXT, Started

pytestmark = pytest.mark.client("wyoming")

VOICE = SynthesizeVoice("piper-en-us-joe-medium")
LIMIT_S = 60.0


@pytest.fixture
async def client(worker: Started) -> AsyncIterator[AsyncTcpClient]:
    async with connected(worker) as made:
        yield made


def connected(worker: Started) -> AsyncTcpClient:
    place = urlsplit(worker.wyoming)
    assert place.hostname is not None
    assert place.port is not None
    return AsyncTcpClient(place.hostname, place.port, read_timeout=LIMIT_S)


async def events_until(client: AsyncTcpClient, last: type) -> list[Event]:
    """Read to an event of one type, or to the end of the connection."""
    found: list[Event] = []
    while (event := await client.read_event()) is not None:
        found.append(event)
        if last.is_type(event.type):  # type: ignore[attr-defined]
            break
    return found


def seconds_of(events: list[Event]) -> float:
    """Return how long the audio is, which must be one stream and not silent."""
    (start,) = (AudioStart.from_event(e) for e in events if AudioStart.is_type(e.type))
    chunks = [AudioChunk.from_event(e) for e in events if AudioChunk.is_type(e.type)]
    assert {(c.rate, c.width, c.channels) for c in chunks} == {(start.rate, 2, 1)}
    samples = np.frombuffer(b"".join(c.audio for c in chunks), "<i2").astype(float)
    assert np.sqrt((samples**2).mean()) > 500
    return float(len(samples) / start.rate)


async def write_pieces(client: AsyncTcpClient, text: str, voice: SynthesizeVoice) -> None:
    await client.write_event(SynthesizeStart(voice).event())
    for word in text.split():
        await client.write_event(SynthesizeChunk(f"{word} ").event())
    await client.write_event(Synthesize(text, voice).event())
    await client.write_event(SynthesizeStop().event())


async def test_voices_are_described_with_their_languages(client: AsyncTcpClient) -> None:
    await client.write_event(Describe().event())
    (event,) = await events_until(client, Info)
    (program,) = Info.from_event(event).tts
    assert program.installed
    assert program.supports_synthesize_streaming
    voices = {voice.name: voice for voice in program.voices if voice.installed}
    assert voices["piper-en-us-joe-medium"].languages == ["en-US"]
    assert "tone-440" in voices


async def test_a_text_is_heard_to_its_audio_stop(client: AsyncTcpClient) -> None:
    await client.write_event(Synthesize(TEXT, VOICE).event())
    assert 1.5 < seconds_of(await events_until(client, AudioStop)) < 4


async def test_a_text_in_pieces_is_heard_once_to_its_synthesize_stopped(
    client: AsyncTcpClient,
) -> None:
    writing = asyncio.ensure_future(write_pieces(client, f"{TEXT} {TEXT}", VOICE))
    assert 3 < seconds_of(await events_until(client, SynthesizeStopped)) < 8
    await writing


async def test_audio_comes_while_text_is_written(client: AsyncTcpClient) -> None:
    await client.write_event(SynthesizeStart(VOICE).event())
    await client.write_event(SynthesizeChunk(f"{TEXT} And").event())
    assert await events_until(client, AudioChunk)
    await client.write_event(SynthesizeChunk(" so on.").event())
    await client.write_event(SynthesizeStop().event())
    assert (await events_until(client, SynthesizeStopped))[-2].type == "audio-stop"


async def test_a_client_that_leaves_ends_its_speech(worker: Started) -> None:
    async with connected(worker) as client:
        await client.write_event(Synthesize(PARAGRAPH, VOICE).event())
        assert await events_until(client, AudioChunk)
        before = await asyncio.to_thread(worker.cut_off)
        assert await asyncio.to_thread(worker.streams) == 1
    await asyncio.to_thread(worker.until_quiet)
    assert await asyncio.to_thread(worker.cut_off) == before + 1


async def test_an_unknown_voice_is_an_error_and_the_end(client: AsyncTcpClient) -> None:
    await client.write_event(Synthesize(TEXT, SynthesizeVoice("tone-22")).event())
    (event,) = await events_until(client, AudioStop)
    error = Error.from_event(event)
    assert error.code == "voice_not_found"
    assert "did you mean tone-220" in error.text


async def test_a_ping_is_answered(client: AsyncTcpClient) -> None:
    await client.write_event(Ping("there?").event())
    (event,) = await events_until(client, Pong)
    assert Pong.from_event(event).text == "there?"
