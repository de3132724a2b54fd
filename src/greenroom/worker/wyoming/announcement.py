"""Announce the server in the local network by mDNS, so that Home Assistant finds it by itself."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import psutil

from greenroom.config.address import Address
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.logs import safe_logger

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

logger = safe_logger(__name__)

SERVICE = "_wyoming._tcp.local."
"""The type of service that Home Assistant looks for.

Source: https://github.com/OHF-Voice/wyoming, `wyoming/zeroconf.py`.
"""

_LONGEST_LABEL = 63
"""Bytes of one label of a DNS name (RFC 1035, 2.3.4)."""

_LIMIT_S = 5.0
"""How long it may take to announce it, or to withdraw it: both are said three times."""


class Announcement:
    """An announcement that stands until `end`."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self._zeroconf = zeroconf

    @classmethod
    async def begin(
        cls, address: Address, interfaces: Sequence[str] | None = None
    ) -> Announcement | None:
        """Announce a server; `None`, after a line in the log, where the network does not allow it.

        `interfaces` are addresses of this machine to say it on; by default on all.
        """
        from zeroconf import Error, InterfaceChoice
        from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

        host = socket.gethostname()
        service = AsyncServiceInfo(
            SERVICE,
            f"{_label(host)}.{SERVICE}",
            port=address.port,
            parsed_addresses=list(_reachable(address)),
            server=f"{_label(host.partition('.')[0], '')}.local.",
        )
        zeroconf = None
        try:
            zeroconf = AsyncZeroconf(list(interfaces) if interfaces else InterfaceChoice.All)
            async with asyncio.timeout(_LIMIT_S):
                await (await zeroconf.async_register_service(service, allow_name_change=True))
        except (OSError, Error, TimeoutError) as error:
            problem = describe_error(error)
            if zeroconf is not None:
                await cls(zeroconf).end()
            logger.warning("%s is not announced in the network: %s", address, problem)
            return None
        logger.info("announced in the network as %s", service.name)
        return cls(zeroconf)

    async def end(self) -> None:
        """Withdraw it."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LIMIT_S):
                await self._zeroconf.async_unregister_all_services()
                await self._zeroconf.async_close()


def _label(host: str, prefix: str = "greenroom on ") -> str:
    """Return a name as one label of DNS."""
    plain = (prefix + host.replace(".", "-")).encode("utf-8", "replace")
    return plain[:_LONGEST_LABEL].decode("utf-8", "ignore")


def _reachable(address: Address) -> Iterator[str]:
    """Yield the addresses by which others reach what listens at `address`."""
    with contextlib.suppress(ValueError):
        if not ipaddress.ip_address(address.host).is_unspecified:
            yield address.host
            return
    for found in psutil.net_if_addrs().values():
        for each in found:
            if each.family in (socket.AF_INET, socket.AF_INET6):
                with contextlib.suppress(ValueError):
                    parsed = ipaddress.ip_address(each.address.partition("%")[0])
                    if not (parsed.is_loopback or parsed.is_link_local):
                        yield str(parsed)
