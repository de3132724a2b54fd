"""Messages between the manager's process and an engine's: a call, then its one reply.

Each connection has at most one call under way: the next chunk is made when it is asked for, so
nothing piles up between the two, and a stream is ended by asking no more. Calls are pickled, as
they come from the manager. Replies are not: the engine's side may have been overwritten by a fault
of the engine's. They are JSON of bounded size, and raw bytes.

::

    call:  length of the pickle (4 bytes, little endian), the pickle
    reply: length of the JSON (4), length of the bytes (4), the JSON, the bytes
"""

from __future__ import annotations

import contextlib
import json
import pickle
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 256 * 1024 * 1024
"""Of the raw bytes of a reply: 20 minutes of samples at 48 kHz, the longest sentence."""

_MOST_JSON = 64 * 1024
_PIECE = 4 * 1024 * 1024
_CALL = struct.Struct("<I")
_REPLY = struct.Struct("<II")


class WireError(Exception):
    """What came is no reply, or nothing came in time; the connection is of no use any more."""


class ClosedError(WireError):
    """The other end is closed."""


class LateError(WireError):
    """No reply came in time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: fields, none of which has been checked, and raw bytes."""

    fields: dict[str, Any]
    body: bytearray

    def number(self, name: str, *, lowest: float = 0.0, highest: float = 1e9) -> float:
        """Return a field that is a number in range; raises `WireError`."""
        value = self.fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise WireError(f"its reply has no number {name!r}")
        if not lowest <= value <= highest:
            raise WireError(f"its reply has a {name!r} that is out of range")
        return float(value)

    def text(self, name: str) -> str:
        """Return a field that is text; raises `WireError`."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise WireError(f"its reply has no text {name!r}")
        return value

    def samples(self) -> NDArray[np.float32]:
        """Return the raw bytes as samples; raises `WireError`."""
        if len(self.body) % 4:
            raise WireError("its reply is cut off amid a sample")
        return np.frombuffer(self.body, np.float32)

    def flag(self, name: str) -> bool:
        """Return whether a field is true."""
        return self.fields.get(name) is True


class Connection:
    """One end of a socket pair; used by one thread at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def call(self, *what: Any, limit: float) -> Reply:
        """Send a call and wait for its reply, at most `limit` seconds; raises `WireError`."""
        until = time.monotonic() + limit
        pickled = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
        try:
            self._socket.settimeout(limit)
            self._socket.sendall(_CALL.pack(len(pickled)) + pickled)
            json_size, body_size = _REPLY.unpack(self._receive(_REPLY.size, until))
            if json_size > _MOST_JSON or body_size > MOST_BYTES:
                raise WireError("its reply is larger than any reply can be")
            written = self._receive(json_size, until)
            body = self._receive(body_size, until)
        except TimeoutError:
            raise LateError(f"it did not answer within {limit:g} s") from None
        except OSError:
            raise ClosedError("the connection to it broke") from None
        return Reply(_parsed(written), body)

    def next_call(self, limit: float | None = None) -> tuple[Any, ...] | None:
        """Wait for the next call; `None` once the manager has closed the connection.

        Or when none has come within `limit` seconds.
        """
        until = None if limit is None else time.monotonic() + limit
        try:
            (size,) = _CALL.unpack(self._receive(_CALL.size, until))
            called: tuple[Any, ...] = pickle.loads(self._receive(size, until))
        except (ClosedError, OSError):
            return None
        return called

    def reply(self, fields: dict[str, Any], body: bytes | memoryview = b"") -> None:
        """Answer the call that came last; raises `OSError` when nobody listens any more."""
        written = json.dumps(fields).encode()
        self._socket.sendall(_REPLY.pack(len(written), len(body)) + written)
        if len(body):
            self._socket.sendall(body)

    def shut(self) -> None:
        """End every wait on this connection, in whatever thread."""
        with contextlib.suppress(OSError):  # it is closed already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; no thread may wait on it."""
        self._socket.close()

    def _receive(self, size: int, until: float | None) -> bytearray:
        """Return exactly `size` bytes; raises `ClosedError`, and `TimeoutError` after `until`."""
        received = bytearray(min(size, _PIECE))
        self._fill(received, until)
        # Memory is taken as bytes come, not as they are announced.
        while len(received) < size:
            piece = bytearray(min(size - len(received), len(received)))
            self._fill(piece, until)
            received += piece
        return received

    def _fill(self, received: bytearray, until: float | None) -> None:
        rest = memoryview(received)
        while rest:
            if until is not None:
                left = until - time.monotonic()
                if left <= 0.0:
                    raise TimeoutError
                self._socket.settimeout(left)
            count = self._socket.recv_into(rest)
            if not count:
                raise ClosedError("its end of the connection was closed")
            rest = rest[count:]


def _parsed(written: bytearray) -> dict[str, Any]:
    try:
        fields = json.loads(written)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise WireError("its reply is no reply")
    return fields
