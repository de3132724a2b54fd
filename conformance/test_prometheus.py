"""`prometheus-client`'s parsers read what Prometheus scrapes."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterable

import openai
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from conformance.started import TEXT, Started

pytestmark = pytest.mark.client("prometheus-client")


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        ("text/plain;version=0.0.4", parse_text),
        ("application/openmetrics-text;version=1.0.0", parse_openmetrics),
    ],
)
def test_the_metrics_are_parsed_as_text_and_as_OpenMetrics(
    worker: Started, accept: str, parse: Callable[[str], Iterable[Metric]]
) -> None:
    client = openai.OpenAI(base_url=f"{worker.http}/v1", api_key="any")
    assert client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT).content
    request = urllib.request.Request(f"{worker.http}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith(accept.partition(";")[0])
        families = {family.name: family for family in parse(answer.read().decode())}
    ours = {name: family for name, family in families.items() if name.startswith("greenroom_")}
    assert all(family.documentation for family in ours.values())
    assert sum(sample.value for sample in ours["greenroom_residents"].samples) >= 1
    assert any("first_audio" in name for name in ours)
