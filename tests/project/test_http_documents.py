"""What the pages on HTTP and on text show is accepted, and their tables are true."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.options import Number
from greenroom.adapters.piper.piper_adapter import _OPTIONS
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.audio.encoding import FORMAT_NAMES, FORMATS
from greenroom.config.schema import Config
from greenroom.worker.http.speech_request import SpeechRequest
from tests.worker.http.http_client import running_http_worker

DOCS = Path(__file__).parents[2] / "docs"
HTTP, TEXT = ((DOCS / name).read_text(encoding="utf-8") for name in ("http.md", "text.md"))


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", HTTP + TEXT, re.DOTALL)


def rows(begin: str) -> list[list[str]]:
    """Return the cells of the table of which the first line begins so."""
    table = HTTP[HTTP.index(begin) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


class ReadsPhonemes(ToneTTSAdapter):
    reads_phonemes = True


async def test_the_requests_are_answered_with_speech() -> None:
    manager = ModelManager(catalog=Catalog([ModelSpec("a", ReadsPhonemes)]), default_model_id="a")
    async with running_http_worker(manager) as web:
        assert len(blocks("json")) == 3
        for body in map(json.loads, blocks("json")):
            assert set(body) <= set(SpeechRequest.model_fields)
            answer = await web.post("/v1/audio/speech", body)
            assert answer.status_code == 200, answer.text
        (element,) = blocks("html")
        address = urlsplit(html.unescape(re.findall('src="(.*?)"', element)[0]))
        assert address.netloc == str(Config().worker.http_listen)
        answer = await web.client.get(f"{address.path}?{address.query}")
        assert answer.status_code == 200


def test_the_configurations_work() -> None:
    assert len(blocks("yaml")) == 2
    for content in map(yaml.safe_load, blocks("yaml")):
        Config.model_validate(content)


def test_every_field_and_every_option_is_there_with_its_range() -> None:
    fields = [name for row in rows("| field | values") for name in re.findall("`(.*?)`", row[0])]
    options = {row[0].strip("`"): row[1] for row in rows("| field | Piper's range")}
    assert set(fields) | set(options) == set(SpeechRequest.model_fields)
    for name, told in options.items():
        kind = _OPTIONS[name]
        if isinstance(kind, Number):
            assert told == f"{kind.low:g} to {kind.high:g}"


@pytest.mark.parametrize("row", rows("| `response_format` | also"), ids=lambda row: row[0])
def test_a_formats_row_is_true(row: list[str]) -> None:
    name, others, media, rate = row
    made = FORMATS[name.strip("`")]
    assert (media, rate) == (f"`{made.media_type}`", str(made.default_rate))
    known = {o for o, n in FORMAT_NAMES.items() if n == made.name and o.isascii()} - {made.name}
    assert set(re.findall("`(.*?)`", others)) == known


def test_every_format_has_a_row() -> None:
    assert [row[0].strip("`") for row in rows("| `response_format` | also")] == list(FORMATS)


async def test_routes_are_there_and_need_the_role_that_is_told() -> None:
    manager = ModelManager(catalog=Catalog([ModelSpec("a", ToneTTSAdapter)]), default_model_id="a")
    keys = [{"key": "speak-key", "role": "speak"}, {"key": "admin-key", "role": "admin"}]
    speaker, admin = ({"x-api-key": f"{role}-key"} for role in ("speak", "admin"))
    async with running_http_worker(manager, api_keys=keys) as web:
        for route, role, _ in rows("| route | role"):
            method, path = route.strip("`").replace("NUMBER", "1").split()
            if path == "/api/events":
                async with web.client.stream(method, path, headers=speaker) as answer:
                    assert answer.status_code == 200
                continue
            statuses = [
                (await web.client.request(method, path, headers=headers)).status_code
                for headers in ({}, speaker, admin)
            ]
            assert statuses == [401, 200 if role == "`speak`" else 403, 200], route
        told = await web.get("/api/ps", headers=speaker)
    assert [row[0].strip("`") for row in rows("| field | what it is")] == list(told["memory"])
