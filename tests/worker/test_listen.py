"""Addresses: what is one, and who can reach it."""

from __future__ import annotations

import pytest

from greenroom.errors import ConfigError
from greenroom.worker.listen import Address


@pytest.mark.parametrize(
    ("listen", "shown", "loopback"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", True),
        ("127.8.9.1:1", "127.8.9.1:1", True),
        ("localhost:0", "localhost:0", True),
        ("[::1]:50051", "[::1]:50051", True),
        ("::1:50051", "[::1]:50051", True),
        ("0.0.0.0:50051", "0.0.0.0:50051", False),
        ("[::]:50051", "[::]:50051", False),
        ("192.168.1.7:80", "192.168.1.7:80", False),
        ("greenroom.example:80", "greenroom.example:80", False),
        ("unix:/run/green.sock", "unix:/run/green.sock", True),
        ("unix:///run/green.sock", "unix:/run/green.sock", True),
        ("unix:green.sock", "unix:green.sock", True),
    ],
)
def test_addresses(listen: str, shown: str, loopback: bool) -> None:
    address = Address.parse(listen)
    assert str(address) == shown
    assert address.is_loopback is loopback


@pytest.mark.parametrize(
    "listen", ["", "50051", ":50051", "host:", "host:port", "host:65536", "host:-1", "unix:"]
)
def test_what_is_no_address_is_refused_with_an_example(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"worker\.listen.*127\.0\.0\.1:50051"):
        Address.parse(listen)
