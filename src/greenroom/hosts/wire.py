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
import math
import pickle
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.audio.frames import WordTime

MOST_BYTES = 256 * 1024 * 1024
"""Of the raw bytes of a reply: 20 minutes of samples at 48 kHz, the longest sentence."""

_MOST_JSON = 64 * 1024
_PIECE = 1024 * 1024
_READ_BYTES = 128 * 1024
"""More than most replies have: 1.5 s of samples at 22 kHz."""
CALL_BYTES = 4 * 1024
"""More than most calls have."""
_LEAST_LIMIT_S = 1e-3
"""The system takes 0 for no limit."""
_CALL = struct.Struct("<I")
_REPLY = struct.Struct("<II")
_TIMEVAL = struct.Struct("@ll")


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

    def words(self, name: str) -> tuple[WordTime, ...] | None:
        """Return a field made by `word_fields`, `None` if there is none; raises `WireError`.

        The times are checked by who takes the chunk, like those of any engine.
        """
        value = self.fields.get(name)
        if value is None:
            return None
        try:
            return tuple(WordTime(text, start, end) for text, start, end in value)
        except (TypeError, ValueError):
            raise WireError(f"its reply has a {name!r} that are no words") from None


def word_fields(words: tuple[WordTime, ...] | None) -> list[tuple[str, float, float]] | None:
    """Return words as a reply has them, to the microsecond."""
    if words is None:
        return None
    return [(word.text, round(word.start_s, 6), round(word.end_s, 6)) for word in words]


class Connection:
    """One end of a socket pair; used by one thread at a time.

    Each end reads a message with one system call, if it is not large, and writes it with one: after
    each a thread has to wait for the interpreter, and a message in two would wake the other end
    twice.
    """

    def __init__(self, end: socket.socket, *, read_bytes: int = _READ_BYTES) -> None:
        """Read so many bytes at a time."""
        end.setblocking(True)
        self._socket = end
        self._limit = 0.0
        """What the system was told last: how many seconds it may wait; 0 is for ever."""
        self._read = memoryview(bytearray(read_bytes))

    def call(self, *what: Any, limit: float) -> Reply:
        """Send a call and wait for its reply, at most `limit` seconds; raises `WireError`."""
        until = time.monotonic() + limit
        pickled = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
        try:
            self._set_limit(limit)
            self._send([_CALL.pack(len(pickled)), pickled], until)
            count = self._receive_some(_REPLY.size, until)
            json_size, body_size = _REPLY.unpack_from(self._read)
            if json_size > _MOST_JSON or body_size > MOST_BYTES:
                raise WireError("its reply is larger than any reply can be")
            written, body = self._rest((json_size, body_size), _REPLY.size, count, until)
        except TimeoutError:
            raise LateError(f"it did not answer within {limit:g} s") from None
        except OSError:
            raise ClosedError("the connection to it broke") from None
        return Reply(_parsed(written), body)

    def next_call(self, limit: float | None = None) -> tuple[Any, ...] | None:
        """Wait for the next call; `None` once the manager has closed the connection.

        Or when none has come within `limit` seconds.
        """
        until = math.inf if limit is None else time.monotonic() + limit
        try:
            self._set_limit(limit or 0.0)
            count = self._receive_some(_CALL.size, until)
            sizes = _CALL.unpack_from(self._read)
            (pickled,) = self._rest(sizes, _CALL.size, count, until)
        except (ClosedError, OSError):
            return None
        called: tuple[Any, ...] = pickle.loads(pickled)
        return called

    def reply(self, fields: dict[str, Any], body: bytes | memoryview = b"") -> None:
        """Answer the call that came last; raises `OSError` when nobody listens any more."""
        # As characters: escaped, an error's text could take twelve times as much as it has.
        written = json.dumps(fields, ensure_ascii=False).encode(errors="surrogatepass")
        self._send([_REPLY.pack(len(written), len(body)), written, body], math.inf)

    def shut(self) -> None:
        """End every wait on this connection, in whatever thread."""
        with contextlib.suppress(OSError):  # it is closed already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; no thread may wait on it."""
        self._socket.close()

    # The system's own limit: with one of Python's each read and each write would be two calls.

    def _set_limit(self, seconds: float) -> None:
        if seconds == self._limit:
            return
        self._limit = seconds
        seconds = seconds and max(_LEAST_LIMIT_S, seconds)
        limit = _TIMEVAL.pack(int(seconds), int(seconds % 1.0 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, limit)

    def _shorten_limit(self, until: float) -> None:
        """Have the next call to the system end by then; raises `TimeoutError` if it is too late."""
        if until == math.inf:
            return
        left = until - time.monotonic()
        if left <= 0.0:
            raise TimeoutError
        self._set_limit(left)

    def _send(self, pieces: Sequence[bytes | memoryview], until: float) -> None:
        sent = self._socket.sendmsg(pieces)
        rest = memoryview(b"".join(pieces))[sent:] if sent < sum(map(len, pieces)) else b""
        while rest:
            self._shorten_limit(until)
            rest = rest[self._socket.send(rest) :]

    def _receive_some(self, least: int, until: float) -> int:
        """Read into `_read` what there is, at least so many bytes; return how many."""
        count = self._receive_into(self._read)
        while count < least:
            self._shorten_limit(until)
            count += self._receive_into(self._read[count:])
        return count

    def _rest(
        self, sizes: Sequence[int], start: int, count: int, until: float
    ) -> Iterator[bytearray]:
        """Yield messages of these sizes: what `_read` has from `start` to `count`, then the rest.

        Raises `TimeoutError` after `until`, and `ClosedError`.
        """
        for size in sizes:
            end = min(count, start + size)
            received = bytearray(self._read[start:end])
            start = end
            # Memory is taken as bytes come, not as they are announced.
            while len(received) < size:
                piece = bytearray(min(size - len(received), max(_PIECE, len(received))))
                self._fill(piece, until)
                received += piece
            yield received

    def _fill(self, received: bytearray, until: float) -> None:
        rest = memoryview(received)
        while rest:
            self._shorten_limit(until)
            rest = rest[self._receive_into(rest) :]

    def _receive_into(self, where: memoryview) -> int:
        try:
            count = self._socket.recv_into(where)
        except BlockingIOError:  # as the system says that its limit is over
            raise TimeoutError from None
        if not count:
            raise ClosedError("its end of the connection was closed")
        return count


def _parsed(written: bytearray) -> dict[str, Any]:
    try:
        fields = json.loads(written)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise WireError("its reply is no reply")
    return fields
