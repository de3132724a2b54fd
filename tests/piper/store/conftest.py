"""A store in a temporary folder, voices' files to be prepared, and a process that knows nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.adapters.piper.prepared.store import identity, verify
from greenroom.adapters.piper.prepared.store.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "prepared"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root, "runtime")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "voice.onnx"
    path.write_bytes(b"voice" * 1000)
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"other" * 1000)
    return path


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start as a new process does, which knows only what is on the disk."""
    monkeypatch.setattr(identity, "_learned", {})
    monkeypatch.setattr(verify, "_verified", {})


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is warned of, in a list that the test may look at while it goes on."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                said.append(record.getMessage())

    listener = Listener()
    logging.getLogger("greenroom.adapters.piper.prepared").addHandler(listener)
    yield said
    logging.getLogger("greenroom.adapters.piper.prepared").removeHandler(listener)
