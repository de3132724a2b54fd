"""Which model a request is about, as it is read on the way into a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from greenroom import Catalog, ModelSpec
from greenroom.cluster.requested_voice import RequestedVoice, session_key
from greenroom.config.schema import Config

SPEECH = "/v1/audio/speech"


@pytest.fixture
def voices() -> RequestedVoice:
    """Two voices, of which `amy` is the default; OpenAI's names are aliases of it."""
    config = Config.model_validate(
        {
            "model_manager": {"default_model_id": "amy"},
            "worker": {"aliases": {"tts-1": None, "alloy": None, "echo": "joe"}},
        }
    )
    catalog = Catalog([ModelSpec("amy", "tone"), ModelSpec("joe", "tone", aliases=("joseph",))])
    return RequestedVoice(config, catalog)


def posted(voices: RequestedVoice, path: str, **body: Any) -> str:
    return voices.of_http("POST", path, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "voice"),
    [
        ({"model": "tts-1", "voice": "joe"}, "joe"),
        ({"model": "joe", "voice": "alloy"}, "joe"),
        ({"model": "tts-1", "voice": "alloy"}, "amy"),
        ({"model": "tts-1", "voice": "echo"}, "joe"),
        ({"model": "tts-1", "voice": {"id": "joe"}}, "joe"),
        ({"model": "tts-1", "voice": "JOSEPH"}, "joe"),
        ({"model": "joe"}, "joe"),
        ({}, "amy"),
    ],
)
def test_a_request_to_speak_means_what_the_worker_takes_it_to_mean(
    voices: RequestedVoice, body: dict[str, Any], voice: str
) -> None:
    assert posted(voices, SPEECH, **body) == voice


def test_a_voice_that_is_not_known_is_none_that_routers_would_expect_somewhere(
    voices: RequestedVoice,
) -> None:
    assert posted(voices, SPEECH, model="tts-1", voice="new") == ""
    assert voices.of_name("new") == ""


def test_other_routes_name_their_model_in_the_body_or_in_the_path(voices: RequestedVoice) -> None:
    assert posted(voices, "/api/load", model="joseph") == "joe"
    assert voices.of_http("GET", "/v1/models/joe", b"") == "joe"
    assert posted(voices, "/v2/repository/models/joe/load") == "joe"


@pytest.mark.parametrize("path", ["/", "/v1/models", "/health", "/metrics"])
def test_a_look_is_about_no_model(voices: RequestedVoice, path: str) -> None:
    assert voices.of_http("GET", path, b"") == ""


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"[" * 100_000, b"\xff", b'{"voice": 5}'])
def test_what_cannot_be_read_is_left_to_the_worker_to_refuse(
    voices: RequestedVoice, body: bytes
) -> None:
    assert voices.of_http("POST", SPEECH, body) == "amy"
    assert voices.of_http("POST", "/api/load", body) == ""


def test_no_name_is_the_default(voices: RequestedVoice) -> None:
    assert voices.of_name("") == "amy"


def test_sessions_of_two_callers_are_two_whatever_their_ids() -> None:
    assert session_key("a", "b") == session_key("a", "b")
    assert session_key("a", "b") != session_key("", "ab")
    assert session_key("a", "b") != session_key("b", "a")
