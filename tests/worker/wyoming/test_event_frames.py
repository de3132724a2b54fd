"""Frames on their way in: whole ones within the limits pass, nothing else is believed."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wyoming.event import Event, write_event

from greenroom.errors import InputTooLargeError, InvalidInputError
from greenroom.worker.wyoming.event_frames import (
    MAX_DATA_BYTES,
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    read_frame,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def frame(**header: Any) -> bytes:
    return json.dumps(header).encode() + b"\n"


async def read_all(sent: bytes) -> list[Event]:
    """Return the events in what a client sent before it ended the connection."""
    reader = asyncio.StreamReader(MAX_HEADER_BYTES)
    reader.feed_data(sent)
    reader.feed_eof()
    found = []
    while (event := await read_frame(reader)) is not None:
        found.append(event)
    return found


@settings(max_examples=40)
@given(st.text(), st.dictionaries(st.text(), JSON), st.binary())
def test_what_the_library_writes_is_read_as_it_was(
    kind: str, data: dict[str, Any], payload: bytes
) -> None:
    sent = io.BytesIO()
    for event in (Event(kind, data, payload), Event("ping")):
        write_event(event, sent)
    assert asyncio.run(read_all(sent.getvalue())) == [Event(kind, data), Event("ping")]


@given(st.binary(max_size=200))
def test_anything_else_is_refused_in_one_way(sent: bytes) -> None:
    for tried in (sent, sent + b"\n", b'{"type": "a", "data_length": 9}\n' + sent):
        try:
            asyncio.run(read_all(tried))
        except InvalidInputError:
            continue


async def test_data_in_the_header_and_after_it_are_one() -> None:
    more = b'{"text": "hello", "a": 2}'
    sent = frame(type="ping", data={"a": 1, "b": 1}, data_length=len(more)) + more
    assert await read_all(sent) == [Event("ping", {"a": 2, "b": 1, "text": "hello"})]


@pytest.mark.parametrize("absent", [{}, {"data": None, "data_length": None, "payload_length": 0}])
async def test_what_is_null_is_as_good_as_absent(absent: dict[str, Any]) -> None:
    assert await read_all(frame(type="ping", **absent)) == [Event("ping")]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "no JSON object"),
        (b"\n", "no JSON object"),
        (b"[1]\n", "no JSON object"),
        (b'{"a": ' * 20_000 + b"\n", "bytes"),
        (b"[" * 30_000 + b"\n", "no JSON object"),
        (b"\xff\xfe\n", "no JSON object"),
        (frame(type=5), "`type` of text"),
        (frame(data={}), "`type` of text"),
        (frame(type="ping", data=[1]), "must be an object"),
        (frame(type="ping", data_length="8"), "`data_length`"),
        (frame(type="ping", data_length=-1), "`data_length`"),
        (frame(type="ping", data_length=True), "`data_length`"),
        (frame(type="ping", payload_length=1.5), "`payload_length`"),
        (frame(type="ping", data_length=3) + b"[1]", "no JSON object"),
        (b'{"type": "ping"', "amid a frame"),
        (frame(type="ping", data_length=3) + b"{}", "amid a frame"),
        (frame(type="ping", payload_length=100_000) + b"a" * 99_999, "amid a frame"),
    ],
    ids=lambda each: repr(each)[:40],
)
async def test_what_is_no_frame_is_refused_with_the_reason(sent: bytes, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        await read_all(sent)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"a" * (2 * MAX_HEADER_BYTES), f"header may have {MAX_HEADER_BYTES} bytes"),
        (frame(type="ping", data_length=MAX_DATA_BYTES + 1), "`data_length` is 131073"),
        (frame(type="ping", payload_length=MAX_PAYLOAD_BYTES + 1), "`payload_length` is 1048577"),
        (frame(type="ping", data_length=2**30), "`data_length` is 1073741824"),
        (frame(type="ping", payload_length=2**30), "`payload_length` is 1073741824"),
        (frame(type="ping", payload_length=10**400), "`payload_length` is 1000"),
    ],
    ids=lambda each: repr(each)[:60],
)
async def test_more_than_the_limits_is_refused_before_it_is_read(sent: bytes, words: str) -> None:
    reader = asyncio.StreamReader(MAX_HEADER_BYTES)
    reader.feed_data(sent)  # and no more comes: it is not waited for
    with pytest.raises(InputTooLargeError, match=words):
        await read_frame(reader)


async def test_a_payload_is_dropped_as_it_comes() -> None:
    reader = asyncio.StreamReader(MAX_HEADER_BYTES)
    reader.feed_data(frame(type="mic", payload_length=MAX_PAYLOAD_BYTES))
    reading = asyncio.ensure_future(read_frame(reader))
    held = 0
    for _ in range(16):
        reader.feed_data(bytes(MAX_PAYLOAD_BYTES // 16))
        for _ in range(3):
            await asyncio.sleep(0)
        held = max(held, len(reader._buffer))  # type: ignore[attr-defined]
    assert await reading == Event("mic")
    assert held < MAX_PAYLOAD_BYTES // 8
