"""What comes over a connection is bounded, and is a reply or ends the connection."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from greenroom.hosts.wire import MOST_BYTES, ClosedError, Connection, LateError, WireError

Ends = tuple[Connection, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, its = socket.socketpair()
    with ours, its:
        yield Connection(ours), its


def framed(json: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<II", len(json), len(body)) + json + body


def test_a_reply_comes_with_its_fields_and_bytes(ends: Ends) -> None:
    ours, its = ends
    its.sendall(framed(b'{"rate": 16000, "form": "f", "last": true}', b"12345678"))
    reply = ours.call("speak", limit=1.0)
    assert (reply.number("rate"), reply.text("form"), reply.flag("last")) == (16_000, "f", True)
    assert (bytes(reply.body), len(reply.samples())) == (b"12345678", 2)


def test_a_long_reply_comes_whole_in_pieces(ends: Ends) -> None:
    ours, its = ends
    body = bytes(range(256)) * 50_000
    reader = Connection(its)
    its.setblocking(True)

    def answer_once() -> None:
        reader.next_call()
        reader.reply({}, body)

    answer = threading.Thread(target=answer_once)
    answer.start()
    assert ours.call("speak", limit=5.0).body == body
    answer.join(5.0)


@pytest.mark.parametrize(
    "json",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"n": ' + b"9" * 5_000 + b"}",
        b"[" * 60_000,
        b'"text"',
    ],
)
def test_what_is_no_object_is_no_reply(ends: Ends, json: bytes) -> None:
    ours, its = ends
    its.sendall(framed(json))
    with pytest.raises(WireError, match="its reply is no reply"):
        ours.call("speak", limit=1.0)


@pytest.mark.parametrize("sizes", [(65 * 1024, 0), (2, MOST_BYTES + 1), (2**32 - 1, 2**32 - 1)])
def test_a_reply_that_announces_too_much_is_not_waited_for(
    ends: Ends, sizes: tuple[int, int]
) -> None:
    ours, its = ends
    its.sendall(struct.pack("<II", *sizes))
    with pytest.raises(WireError, match="larger than any reply can be"):
        ours.call("speak", limit=1.0)


@pytest.mark.parametrize("part", [b"", b"\0", framed(b"{}", b"1234")[:-1]])
def test_half_a_reply_is_waited_for_as_long_as_the_limit_says(ends: Ends, part: bytes) -> None:
    ours, its = ends
    its.sendall(part)
    with pytest.raises(LateError):
        ours.call("speak", limit=0.05)
    its.sendall(part)
    its.close()
    with pytest.raises(ClosedError):
        ours.call("speak", limit=1.0)


@pytest.mark.parametrize("written", [b"NaN", b"-1", b"1e300", b"true", b'"1"', b"null", b"[1]"])
def test_a_number_is_a_number_in_range(ends: Ends, written: bytes) -> None:
    ours, its = ends
    its.sendall(framed(b'{"n": ' + written + b"}", b"123"))
    reply = ours.call("speak", limit=1.0)
    with pytest.raises(WireError, match="'n'"):
        reply.number("n")
    if written != b'"1"':
        with pytest.raises(WireError, match="no text 'n'"):
            reply.text("n")
    assert reply.flag("n") is (written == b"true")
    with pytest.raises(WireError, match="amid a sample"):
        reply.samples()
