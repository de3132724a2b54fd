"""Where a worker listens: checked, bound, and told as it is."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

import grpc

from greenroom.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port` or `unix:/path`, as gRPC wants it."""

    host: str
    port: int
    path: str = ""
    """Of a unix socket; empty for TCP."""

    @classmethod
    def parse(cls, listen: str) -> Address:
        """Raises `ConfigError` for what is not an address."""
        scheme, _, path = listen.partition(":")
        if scheme == "unix":
            path = path.removeprefix("//")
            if path:
                return cls("", 0, path)
        host, _, port = listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if scheme == "unix" or not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(
                f"worker.listen: {listen!r} is not an address; use host:port, such as "
                "127.0.0.1:50051, or unix:/path."
            )
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    @property
    def url(self) -> str:
        """As a browser wants it, where HTTP is served there."""
        return f"http+{self}" if self.path else f"http://{self}"

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


async def bind(server: grpc.aio.Server, address: Address) -> Address:
    """Bind and return where that is, with the real port; raises `ConfigError` in one sentence."""
    in_use = bool(address.path) and await answers(address.path)
    problem = "another worker serves it" if in_use else await asyncio.to_thread(_problem, address)
    port = 0
    if problem is None:
        try:
            port = server.add_insecure_port(str(address))
        except RuntimeError:  # somebody else was faster
            problem = "the system refuses it"
    if problem is not None:
        raise ConfigError(f"cannot listen on {address}: {problem}; choose another with --listen.")
    return address if address.path else Address(address.host, port)


async def answers(path: str) -> bool:
    """Return whether somebody serves the unix socket; binding would take it from them silently."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True
    return False


def _problem(address: Address) -> str | None:
    """Try to bind, and return what the system says against it, as gRPC does not tell."""
    try:
        if address.path:
            _try_path(Path(address.path))
        else:
            _try_port(address.host, address.port)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def _try_path(path: Path) -> None:
    if path.is_socket():
        return  # left behind by a worker that was killed; gRPC replaces it
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(path))
    path.unlink()


def _try_port(host: str, port: int) -> None:
    places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, place in places:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
