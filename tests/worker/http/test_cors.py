"""Pages of origins that the configuration names may call; all others may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from greenroom import Catalog, ModelManager
from greenroom.config.schema import WorkerSettings
from tests.worker.http.http_client import HttpClient, running_http_worker

SPEECH = "/v1/audio/speech"
ASKED = {"model": "tts-1", "input": "Hello.", "voice": "alloy"}
FRIEND, STRANGER = "https://app.example.org", "https://evil.example.org"
KEY = "a-speaking-key"


@pytest.fixture
def manager(tone_catalog: Catalog) -> ModelManager:
    return ModelManager(catalog=tone_catalog, default_model_id="tone-440")


@pytest.fixture
async def open_to_friends(manager: ModelManager) -> AsyncIterator[HttpClient]:
    """A worker without keys."""
    async with running_http_worker(manager, cors_origins=[FRIEND]) as made:
        yield made


async def preflight(web: HttpClient, origin: str) -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
    }
    return await web.client.options(SPEECH, headers=headers)


async def test_a_named_origin_may_ask_and_read(open_to_friends: HttpClient) -> None:
    answer = await preflight(open_to_friends, FRIEND)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "x-stainless-os" in answer.headers["access-control-allow-headers"]
    answer = await open_to_friends.post(SPEECH, ASKED, headers={"Origin": FRIEND})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    refusal = await open_to_friends.post(SPEECH, {}, headers={"Origin": FRIEND})
    assert refusal.status_code == 400
    assert refusal.headers["access-control-allow-origin"] == FRIEND


async def test_other_origins_may_not(open_to_friends: HttpClient) -> None:
    assert (await preflight(open_to_friends, STRANGER)).status_code == 400
    answer = await open_to_friends.post(SPEECH, ASKED, headers={"Origin": STRANGER})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


async def test_no_origin_may_unless_it_is_named(manager: ModelManager) -> None:
    keys = [{"key": KEY}]
    async with running_http_worker(manager, api_keys=keys) as web:
        headers = {"Origin": FRIEND, "Authorization": f"Bearer {KEY}"}
        answer = await web.post(SPEECH, ASKED, headers=headers)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert (await preflight(web, FRIEND)).status_code == 405


async def test_a_named_origin_needs_a_key_where_there_are_keys(manager: ModelManager) -> None:
    async with running_http_worker(manager, api_keys=[{"key": KEY}], cors_origins=[FRIEND]) as web:
        assert (await preflight(web, FRIEND)).status_code == 200
        answer = await web.post(SPEECH, ASKED, headers={"Origin": FRIEND})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == FRIEND


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_others_cannot_play_speech_of_a_worker_without_keys(
    open_to_friends: HttpClient, site: str
) -> None:
    async def status(**headers: str) -> int:
        sent = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", **headers}
        query = {"input": "Hello.", "voice": "tone-220"}
        answer = await open_to_friends.client.get(SPEECH, params=query, headers=sent)
        return int(answer.status_code)

    assert await status() == 403
    assert "tone-220" not in open_to_friends.served.states
    assert await status(Origin=STRANGER) == 403
    assert await status(Origin=FRIEND) == 200
    assert await status(**{"Sec-Fetch-Site": "same-origin"}) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "app.example.org",
        "https://app.example.org/",
        "https://a b",
        "HTTPS://A.ORG",
        "",
    ],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="origin in small letters"):
        WorkerSettings(cors_origins=(origin,))


def test_ports_and_addresses_are_origins() -> None:
    named = ("http://localhost:3000", "http://[::1]:8080", "app://obsidian.md")
    assert WorkerSettings(cors_origins=named).cors_origins == named
    assert WorkerSettings().cors_origins == ()
