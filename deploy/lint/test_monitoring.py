"""Every expression of the alerts and the dashboard is PromQL, as Prometheus' grammar has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

DEPLOY = Path(__file__).parents[1]
ALERTS = DEPLOY / "monitoring" / "alerts.yml"
DASHBOARD = DEPLOY.parent / "dashboards" / "greenroom.json"


def expressions(content: Any) -> Iterator[str]:
    """Yield what stands under `expr`, with a time in the place of Grafana's interval."""
    if isinstance(content, dict):
        if isinstance(content.get("expr"), str):
            yield content["expr"].replace("$__rate_interval", "5m")
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from expressions(part)


@pytest.mark.parametrize(
    ("content", "fewest"),
    [(yaml.safe_load(ALERTS.read_text()), 6), (json.loads(DASHBOARD.read_text()), 30)],
    ids=["alerts", "dashboard"],
)
def test_expressions_are_promql(content: Any, fewest: int) -> None:
    found = list(expressions(content))
    assert len(found) >= fewest
    for expression in found:
        promql_parser.parse(expression)


def test_what_is_no_promql_is_found() -> None:
    with pytest.raises(ValueError, match="rate"):
        promql_parser.parse("rate(greenroom_refusals_total)")
