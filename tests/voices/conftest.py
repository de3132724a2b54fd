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
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Note what is synced, with what is in it then, and wait for no disk that others use, too."""
    seen: list[tuple[str, list[str]]] = []

    def note(number: int) -> None:
        path = os.readlink(f"/proc/self/fd/{number}")
        seen.append((path, sorted(os.listdir(path)) if os.path.isdir(path) else []))

    monkeypatch.setattr(os, "fsync", note)
    return seen


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Collection.of()) as made:
        yield made
