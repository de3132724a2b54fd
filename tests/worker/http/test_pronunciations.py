"""Words are said as the configuration and the request say, whatever protocol the text comes by."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.config.schema import load_config
from greenroom.errors import ConfigError
from greenroom.testing import Stage
from tests.worker.http.http_client import running_http_worker

SPEECH = "/v1/audio/speech"
MAPS = {"all": {"nginx": "engine x"}, "en": {"AWS": "A W S", "Zoe": "[[zoe]]"}}


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tts-1", "voice": "alloy", "input": text, **more}


def staged(**spec: Any) -> tuple[Stage, ModelManager]:
    """Return fake engines of two languages, and a manager of them."""
    stage = Stage("english", "german")
    languages = {"english": ("en-US",), "german": ("de-DE",)}
    catalog = Catalog(
        dataclasses.replace(each, languages=languages[each.model_id], **spec)
        for each in stage.catalog
    )
    return stage, ModelManager(catalog=catalog, default_model_id="english")


async def test_the_configurations_words_are_said_by_voices_of_their_language() -> None:
    stage, manager = staged()
    async with running_http_worker(manager, pronunciations=MAPS) as web:
        for voice in ("english", "german"):
            answer = await web.post(SPEECH, asked("AWS runs nginx. Zoe!", voice=voice))
            assert answer.status_code == 200, answer.text
        assert stage["english"].said == ["A W S runs engine x.", "Zoe!"]
        assert stage["german"].said == ["AWS runs engine x.", "Zoe!"]
        await web.served.speak("nginx", model_id="german")
        answer = await web.post("/synthesize", {"text": "nginx", "voice": "german"})
        assert answer.status_code == 200
        assert stage["german"].said[2:] == ["engine x", "engine x"]


async def test_a_requests_words_go_before_the_configurations() -> None:
    stage, manager = staged()
    async with running_http_worker(manager, pronunciations=MAPS) as web:
        words = {"nginx": "n jinx", "k8s": "kubernetes"}
        answer = await web.post(SPEECH, asked("AWS, nginx, K8s", pronunciations=words))
        assert answer.status_code == 200
        assert stage["english"].said == ["A W S, n jinx, kubernetes"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"a": ""}, "needs something to say"),
        ({"a": "[[b]]"}, r"reads no [[phonemes]]"),
        ({str(number): "x" for number in range(10_000)}, "500 are allowed"),
        ({"a": 1}, "string"),
        (["a"], "object"),
    ],
    ids=["nothing", "phonemes", "many", "number", "list"],
)
async def test_words_that_cannot_be_are_refused_before_anything_is_loaded(
    tone_catalog: Catalog, words: Any, reason: str
) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as web:
        body = asked("Hello.", voice="tone-220", pronunciations=words)
        answer = await web.post(SPEECH, body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == "pronunciations"
        assert reason in error["message"]
        assert "tone-220" not in web.served.states


async def test_words_that_make_a_text_too_long_are_refused(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as web:
        words = {"a": "b" * 300}
        answer = await web.post(SPEECH, asked("a " * 9_000, pronunciations=words))
        assert answer.status_code == 400
        assert "pronunciations" in answer.json()["error"]["message"]


class ReadsPhonemes(ToneTTSAdapter):
    """An engine that has Piper's marks."""

    reads_phonemes = True


async def test_an_engine_that_reads_phonemes_gets_them() -> None:
    catalog = Catalog([ModelSpec("a", ReadsPhonemes)])
    manager = ModelManager(catalog=catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        body = asked("Zoe", pronunciations={"Zoe": "[[zoe]]"}, response_format="pcm")
        answer = await web.post(SPEECH, body)
        assert len(answer.content) == pytest.approx(2 * 24_000 * 0.06 * 7, rel=0.05)


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        ({"en": {str(number): "x" for number in range(10_000)}}, "5000 are allowed"),
        ({"english": {"a": "b"}}, "pattern"),
        ({"en": {"a": ""}}, "needs something to say"),
        ({"en": {"a": ["b"]}}, "string"),
        ({"en": "a"}, "mapping"),
    ],
    ids=["many", "language", "nothing", "list", "text"],
)
def test_maps_that_cannot_be_are_refused_at_the_start(maps: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load_config(overrides={"worker": {"pronunciations": maps}})
    assert "pronunciations" in str(caught.value)
