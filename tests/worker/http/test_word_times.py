"""Word times over HTTP: in events, in one object of JSON, or in lines; only when asked for."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from tests.speech.telling_engine import TellingAdapter
from tests.worker.http.http_client import HttpClient, running_http_worker

SPEECH, CAPTIONED = "/v1/audio/speech", "/dev/captioned_speech"
TEXT = "One two, three.\n\nFour"
STARTS = {"One": 0.0, "two,": 0.1, "three.": 0.2, "Four": 0.55}
TIMES = [
    {"word": word, "start_time": at, "end_time": pytest.approx(at + 0.08)}
    for word, at in STARTS.items()
]


@pytest.fixture
async def web() -> AsyncIterator[HttpClient]:
    """A worker with a voice that knows its words, and one that does not."""
    specs = [ModelSpec("telling", TellingAdapter), ModelSpec("tone-440", ToneTTSAdapter)]
    manager = ModelManager(catalog=Catalog(specs), default_model_id="telling")
    async with running_http_worker(manager) as served:
        yield served


def asked(voice: str = "telling", **more: Any) -> dict[str, Any]:
    sound = {"response_format": "pcm", "sample_rate": 16_000}
    return {"model": voice, "voice": voice, "input": TEXT, **sound, **more}


async def events(web: HttpClient, **more: Any) -> list[dict[str, Any]]:
    answer = await web.post(SPEECH, asked(**more, stream_format="sse"))
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]


async def test_events_tell_words_before_the_audio_that_they_begin_in(web: HttpClient) -> None:
    heard_s, words = 0.0, []
    for event in await events(web, return_timestamps=True):
        if event["type"] == "speech.audio.timestamps":
            words += event["timestamps"]
            assert all(heard_s <= word["start_time"] + 1e-6 for word in event["timestamps"])
        elif event["type"] == "speech.audio.delta":
            heard_s += len(base64.b64decode(event["audio"])) / 32_000
    assert words == TIMES
    assert event["type"] == "speech.audio.done"


async def test_nothing_changes_for_who_does_not_ask(web: HttpClient) -> None:
    plain = await events(web)
    assert {event["type"] for event in plain} == {"speech.audio.delta", "speech.audio.done"}
    told = await events(web, return_timestamps=True)
    both = [
        b"".join(base64.b64decode(event.get("audio", "")) for event in each)
        for each in (plain, told)
    ]
    assert both[0] == both[1]


async def test_a_voice_that_does_not_know_says_so_once_and_speaks(web: HttpClient) -> None:
    told = await events(web, voice="tone-440", return_timestamps=True)
    assert told[0] == {"type": "speech.audio.timestamps", "timestamps": None}
    assert [event["type"] for event in told[1:]].count("speech.audio.timestamps") == 0
    assert told[1]["type"] == "speech.audio.delta"
    answer = await web.done(CAPTIONED, asked(voice="tone-440", stream=False))
    assert answer["timestamps"] is None
    assert base64.b64decode(answer["audio"])


@pytest.mark.parametrize("made", ["pcm", "mp3", "wav"])
async def test_one_object_has_all_audio_and_all_words(web: HttpClient, made: str) -> None:
    body = asked(response_format=made, stream=False)
    answer = await web.post(CAPTIONED, body)
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    audio = await web.post(SPEECH, asked(response_format=made))
    assert base64.b64decode(said["audio"], validate=True) == audio.content
    assert said["audio_format"] == audio.headers["content-type"]
    assert said["timestamps"] == TIMES


async def test_lines_have_the_words_that_begin_in_their_audio(web: HttpClient) -> None:
    answer = await web.post(CAPTIONED, asked())
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [word for line in lines for word in line["timestamps"]] == TIMES
    audio = await web.post(SPEECH, asked())
    assert b"".join(base64.b64decode(line["audio"]) for line in lines) == audio.content


async def test_times_without_a_place_for_them_are_refused(web: HttpClient) -> None:
    answer = await web.post(SPEECH, asked(return_timestamps=True))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "return_timestamps"
    assert "/dev/captioned_speech" in error["message"]
    wrongs: tuple[Any, ...] = ("maybe", 3, [])
    for wrong in wrongs:
        answer = await web.post(CAPTIONED, asked(return_timestamps=wrong))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "return_timestamps")


async def test_an_address_can_ask_for_events_with_words(web: HttpClient) -> None:
    query = {**asked(), "stream_format": "sse", "return_timestamps": "true"}
    answer = await web.client.get(SPEECH, params=query)
    assert '"type":"speech.audio.timestamps","timestamps":[{"word":"One"' in answer.text


async def test_captions_without_words_are_had_too(web: HttpClient) -> None:
    answer = await web.done(CAPTIONED, asked(stream=False, return_timestamps=False))
    assert answer["timestamps"] is None


async def test_a_failure_midway_is_a_line_of_its_own(
    web: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize = TellingAdapter.synthesize

    def failing(self: TellingAdapter, text: str, options: Any) -> Any:
        yield from synthesize(self, text, options)
        if text == "Four":
            raise RuntimeError("broken")

    monkeypatch.setattr(TellingAdapter, "synthesize", failing)
    answer = await web.post(CAPTIONED, asked())
    *lines, last = map(json.loads, answer.text.splitlines())
    assert answer.status_code == 200
    assert lines[0]["timestamps"]
    assert "broken" in last["error"]["message"]
