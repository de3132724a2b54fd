"""The worker that commands talk to, as in the tests of the worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.served import CONFIG, Served
from tests.worker.conftest import (
    _grpc_for_all_tests,
    _heard_at_once,
    _no_unexpected_answers,
    metered_catalog,
    metered_worker,
    meters,
    tone_catalog,
    tones,
)

__all__ = [
    "_grpc_for_all_tests",
    "_heard_at_once",
    "_no_unexpected_answers",
    "metered_catalog",
    "metered_worker",
    "meters",
    "tone_catalog",
    "tones",
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of `worker`: tones, and one more with an alias."""
    file = tmp_path_factory.mktemp("worker") / "worker.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope="module")
def worker(config: Path) -> Iterator[Served]:
    """A worker in a process of its own."""
    served = Served(config)
    yield served
    served.end()
