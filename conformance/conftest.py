"""The worker that every client is run against, and the table of what was run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.started import Started, started
from conformance.table import Table
from conformance.tls_front import front_of, trust

os.environ["no_proxy"] = "127.0.0.1"  # clients of these tests talk to this machine only


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The caches of all workers: a voice is prepared once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def worker(cache: Path) -> Iterator[Started]:
    """A worker with a real voice for its default, and tones; without keys."""
    with started(cache) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def _trusted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before any client: what gRPC trusts it reads once."""
    trust(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def tls_address(worker: Started) -> Iterator[str]:
    """Where TLS is ended before the worker."""
    with front_of(worker.grpc) as address:
        yield address


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", type=Path, help="where to write what was run, if all of it passed")


def pytest_configure(config: pytest.Config) -> None:
    table = config.getoption("--table")
    if table is not None:
        config.pluginmanager.register(Table(table))
