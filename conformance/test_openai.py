"""The `openai` SDK: all formats, streaming, events, errors, retries, keys."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import openai
import pytest

from conformance.recipes import recipe
from conformance.started import PARAGRAPH, TEXT, Started, started
from tests.audio_files import heard

pytestmark = pytest.mark.client("openai")

FORMATS: list[Any] = ["mp3", "opus", "aac", "flac", "wav", "pcm"]
RATES = {"opus": 48_000}
ASKED: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "coral", "instructions": "Cheerful."}


def sdk(worker: Started, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{worker.http}/v1", **{"api_key": "any", "max_retries": 0, **more}
    )


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_heard_whole_and_streamed(
    worker: Started, name: Any, tmp_path: Path
) -> None:
    speech = sdk(worker).audio.speech
    whole = heard(speech.create(input=TEXT, response_format=name, **ASKED).content, name)
    file = tmp_path / f"speech.{name}"
    with speech.with_streaming_response.create(
        input=TEXT, response_format=name, **ASKED
    ) as streaming:
        streaming.stream_to_file(file)
    streamed = heard(file.read_bytes(), name)
    for sound in (whole, streamed):
        assert (sound.rate, sound.channels) == (RATES.get(name, 24_000), 1)
        assert 1.5 < sound.seconds < 4
        assert sound.loudness > 0.02


@pytest.mark.parametrize("name", FORMATS)
def test_first_bytes_come_before_the_synthesis_ends(worker: Started, name: Any) -> None:
    with sdk(worker).audio.speech.with_streaming_response.create(
        input=PARAGRAPH, response_format=name, **ASKED
    ) as answer:
        pieces = answer.iter_bytes(1)
        assert next(pieces)
        assert worker.streams() == 1
    worker.until_quiet()


def test_events_have_the_audio_in_the_asked_format_and_the_usage(worker: Started) -> None:
    with sdk(worker).audio.speech.with_streaming_response.create(
        input=TEXT, response_format="mp3", stream_format="sse", **ASKED
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    *deltas, done = [json.loads(line) for line in lines]
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    file = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    assert 1.5 < heard(file, "mp3").seconds < 4
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_speed_changes_the_length(worker: Started) -> None:
    speech = sdk(worker).audio.speech
    slow, fast = (
        heard(speech.create(input=TEXT, response_format="wav", speed=s, **ASKED).content, "wav")
        for s in (0.5, 2.0)
    )
    assert 2.5 < slow.seconds / fast.seconds < 6


def test_a_voice_may_be_an_object_and_models_are_listed(worker: Started) -> None:
    client = sdk(worker)
    ids = [model.id for model in client.models.list()]
    assert "tone-220" in ids
    assert client.models.retrieve("tone-220").id == "tone-220"
    answer = client.audio.speech.create(
        model="tts-1", voice={"id": "tone-220"}, input=TEXT, response_format="wav"
    )
    assert heard(answer.content, "wav").frequency == pytest.approx(220, abs=3)


def test_errors_are_its_own_and_say_what_was_wrong(worker: Started) -> None:
    create = sdk(worker).audio.speech.create
    with pytest.raises(openai.BadRequestError, match="did you mean tone-220") as bad:
        create(model="tts-1", voice="tone-22", input=TEXT)
    assert (bad.value.param, bad.value.code) == ("voice", "voice_not_found")
    assert bad.value.request_id is not None
    with pytest.raises(openai.BadRequestError, match="speed"):
        create(input=TEXT, speed=4.5, **ASKED)
    with pytest.raises(openai.BadRequestError, match="empty"):
        create(input=" ", **ASKED)
    with pytest.raises(openai.NotFoundError, match="whisper"):
        create(model="whisper", voice="alloy", input=TEXT)


def test_a_busy_worker_is_a_rate_limit_and_a_retry_succeeds(cache: Path) -> None:
    with started(cache, worker__max_streams="1") as worker:
        with sdk(worker).audio.speech.with_streaming_response.create(
            input=PARAGRAPH, response_format="pcm", **ASKED
        ) as busy:
            pieces = busy.iter_bytes(1_000)
            next(pieces)
            with pytest.raises(openai.RateLimitError) as refused:
                sdk(worker).audio.speech.create(input=TEXT, **ASKED)
            assert float(refused.value.response.headers["retry-after"]) >= 1
            timer = threading.Timer(0.5, busy.close)
            timer.start()
            answer = sdk(worker, max_retries=5).audio.speech.create(
                input=TEXT, response_format="wav", **ASKED
            )
            timer.join()
        assert heard(answer.content, "wav").seconds > 1.5


def test_a_wrong_key_is_an_authentication_error(cache: Path) -> None:
    keys = '[{"key": "the-right-key", "role": "speak"}]'
    with started(cache, worker__api_keys=keys) as worker:
        with pytest.raises(openai.AuthenticationError, match="API key"):
            sdk(worker, api_key="a-wrong-key").audio.speech.create(input=TEXT, **ASKED)
        assert sdk(worker, api_key="the-right-key").audio.speech.create(input=TEXT, **ASKED).content


def test_the_recipe_speaks(
    worker: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(recipe("openai SDK for Python", "python", worker.http), {})
    assert heard((tmp_path / "hello.mp3").read_bytes(), "mp3").seconds > 0.4
