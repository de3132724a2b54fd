"""What HTTP refuses: in OpenAI's shape, with the right status, before the first byte of audio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, running_http_worker
from tests.worker.worker_client import Meter

ASKED: dict[str, Any] = {"model": "tts-1", "input": "Hello.", "voice": "tone-220"}
SPEECH = "/v1/audio/speech"


pytestmark = pytest.mark.asyncio(loop_scope="module")


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the error of an answer, which has OpenAI's shape and nothing else."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert "\n" not in body["error"]["message"]
    found: dict[str, Any] = body["error"]
    return found


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"input": None}, "input", "string"),
        ({"input": 7}, "input", "string"),
        ({"input": ["a"]}, "input", "string"),
        ({"input": ""}, "input", "empty"),
        ({"input": " \n\u200b"}, "input", "empty"),
        ({"input": "ring\x07"}, "input", "U+0007"),
        ({"input": "a" * 20_001}, "input", "20000"),
        ({"model": None}, "model", "string"),
        ({"model": 1}, "model", "string"),
        ({"model": ""}, "model", "character"),
        ({"voice": None}, "voice", "name"),
        ({"voice": 3}, "voice", "name"),
        ({"voice": {}}, "voice", "name"),
        ({"voice": {"id": 3}}, "voice", "name"),
        ({"voice": ["tone-220"]}, "voice", "name"),
        ({"response_format": "ogg"}, "response_format", "'opus'"),
        ({"response_format": 3}, "response_format", "'opus'"),
        ({"stream_format": "chunks"}, "stream_format", "'sse'"),
        ({"speed": 0.24}, "speed", "0.25"),
        ({"speed": 4.01}, "speed", "4"),
        ({"speed": -1}, "speed", "0.25"),
        ({"speed": "fast"}, "speed", "number"),
        ({"speed": "nan"}, "speed", "number"),
        ({"speed": "4.01"}, "speed", "4"),
        ({"speed": True}, "speed", "number"),
        ({"sample_rate": 1}, "sample_rate", "8000"),
        ({"sample_rate": 11_025}, "sample_rate", "22050"),
        ({"sample_rate": 24_000.5}, "sample_rate", "integer"),
        ({"sample_rate": "24000.5"}, "sample_rate", "integer"),
        ({"sample_rate": 16_000, "response_format": "mulaw"}, "sample_rate", "8000"),
        ({"volume": 1.5}, "volume", "from 0 to 1"),
        ({"volume": -1}, "volume", "0"),
        ({"volume": "loud"}, "volume", "number"),
        ({"speaker": 3}, "speaker", "this engine has: frequency"),
        ({"sentence_silence": 1}, "sentence_silence", "this engine has: frequency"),
        ({"keep_alive": "soon"}, "keep_alive", "soon"),
        ({"keep_alive": []}, "keep_alive", "keep_alive"),
        ({"instructions": 5}, "instructions", "string"),
    ],
    ids=repr,
)
async def test_a_field_that_cannot_be_is_named_and_nothing_is_loaded(
    web: HttpClient, change: dict[str, Any], param: str, words: str
) -> None:
    error = error_of(await web.post(SPEECH, {**ASKED, **change}), 400)
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert "tone-220" not in web.served.states


@pytest.mark.parametrize("field", ASKED)
async def test_a_missing_field_is_named(web: HttpClient, field: str) -> None:
    body = {name: value for name, value in ASKED.items() if name != field}
    error = error_of(await web.post(SPEECH, body), 400)
    assert (error["param"], error["code"]) == (field, "missing_required_parameter")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"input": NaN}', b"{} {}", b"[" * 100_000],
    ids=lambda body: repr(body[:20]),
)
async def test_what_is_no_json_object_is_refused(web: HttpClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    error = error_of(await web.client.post(SPEECH, content=body, headers=headers), 400)
    assert error["code"] in ("invalid_json", "missing_required_parameter")


async def test_a_number_that_is_none_is_refused(web: HttpClient) -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = '{"model": "tts-1", "voice": "alloy", "input": "Hi.", "speed": ' + number + "}"
        assert error_of(await web.client.post(SPEECH, content=body), 400)["param"] == "speed"


async def test_lone_surrogates_are_refused(web: HttpClient) -> None:
    body = '{"model": "tts-1", "voice": "alloy", "input": "\\ud800 hello"}'
    error_of(await web.client.post(SPEECH, content=body), 400)


@pytest.mark.parametrize(
    "voice",
    ["tone-22", "../tone-220", "/etc/passwd", "tone-220\x00", "zork", "x" * 199],
)
async def test_a_voice_is_looked_up_and_an_unknown_one_is_never_another(
    web: HttpClient, voice: str
) -> None:
    error = error_of(await web.post(SPEECH, {**ASKED, "voice": voice}), 400)
    assert (error["param"], error["code"]) == ("voice", "voice_not_found")
    assert web.served.states == {"tone-440": "ready"}


@pytest.mark.parametrize(
    ("voice", "near"), [("tone-22", "tone-220"), ("ALOY", "alloy"), ("zork", "/v1/audio/voices")]
)
async def test_near_matches_of_a_voice_are_named(web: HttpClient, voice: str, near: str) -> None:
    assert near in error_of(await web.post(SPEECH, {**ASKED, "voice": voice}), 400)["message"]


async def test_an_unknown_model_is_not_found_with_near_matches(web: HttpClient) -> None:
    for model, near in (("tts-11", "tts-1"), ("tone-22", "tone-220"), ("whisper", "not in")):
        error = error_of(await web.post(SPEECH, {**ASKED, "model": model}), 404)
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert near in error["message"]


async def test_a_request_that_is_larger_than_its_text_may_be_is_too_large(web: HttpClient) -> None:
    body = {**ASKED, "input": "a" * 3_000_000}
    assert "parts" in error_of(await web.post(SPEECH, body), 413)["message"]

    async def endless() -> AsyncIterator[bytes]:
        yield b'{"input": "'
        for _ in range(100):
            yield b"a" * 10_000
        yield b'"}'

    error = error_of(await web.client.post(SPEECH, content=endless()), 413)
    assert error["code"] == "request_too_large"


async def test_the_longest_text_fits_however_it_is_written(web: HttpClient) -> None:
    quick = {**ASKED, "voice": "alloy", "response_format": "pcm", "speed": 4, "sample_rate": 8_000}
    answer = await web.post(SPEECH, {**quick, "input": "🎙" * 20_000})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("PUT", SPEECH, 405), ("POST", "/v1/models", 405)],
)
async def test_other_routes_and_methods_are_refused_in_the_same_shape(
    web: HttpClient, method: str, path: str, status: int
) -> None:
    error = error_of(await web.client.request(method, path), status)
    assert path in error["message"]


async def test_a_path_says_which_methods_it_has(web: HttpClient) -> None:
    for path, methods in [
        (SPEECH, "GET, HEAD, POST"),
        ("/v1/models", "GET"),
        ("/", "GET, HEAD, POST"),
    ]:
        assert (await web.client.put(path)).headers["allow"] == methods


async def test_no_room_is_unavailable_until_room_can_first_exist(tone_catalog: Catalog) -> None:
    manager = ModelManager(
        catalog=tone_catalog,
        default_model_id="tone-440",
        resident_cap=2,
        cap_policy="hard",
        min_residency_ms=600_000,
        acquire_timeout_ms=100,
    )
    async with running_http_worker(manager) as web:
        assert (await web.post(SPEECH, ASKED)).status_code == 200
        answer = await web.post(SPEECH, {**ASKED, "voice": "tone-247"})
        assert error_of(answer, 503)["code"] == "no_room"
        assert 500 <= int(answer.headers["retry-after"]) <= 601
        assert 500_000 <= int(answer.headers["retry-after-ms"]) <= 600_000
        assert "x-should-retry" not in answer.headers


async def test_room_that_never_comes_is_not_to_be_asked_for_again(tone_catalog: Catalog) -> None:
    manager = ModelManager(
        catalog=tone_catalog, default_model_id="tone-440", resident_cap=1, cap_policy="hard"
    )
    async with running_http_worker(manager) as web:
        answer = await web.post(SPEECH, ASKED)
        error_of(answer, 503)
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers


async def test_one_stream_more_than_allowed_is_too_many(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_http_worker(manager, max_streams=1) as web:
        body = {**ASKED, "voice": "a"}
        first = asyncio.create_task(web.post(SPEECH, body))
        await until(lambda: web.served.streams("a") == 1)
        answer = await web.post(SPEECH, body)
        assert error_of(answer, 429)["type"] == "rate_limit_error"
        assert answer.headers["retry-after"] == "1"
        meters["a"].free.set()
        assert (await first).status_code == 200
        assert (await web.post(SPEECH, body)).status_code == 200


async def test_a_model_that_does_not_load_is_unavailable_until_it_is_tried_again() -> None:
    stage = Stage("a", "b")
    stage["b"].load.error = OSError("a truncated file")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        answer = await web.post(SPEECH, {**ASKED, "voice": "b"})
        assert "a truncated file" in error_of(answer, 503)["message"]
        assert int(answer.headers["retry-after"]) >= 1
        assert (await web.post(SPEECH, {**ASKED, "voice": "a"})).status_code == 200


async def test_an_engine_that_fails_before_its_first_audio_is_a_server_error() -> None:
    stage = Stage("a", "b")
    stage["b"].synthesize.error = ValueError("a broken engine")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        for stream_format in ("audio", "sse"):
            body = {**ASKED, "voice": "b", "stream_format": stream_format}
            error = error_of(await web.post(SPEECH, body), 500)
            assert error["type"] == "server_error"
            assert "a broken engine" in error["message"]
        assert (await web.post(SPEECH, {**ASKED, "voice": "a"})).status_code == 200


async def test_a_closing_worker_is_unavailable(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with running_http_worker(manager) as web:
        await web.served.worker.synthesis.drain(0)
        error = error_of(await web.post(SPEECH, ASKED), 503)
        assert error["code"] == "shutting_down"
