"""The frames that events travel in: written, and read within limits.

The library's own reader takes what a header promises, however much that is, so this one is in its
place. A frame is a line with a JSON object in it (`type`, `data`, `data_length`, `payload_length`),
then `data_length` bytes of a JSON object that is merged into `data`, then `payload_length` bytes.
Source: https://github.com/OHF-Voice/wyoming#format
"""

from __future__ import annotations

import io
import json
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader
from typing import Any

from wyoming.event import Event, write_event

from greenroom.errors import InputTooLargeError, InvalidInputError
from greenroom.untrusted.printable import printable_repr
from greenroom.worker.errors import FieldError

MAX_HEADER_BYTES = 64 * 1024
"""Of a header line. The reader's own limit must be this one."""

MAX_DATA_BYTES = 128 * 1024
"""Of the data after a header: the longest text a worker speaks, each character as an escape."""

MAX_PAYLOAD_BYTES = 1024 * 1024
"""Of what follows; no request has any, and what comes is dropped as it is read."""

_PIECE = 64 * 1024


def frame_of(event: Event) -> bytes:
    """Return an event as it is sent."""
    frame = io.BytesIO()
    write_event(event, frame)
    return frame.getvalue()


async def read_frame(reader: StreamReader) -> Event | None:
    """Return the next event, without its payload; `None` when the client has ended the connection.

    Raises `InvalidInputError` for what is no frame, or breaks off, and `InputTooLargeError` for one
    beyond the limits, before it is read.
    """
    line = await _header_line(reader)
    if line is None:
        return None
    header = _object(line, "the header")
    kind, data = header.get("type"), header.get("data")
    if not isinstance(kind, str):
        raise FieldError("type", "a header must have a `type` of text.")
    if not isinstance(data, dict | None):
        raise FieldError("data", "the data of an event must be an object.")
    data_length = _length(header, "data_length", MAX_DATA_BYTES)
    payload_length = _length(header, "payload_length", MAX_PAYLOAD_BYTES)
    try:
        if data_length:
            more = _object(await reader.readexactly(data_length), "the data")
            data = {**(data or {}), **more}
        while payload_length:
            payload_length -= len(await reader.readexactly(min(payload_length, _PIECE)))
    except IncompleteReadError:
        raise _broken_off() from None
    return Event(kind, data or {})


async def _header_line(reader: StreamReader) -> bytes | None:
    try:
        return await reader.readuntil(b"\n")
    except IncompleteReadError as error:
        if not error.partial:
            return None
    except LimitOverrunError:
        raise InputTooLargeError(
            f"a header may have {MAX_HEADER_BYTES} bytes; send longer data after it, with "
            "`data_length`."
        ) from None
    raise _broken_off()


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInputError(f"{what} is no JSON object; this port speaks Wyoming.")
    return found


def _length(header: dict[str, Any], key: str, most: int) -> int:
    length = header.get(key)
    if length is None:
        return 0
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        said = printable_repr(length, 40)
        raise FieldError(key, f"`{key}` must be a number of bytes, not {said}.")
    if length > most:
        said = printable_repr(length, 40)
        raise InputTooLargeError(f"`{key}` is {said}; {most} bytes are allowed.")
    return length


def _broken_off() -> InvalidInputError:
    return InvalidInputError("the connection ended amid a frame; send the whole of it.")
