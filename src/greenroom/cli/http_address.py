"""Find where a worker serves HTTP, for commands that need it: at the address that was given, or
where the worker says, if that address is the one of its gRPC."""

from __future__ import annotations

import asyncio

from greenroom.cli.terminal.console import CommandError
from greenroom.config.address import Address


def http_url(server: str, key: str | None) -> str:
    """Return the URL below which the worker at `server` serves HTTP.

    `server` is `host:port` or `unix:/path` of either protocol, or a URL, which stays as it is.
    Raises `CommandError` where HTTP is not served, `WorkerError` where no worker answers.
    """
    if "://" in server:
        return server
    address = asyncio.run(_http_address(Address.parse_target(server), key))
    if address is None:
        raise CommandError(
            f"the worker at {server} serves no HTTP, which this needs; set worker.http_listen."
        )
    if address.path:
        raise CommandError(
            f"the worker at {server} serves HTTP at {address}, and this wants HOST:PORT; set "
            "worker.http_listen."
        )
    return address.url


async def _http_address(address: Address, key: str | None) -> Address | None:
    from greenroom.worker.client import Client
    from greenroom.worker.health_probe import health_at

    if await health_at(address, key) is not None:
        return address
    async with Client(str(address), key) as client:
        told = (await client.capabilities()).http_address
    return address.beside(Address.parse(told)) if told else None
