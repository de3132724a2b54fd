"""`/openapi.json` says what the worker does: bodies, errors, and who needs a key."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from greenroom import Catalog, ModelManager
from tests.worker.http.http_client import running_http_worker

KEYS = [{"key": "admin-key", "role": "admin"}]


async def document_of(catalog: Catalog, **settings: Any) -> Any:
    manager = ModelManager(catalog=catalog, default_model_id="tone-440")
    async with running_http_worker(manager, **settings) as web:
        return await web.get("/openapi.json", headers={"Authorization": "Bearer admin-key"})


async def test_bodies_are_described_and_every_reference_leads_somewhere(
    tone_catalog: Catalog,
) -> None:
    document = await document_of(tone_catalog)
    schemas = document["components"]["schemas"]
    for path, fields in (
        ("/v1/audio/speech", {"model", "input", "voice"}),
        ("/synthesize", {"text"}),
    ):
        (content,) = document["paths"][path]["post"]["requestBody"]["content"].values()
        asked = schemas[content["schema"]["$ref"].rpartition("/")[2]]
        assert fields == set(asked["required"])
    references = set(re.findall(r'"#/([^"]*)"', json.dumps(document)))
    assert references
    for reference in references:
        place = document
        for step in reference.split("/"):
            place = place[step]


async def test_what_is_answered_is_described(tone_catalog: Catalog) -> None:
    document = await document_of(tone_catalog)
    answers = document["paths"]["/v1/audio/speech"]["post"]["responses"]
    assert {"audio/mpeg", "audio/pcm", "text/event-stream"} <= set(answers["200"]["content"])
    for path in document["paths"].values():
        for operation in path.values():
            assert {"4XX", "5XX"} <= set(operation["responses"])
            assert "422" not in operation["responses"]


@pytest.mark.parametrize("public", [True, False])
async def test_keys_are_asked_for_where_they_are_needed(
    tone_catalog: Catalog, public: bool
) -> None:
    document = await document_of(tone_catalog, api_keys=KEYS, public_discovery=public)
    bearer, header = document["components"]["securitySchemes"]
    needed: list[dict[str, list[str]]] = [{bearer: []}, {header: []}]
    paths = document["paths"]
    assert document["components"]["securitySchemes"][header]["name"] == "x-api-key"
    assert paths["/v1/audio/speech"]["get"]["security"] == needed
    assert paths["/v1/audio/speech"]["post"]["security"] == needed
    assert paths["/v1/models"]["get"]["security"] == ([{}, *needed] if public else needed)
    assert "security" not in paths["/health"]["get"]


async def test_what_a_query_may_say_is_what_a_body_may_say(tone_catalog: Catalog) -> None:
    document = await document_of(tone_catalog)
    parameters = document["paths"]["/v1/audio/speech"]["get"]["parameters"]
    body = document["components"]["schemas"]["SpeechRequest"]
    assert {each["name"] for each in parameters} == {*body["properties"]} - {"pronunciations"}
    assert [each["name"] for each in parameters if each["required"]] == ["input"]
    (speed,) = [each["schema"] for each in parameters if each["name"] == "speed"]
    number, text, nothing = speed["anyOf"]
    assert (number["minimum"], number["maximum"]) == (0.25, 4.0)
    assert re.fullmatch(text["pattern"], "1.25")
    assert nothing == {"type": "null"}


async def test_without_keys_none_is_asked_for(tone_catalog: Catalog) -> None:
    document = await document_of(tone_catalog)
    assert "securitySchemes" not in document["components"]
    assert "security" not in document["paths"]["/v1/audio/speech"]["post"]
