"""The `openai` SDK, which nobody here wrote, as a client of a started worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from greenroom import Catalog, ModelManager
from greenroom.config.schema import Config
from greenroom.worker.app import Worker
from tests.audio_files import heard
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.worker_client import Meter

FORMATS: list[Any] = ["mp3", "opus", "aac", "flac", "wav", "pcm"]
TEXT = "Good evening, and welcome to the show."
KEY = "secret-key"


def sdk(web: HttpClient | str, **more: Any) -> openai.AsyncOpenAI:
    url = web if isinstance(web, str) else web.url
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, **{"max_retries": 0, **more})


@pytest.fixture
async def web(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with running_http_worker(manager) as made:
        yield made


@pytest.fixture
async def metered_web(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> AsyncIterator[HttpClient]:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_http_worker(manager, max_streams=1) as made:
        yield made
        for meter in meters.values():
            meter.free.set()


@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_is_heard_whole_and_streamed(
    web: HttpClient, name: Any, tmp_path: Path
) -> None:
    async with sdk(web) as client:
        asked: dict[str, Any] = {
            "model": "gpt-4o-mini-tts",
            "voice": "coral",
            "input": TEXT,
            "response_format": name,
            "instructions": "Speak cheerfully.",
        }
        whole = await client.audio.speech.create(**asked)
        assert heard(whole.content, name).seconds == pytest.approx(len(TEXT) * 0.06, abs=0.15)
        async with client.audio.speech.with_streaming_response.create(**asked) as answer:
            assert answer.headers["content-type"].startswith("audio/")
            streamed = b"".join([piece async for piece in answer.iter_bytes()])
        assert heard(streamed, name).seconds == heard(whole.content, name).seconds


async def test_defaults_are_those_of_openai(web: HttpClient) -> None:
    async with sdk(web) as client:
        answer = await client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
        assert answer.response.headers["content-type"] == "audio/mpeg"


async def test_a_voice_may_be_an_object(web: HttpClient) -> None:
    async with sdk(web) as client:
        answer = await client.audio.speech.create(
            model="tts-1", voice={"id": "tone-220"}, input=TEXT, response_format="wav"
        )
        assert heard(answer.content, "wav").frequency == pytest.approx(220, abs=3)


async def test_events_are_read_as_they_come(
    metered_web: HttpClient, meters: dict[str, Meter]
) -> None:
    meters["b"].allow(2)
    asked: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "b", "input": TEXT}
    asked |= {"response_format": "pcm", "stream_format": "sse"}
    async with (
        sdk(metered_web) as client,
        client.audio.speech.with_streaming_response.create(**asked) as answer,
    ):
        lines = answer.iter_lines()
        first = json.loads((await anext(lines)).removeprefix("data: "))
        assert first["type"] == "speech.audio.delta"
        assert meters["b"].made <= 3
        meters["b"].free.set()
        rest = [line async for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["type"] == "speech.audio.done"


async def test_errors_are_the_sdks_own_with_what_was_wrong(web: HttpClient) -> None:
    async with sdk(web) as client:
        create = client.audio.speech.create
        with pytest.raises(openai.BadRequestError, match="did you mean tone-220") as bad:
            await create(model="tts-1", voice="tone-22", input=TEXT)
        assert (bad.value.param, bad.value.code) == ("voice", "voice_not_found")
        assert bad.value.type == "invalid_request_error"
        assert bad.value.request_id is not None
        with pytest.raises(openai.BadRequestError, match="speed"):
            await create(model="tts-1", voice="alloy", input=TEXT, speed=4.5)
        with pytest.raises(openai.NotFoundError) as missing:
            await create(model="whisper", voice="alloy", input=TEXT)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="speed"):
            async with client.audio.speech.with_streaming_response.create(
                model="tts-1", voice="alloy", input=TEXT, speed=4.5
            ):
                pass


async def test_a_busy_worker_is_a_rate_limit_and_a_retry_succeeds(
    metered_web: HttpClient, meters: dict[str, Meter]
) -> None:
    asked: dict[str, Any] = {"model": "tts-1", "voice": "b", "input": TEXT}
    async with sdk(metered_web) as client, sdk(metered_web, max_retries=3) as patient:
        first = asyncio.create_task(client.audio.speech.create(**asked))
        await until(lambda: metered_web.served.streams("b") == 1)
        with pytest.raises(openai.RateLimitError) as busy:
            await client.audio.speech.create(**asked)
        assert busy.value.response.headers["retry-after"] == "1"
        second = asyncio.create_task(patient.audio.speech.create(**asked))
        meters["b"].free.set()
        for answer in (await first, await second):
            assert len(answer.content) > 10_000


async def test_an_unknown_key_is_an_authentication_error(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager, api_keys=[{"key": KEY}]) as web, sdk(web) as client:
        await client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
        stranger = client.with_options(api_key="another-key")
        with pytest.raises(openai.AuthenticationError):
            await stranger.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)


async def test_models_are_listed_and_retrieved(web: HttpClient) -> None:
    async with sdk(web) as client:
        found = [model.id async for model in client.models.list()]
        assert "tone-440" in found
        assert (await client.models.retrieve("tone-440")).owned_by == "greenroom"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("whisper")


async def test_a_real_voice_speaks() -> None:
    config = Config(
        worker={"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "drain_timeout_ms": 0}
    )
    worker = await Worker.create(config)
    await worker.listen()
    try:
        await worker.initialize()
        assert worker.http_address is not None
        async with sdk(worker.http_address.url) as client:
            lengths = []
            for name in FORMATS:
                answer = await client.audio.speech.create(
                    model="tts-1", voice="alloy", input=TEXT, response_format=name
                )
                sound = heard(answer.content, name)
                assert sound.loudness > 0.01
                lengths.append(sound.seconds)
            quick = await client.audio.speech.create(
                model="tts-1", voice="alloy", input=TEXT, response_format="pcm", speed=2.0
            )
        assert min(lengths) > 1.0
        assert max(lengths) < 5.0
        assert heard(quick.content, "pcm").seconds < 0.75 * min(lengths)
    finally:
        await worker.stop()


async def test_extensions_are_asked_for_as_an_extra_body(web: HttpClient) -> None:
    async with sdk(web) as client:
        telephone: Any = "ulaw"
        answer = await client.audio.speech.create(
            model="TTS-1",
            voice="Tone-220",
            input="nginx",
            response_format=telephone,
            extra_body={"volume": "0.25", "pronunciations": {"nginx": "engine x"}},
        )
        assert answer.response.headers["content-type"] == "audio/basic"
        sound = heard(answer.content, "mulaw")
        assert sound.seconds == pytest.approx(8 * 0.06, abs=0.02)
        assert sound.frequency == pytest.approx(220, abs=3)
        assert sound.loudness == pytest.approx(0.25 / 2**0.5, rel=0.03)
