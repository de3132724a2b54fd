"""The requests of `sfortis/openai_tts` for Home Assistant: key check, voices, speech.

They are sent as its version named below sends them, with its headers and its HTTP libraries:
aiohttp to check the key, to list voices and to stream, urllib for speech in one piece.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from conformance.started import TEXT, Started, started
from tests.audio_files import heard

pytestmark = pytest.mark.client("sfortis/openai_tts==3.10b1")

AGENT = {"User-Agent": "HomeAssistant-OpenAI-TTS"}
KEY = "the-right-key"
KEY_CHECK = {"model": "tts-1", "input": ".", "voice": "alloy", "response_format": "mp3"}


@pytest.fixture(scope="module")
def guarded(cache: Path) -> Iterator[Started]:
    """A worker that wants a key."""
    keys = f'[{{"key": "{KEY}", "role": "speak"}}]'
    with started(cache, worker__api_keys=keys) as worker:
        yield worker


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def body_of(text: str, **more: Any) -> dict[str, Any]:
    body = {"model": "tts-1", "input": text, "voice": "alloy", "response_format": "mp3"}
    return {**body, "speed": 1.0, **more}


@pytest.mark.parametrize(("key", "status"), [(KEY, 200), ("a-wrong-key", 401)])
async def test_a_key_is_checked_with_a_full_stop(guarded: Started, key: str, status: int) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{guarded.http}/v1/audio/speech",
            json=KEY_CHECK,
            headers=bearer(key),
            timeout=aiohttp.ClientTimeout(total=10),
        ) as answer,
    ):
        content = await answer.read()
    assert answer.status == status
    if status == 200:
        assert 0.1 < heard(content, "mp3").seconds < 1


async def test_voices_are_found_beside_the_address_of_speech(guarded: Started) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{guarded.http}/v1/audio/voices",
            params={"limit": 100},
            headers={**AGENT, **bearer(KEY)},
            timeout=aiohttp.ClientTimeout(total=8),
        ) as answer,
    ):
        found = await answer.json(content_type=None)
    voices = {voice["id"]: voice["name"] for voice in found["voices"]}
    assert voices["tone-220"] == "tone-220"


def test_speech_in_one_piece_with_settings_of_its_user(guarded: Started) -> None:
    body = body_of(TEXT, instructions="Calm.", chime=True, custom={"of": "its user"}, volume=0.5)
    request = urllib.request.Request(
        f"{guarded.http}/v1/audio/speech",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **AGENT, **bearer(KEY)},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert 1.5 < heard(answer.read(), "mp3").seconds < 4
    request.data = json.dumps(body_of(TEXT, voice="tone-22")).encode()
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=30)


async def test_speech_is_streamed_as_opus(guarded: Started) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{guarded.http}/v1/audio/speech",
            json=body_of(" ".join([TEXT] * 4), response_format="opus"),
            headers={**AGENT, **bearer(KEY)},
            timeout=aiohttp.ClientTimeout(total=60),
        ) as answer,
    ):
        answer.raise_for_status()
        chunks = [chunk async for chunk in answer.content.iter_chunked(4096)]
    assert len(chunks) > 3
    assert heard(b"".join(chunks), "opus").seconds > 6
