"""`POST /synthesize`, for clients of Piper's own HTTP server."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage
from tests.audio_files import heard
from tests.worker.http.http_client import running_http_worker

TEXT = "Hello there."


async def test_a_text_comes_back_as_a_wav_file(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    asked = [(None, 440), ("tone-220", 220), ("alloy", 440)]
    async with running_http_worker(manager) as web:
        for path, (voice, frequency) in itertools.product(("/synthesize", "/"), asked):
            answer = await web.post(path, {"text": TEXT, "voice": voice, "more": 1})
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "audio/wav"
            sound = heard(answer.content, "wav")
            assert sound.rate == 24_000
            assert sound.frequency == pytest.approx(frequency, abs=5)


async def test_options_of_piper_reach_the_voice() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        asked = {"length_scale": 1.5, "noise_scale": 0.0, "noise_w_scale": 0.25, "speaker_id": 3}
        assert (await web.post("/synthesize", {"text": TEXT, **asked})).status_code == 200
        (said,) = stage["a"].options
        assert said == {
            "length_scale": 1.5,
            "noise_scale": 0.0,
            "noise_w_scale": 0.25,
            "speaker": 3,
        }


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"text": ""}, "text", "empty"),
        ({"text": 5}, "text", "string"),
        ({"text": "a" * 20_001}, "text", "20000"),
        ({"voice": "tone-22"}, "voice", "tone-220"),
        ({"voice": {"id": "tone-220"}}, "voice", "name"),
        ({"length_scale": 0}, "length_scale", "greater"),
        ({"length_scale": 1.0}, None, "length_scale"),
    ],
    ids=repr,
)
async def test_what_cannot_be_spoken_is_refused(
    tone_catalog: Catalog, change: dict[str, Any], param: str | None, words: str
) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as web:
        answer = await web.post("/synthesize", {"text": TEXT, **change})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == param
        assert words in error["message"]


async def test_it_needs_the_key_that_speech_needs(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager, api_keys=[{"key": "12345678"}]) as web:
        assert (await web.post("/synthesize", {"text": TEXT})).status_code == 401
        headers = {"Authorization": "Bearer 12345678"}
        answer = await web.post("/synthesize", {"text": TEXT}, headers=headers)
        assert answer.status_code == 200


async def test_a_text_may_be_markdown_numbers_text_and_words_said_otherwise() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        asked: dict[str, Any] = {"text": "*nginx*", "text_form": "Markdown", "voice": "A"}
        asked |= {"length_scale": "1.5", "pronunciations": {"nginx": "engine x"}}
        assert (await web.post("/synthesize", asked)).status_code == 200
        assert stage["a"].said == ["engine x"]
        assert stage["a"].options == [{"length_scale": 1.5}]
