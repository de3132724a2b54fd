"""Fixtures of all tests: virtual time, and guards that turn a blocked loop into a failure."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from greenroom.catalog.discovery import discover_models
from greenroom.concurrency.cores import quota_of_process
from greenroom.memory.usage import limit_bytes
from greenroom.testing import Stage, VirtualTimeLoop

# The same examples each time, and no fault for a machine that is busy; `thorough` looks for others.
UNTIMED: dict[str, Any] = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("default", **UNTIMED, derandomize=True)
settings.register_profile("thorough", **UNTIMED)
settings.load_profile(
    "thorough" if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else "default"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual_time: time moves only with `advance`")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("virtual_time") is not None:
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True, scope="session")
def _quota() -> None:
    """Read it, as a manager does at its start: once in the life of a process, off the loop."""
    quota_of_process()


_cache_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests measure out of the user's cache, and prepare no voice unasked."""
    # Numbered here: pytest would look through the folders of all earlier tests.
    cache = tmp_path_factory.mktemp(f"cache-{next(_cache_numbers)}", numbered=False)
    monkeypatch.setenv("GREENROOM_CACHE_DIR", str(cache))
    monkeypatch.setenv("GREENROOM_PREPARE", "off")


@pytest.fixture(autouse=True)
def _first_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let preparing take no second place: beside other work of the machine it would not end."""
    monkeypatch.setattr(os, "setpriority", lambda *_: None)


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[BlockBuster]:
    """Make a blocking Python call of ours on the event loop an error.

    Constructing a manager may look at the disk: that is once, before anybody is served.
    """
    with blockbuster_ctx("greenroom") as blockbuster:
        for blocking in blockbuster.functions.values():
            for caller in (limit_bytes, discover_models):
                blocking.can_block_in(f"{caller.__module__.replace('.', '/')}.py", caller.__name__)
        yield blockbuster


@pytest.fixture(autouse=True)
def _no_critical_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Make a task of ours that failed unexpectedly an error."""
    yield
    critical = [r for r in caplog.get_records("call") if r.levelno >= logging.CRITICAL]
    assert not critical, [record.getMessage() for record in critical]


@pytest.fixture(scope="session")
def prepared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the real voice is prepared; not to be changed."""
    from tests.piper.real_voice import cache_with_prepared_voice

    return cache_with_prepared_voice(tmp_path_factory)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Eight fake models, `a` to `h`."""
    made = Stage(*"abcdefgh")
    yield made
    made.open_all()


@pytest.fixture
async def clock() -> VirtualTimeLoop:
    """The running virtual loop, for `advance` and `settle`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write what a test said so that it can be sent: names that are no UTF-8 cannot."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report
