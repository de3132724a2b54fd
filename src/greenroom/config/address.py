"""Addresses of servers, `HOST:PORT` or `unix:/path`: the one parser for configuration and clients.

It does not know what an address is for: its callers name the key or the flag.
"""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass, replace

DEFAULT_LISTEN = "127.0.0.1:50051"
DEFAULT_HTTP_LISTEN = "127.0.0.1:8880"

_MOST_PORTS = 65_535
_LONGEST_PATH = 107
"""Bytes that the system's address of a unix socket has room for."""

_FORM = "must be HOST:PORT, such as 127.0.0.1:50051, or unix:/path"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens or is called; as text it is what gRPC takes."""

    host: str
    """A name or an IP address, without brackets; empty for a unix socket."""
    port: int
    """0 listens at any that is free."""
    path: str = ""
    """Of a unix socket; empty for TCP."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises `ValueError` that begins with `must`, for a sentence about a key or a flag."""
        if not text.isprintable():
            raise ValueError(_FORM)
        scheme, colon, path = text.partition(":")
        if scheme == "unix" and colon:
            return cls("", 0, _checked_path(path.removeprefix("//")))
        if "://" in text:
            raise ValueError(f"{_FORM}: without {text.partition('://')[0]}://")
        host, _, port = text.rpartition(":")
        digits = port.isascii() and port.isdecimal() and len(port) <= len(str(_MOST_PORTS))
        if not digits or int(port) > _MOST_PORTS:
            raise ValueError(_FORM)
        return cls(_checked_host(host), int(port))

    @classmethod
    def parse_target(cls, text: str) -> Address:
        """Return where to call a server: as `parse`, and with gRPC's `dns:///` before a name."""
        return cls.parse(text.removeprefix("dns:///"))

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

    def beside(self, told: Address) -> Address:
        """Return where a server that is reached here is reached, too, which listens at `told`.

        What it listens at may be every address of its machine, or one that is not known here.
        """
        return told if told.path or self.path else replace(told, host=self.host)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _checked_path(path: str) -> str:
    """Refuse what `bind` would refuse: a path that is empty or too long for a socket."""
    if not path:
        raise ValueError(_FORM)
    if len(path.encode("utf-8", "surrogateescape")) > _LONGEST_PATH:
        raise ValueError(f"must be the path of a unix socket, of at most {_LONGEST_PATH} bytes")
    return path


def _checked_host(written: str) -> str:
    """Return a host without brackets: a name that can be looked up, or an IP address."""
    in_brackets = written.startswith("[") and written.endswith("]")
    host = written[1:-1] if in_brackets else written
    if _is_ipv6(host):
        return host
    try:  # `getaddrinfo` raises this too, but only once the server starts
        is_name = bool(host.encode("idna"))
    except UnicodeError:
        is_name = False
    if in_brackets or not is_name or any(char in "/:@[]" or char.isspace() for char in host):
        raise ValueError(_FORM)
    return host


def _is_ipv6(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).version == 6
    return False
