"""A server of three voices, without the proxies of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.voices.collection import Collection, Server, serving


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which files are synced instead of waiting for a disk that others use, too."""
    seen: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda number: seen.append(os.readlink(f"/proc/self/fd/{number}"))
    )
    return seen


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Collection.of()) as made:
        yield made
