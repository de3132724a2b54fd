"""The sockets on which HTTP is served, bound before the server starts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from greenroom.errors import ConfigError
from greenroom.worker.listen import Address, answers


async def bound(address: Address) -> tuple[list[socket.socket], Address]:
    """Bind and return the sockets, and the address with its real port.

    Raises `ConfigError` in one sentence.
    """
    if address.path and await answers(address.path):
        raise _cannot(address, "another worker serves it")
    try:
        sockets = await asyncio.to_thread(_bind, address)
    except OSError as error:
        raise _cannot(address, (error.strerror or str(error)).lower()) from None
    if address.path:
        return sockets, address
    return sockets, Address(address.host, sockets[0].getsockname()[1])


def _cannot(address: Address, problem: str) -> ConfigError:
    return ConfigError(f"cannot listen on {address}: {problem}; choose another with --http-listen.")


def _bind(address: Address) -> list[socket.socket]:
    return [_at_path(Path(address.path))] if address.path else _at_port(address.host, address.port)


def _at_path(path: Path) -> socket.socket:
    if path.is_socket():
        path.unlink()  # left behind by a worker that was killed
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(str(path))
    except OSError:
        made.close()
        raise
    return made


def _at_port(host: str, port: int) -> list[socket.socket]:
    """Bind a name's every address, all to one port; a family that is not there is left out."""
    places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as made:
        sockets: list[socket.socket] = []
        problem: OSError | None = None
        for family, kind, protocol, _, place in places:
            each = made.enter_context(socket.socket(family, kind, protocol))
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            here = (place[0], sockets[0].getsockname()[1] if sockets else port, *place[2:])
            try:
                each.bind(here)
            except OSError as error:
                problem = error
            else:
                sockets.append(each)
        if problem is not None and not sockets:
            raise problem
        made.pop_all()
    return sockets
