"""Discovery in the shapes that clients parse."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from tests.worker.http.http_client import HttpClient, running_http_worker

NAMES = [f"tone-{note}" for note in (220, 247, 277, 294, 330, 370, 415, 440)]


@pytest.fixture
async def web(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as made:
        yield made


async def test_models_are_listed_as_openai_lists_them(web: HttpClient) -> None:
    found = await web.get("/v1/models")
    assert found["object"] == "list"
    assert [model["id"] for model in found["data"]] == NAMES
    for model in found["data"]:
        assert set(model) == {"id", "object", "created", "owned_by"}
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert model["owned_by"] == "greenroom"


@pytest.mark.parametrize("name", ["tone-220", "tts-1", "alloy"])
async def test_a_model_is_found_by_every_name_that_speech_takes(web: HttpClient, name: str) -> None:
    found = await web.get(f"/v1/models/{name}")
    assert (found["id"], found["object"]) == (name, "model")


async def test_ids_and_aliases_with_a_slash_are_found() -> None:
    spec = ModelSpec("org/voice", "tone", aliases=("org/other/name",), languages=("en-US",))
    manager = ModelManager(catalog=Catalog([spec]), default_model_id="org/voice")
    async with running_http_worker(manager) as web:
        for name in ("org/voice", "org/other/name", "org%2Fvoice"):
            assert (await web.get(f"/v1/models/{name}"))["object"] == "model"
        (voice,) = (await web.get("/v1/audio/voices", params={"model": "org/other/name"}))["voices"]
        assert voice["id"] == "org/voice"
        assert voice["languages"] == ["en-US"]


@pytest.mark.parametrize("name", ["tone-22", "../tone-220", "zork", "%00", "a" * 5_000])
async def test_an_unknown_model_is_not_found(web: HttpClient, name: str) -> None:
    answer = await web.client.get(f"/v1/models/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]
    answer = await web.client.get("/v1/audio/voices", params={"model": "zork"})
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_every_voice_has_a_name_that_is_its_id(web: HttpClient) -> None:
    found = await web.get("/v1/audio/voices")
    assert set(found) == {"voices"}
    assert {voice["id"]: voice["name"] for voice in found["voices"]} == {n: n for n in NAMES}


async def test_voices_of_one_model_may_be_asked_for(web: HttpClient) -> None:
    (voice,) = (await web.get("/v1/audio/voices", params={"model": "tone-220"}))["voices"]
    assert voice["id"] == "tone-220"
    for model in ("tts-1", ""):
        voices = (await web.get("/v1/audio/voices", params={"model": model}))["voices"]
        assert [voice["id"] for voice in voices] == NAMES


async def test_models_for_audio_are_listed_as_open_webui_asks(web: HttpClient) -> None:
    found = await web.get("/v1/audio/models")
    assert [model["id"] for model in found["models"]] == NAMES


@pytest.mark.parametrize("path", ["/v1", "/v1/"])
async def test_a_first_call_to_the_base_url_is_answered(web: HttpClient, path: str) -> None:
    assert (await web.get(path))["name"] == "greenroom"
