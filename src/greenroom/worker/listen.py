"""The sockets of all servers: bound before anything is served, with the reason when they cannot be.

gRPC binds for itself, and does not say why it cannot; so the address is tried first. The other
servers are given sockets that are bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import resource
import socket
from pathlib import Path
from typing import Any

import grpc

from greenroom.config.address import Address
from greenroom.errors import ConfigError

_GRPC_FLAG = "--listen"

_MOST = 4_096
"""Connections of one server, however many files may be open."""


async def bind_grpc(server: grpc.aio.Server, address: Address) -> Address:
    """Bind and return where that is, with the real port; raises `ConfigError` in one sentence."""
    await _refuse_taken(address, _GRPC_FLAG)
    try:
        await asyncio.to_thread(_try, address)
        port = server.add_insecure_port(str(address))
    except OSError as error:
        raise _cannot(address, _reason(error), _GRPC_FLAG) from None
    except RuntimeError:  # the address was taken after it was tried
        raise _cannot(address, "the system refuses it", _GRPC_FLAG) from None
    return address if address.path else dataclasses.replace(address, port=port)


async def bind_sockets(address: Address, flag: str) -> tuple[list[socket.socket], Address]:
    """Bind and return the sockets, and the address with its real port.

    Raises `ConfigError` in one sentence, with the flag that chooses another address.
    """
    await _refuse_taken(address, flag)
    try:
        sockets = await asyncio.to_thread(_bound, address)
    except OSError as error:
        raise _cannot(address, _reason(error), flag) from None
    if address.path:
        return sockets, address
    return sockets, dataclasses.replace(address, port=sockets[0].getsockname()[1])


async def _refuse_taken(address: Address, flag: str) -> None:
    """Refuse a unix socket that another process serves: binding would take it over silently."""
    if not address.path:
        return
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_unix_connection(address.path)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        raise _cannot(address, "another worker serves it", flag)


def _cannot(address: Address, problem: str, flag: str) -> ConfigError:
    return ConfigError(f"cannot listen on {address}: {problem}; choose another with {flag}.")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _try(address: Address) -> None:
    """Bind and let go; raises `OSError` with what the system says against it."""
    if address.path:
        path = Path(address.path)
        if path.is_socket():
            return  # left behind by a worker that was killed; gRPC replaces it
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
        return
    for family, _, _, _, sockaddr in _resolved(address):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(sockaddr)


def _bound(address: Address) -> list[socket.socket]:
    return [_bound_path(Path(address.path))] if address.path else _bound_port(address)


def _bound_path(path: Path) -> socket.socket:
    if path.is_socket():
        path.unlink()  # left behind by a worker that was killed
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    return bound


def _bound_port(address: Address) -> list[socket.socket]:
    """Bind a name's every address, all to one port; a family that is not there is left out."""
    with contextlib.ExitStack() as opened:
        sockets: list[socket.socket] = []
        problem: OSError | None = None
        for family, kind, protocol, _, sockaddr in _resolved(address):
            each = opened.enter_context(socket.socket(family, kind, protocol))
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            port = sockets[0].getsockname()[1] if sockets else address.port
            try:
                each.bind((sockaddr[0], port, *sockaddr[2:]))
            except OSError as error:
                problem = error
            else:
                sockets.append(each)
        if problem is not None and not sockets:
            raise problem
        opened.pop_all()
    return sockets


def _resolved(address: Address) -> list[Any]:
    kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
    return list(socket.getaddrinfo(address.host, address.port, type=kind, flags=flags))


def raise_limit() -> None:
    """Allow as many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connection_limit() -> int:
    """Return how many connections gRPC's server, or that of HTTP, may have.

    Half of the files are left for models and whatever else there is.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // 4))
