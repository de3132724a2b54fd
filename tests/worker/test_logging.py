"""A log handler of the surrounding program that raises decides nothing in a worker."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenroom
from greenroom import Catalog, ModelManager
from tests.waiting import until
from tests.worker.worker_client import running_worker


class Broken(logging.Handler):
    """Raises for every record, past what `logging` catches itself."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def handle(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        raise OSError("no space left on device")


@pytest.fixture
def broken() -> Iterator[Broken]:
    """Such a handler, for everything that Greenroom logs."""
    logger, handler = logging.getLogger("greenroom"), Broken()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


async def test_a_worker_whose_log_raises_starts_speaks_and_drains(
    tone_catalog: Catalog, broken: Broken
) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    settings = {"http_listen": "127.0.0.1:0", "drain_timeout_ms": 30_000}
    async with running_worker(manager, **settings) as served:
        served.worker.synthesis._sessions.idle_limit = 0.05
        await served.start("reaped", "tone-440")
        frames = await served.speak("Hello there.", model_id="tone-220")
        assert frames[-1].is_final
        await manager.unload("tone-220")
        await until(lambda: not served.refcount("tone-440"))
    assert not manager.list_resident()
    said = [record.getMessage() for record in broken.records]
    for part in ("listening on ", "was idle for", "stopping", "stopped"):
        assert any(part in line for line in said), part


def test_every_module_logs_through_the_door_that_does_not_raise() -> None:
    """The command line has handlers of its own, which do not raise."""
    root = Path(greenroom.__file__).parent
    found = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"logging\.getLogger|logging\.(info|warning|error)\(", path.read_text())
    ]
    assert sorted(name for name in found if not name.startswith("cli/")) == ["untrusted/logs.py"]
