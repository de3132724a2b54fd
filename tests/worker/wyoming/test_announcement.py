"""The server is found in the network by its announcement, and no more once it has ended."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

import pytest
from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from greenroom.config.address import Address
from greenroom.worker.wyoming import announcement
from greenroom.worker.wyoming.announcement import SERVICE, Announcement
from tests.worker.worker_client import LIMIT_S

LOOPBACK = ["127.0.0.1"]


class Browser:
    """What a client in the same network sees."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[tuple[str, ServiceStateChange]] = asyncio.Queue()
        self._zeroconf = AsyncZeroconf(interfaces=LOOPBACK)
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE, handlers=[self._changed]
        )

    def _changed(self, state_change: ServiceStateChange, name: str, **_: Any) -> None:
        self.seen.put_nowait((name, state_change))

    async def next(self, wanted: ServiceStateChange) -> str:
        async with asyncio.timeout(LIMIT_S):
            while True:
                name, change = await self.seen.get()
                if change is wanted and name.startswith("greenroom on "):
                    return name

    async def address_of(self, name: str) -> tuple[list[str], int | None]:
        service = AsyncServiceInfo(SERVICE, name)
        assert await service.async_request(self._zeroconf.zeroconf, LIMIT_S * 1000)
        return service.parsed_addresses(), service.port

    async def close(self) -> None:
        await self._browser.async_cancel()
        await self._zeroconf.async_close()


async def test_a_server_is_found_as_long_as_it_is_announced() -> None:
    browser = Browser()
    try:
        made = await Announcement.begin(Address("127.0.0.1", 10200), LOOPBACK)
        assert made is not None
        name = await browser.next(ServiceStateChange.Added)
        assert await browser.address_of(name) == (["127.0.0.1"], 10200)
        await made.end()
        assert await browser.next(ServiceStateChange.Removed) == name
    finally:
        await browser.close()


async def test_a_network_that_does_not_allow_it_is_told_and_no_more(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", refuse)
    caplog.set_level(logging.WARNING)
    assert await Announcement.begin(Address("0.0.0.0", 10200)) is None
    assert "0.0.0.0:10200 is not announced in the network: OSError" in caplog.text


def test_addresses_that_others_cannot_use_are_not_announced() -> None:
    assert list(announcement._reachable(Address("192.0.2.7", 1))) == ["192.0.2.7"]
    found = list(announcement._reachable(Address("0.0.0.0", 1)))
    assert not {"127.0.0.1", "::1"} & set(found)
    assert "0.0.0.0" not in found
    assert "::" not in found


def test_a_name_is_one_label_however_long_the_host_s() -> None:
    name = announcement._label("a.b" * 40)
    assert name.startswith("greenroom on a-ba-b")
    assert len(name.encode()) == 63
    assert len(announcement._label("ü" * 63).encode()) <= 63
