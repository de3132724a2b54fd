"""An answer's head leaves with what follows it, and never waits for what does not come."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from greenroom.worker.http.response_head import HeadHolder


class Transport:
    """Notes what is sent and whether it is closed."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
async def holder(transport: Transport) -> HeadHolder:
    return HeadHolder(cast("asyncio.Transport", transport))


async def test_a_head_leaves_with_the_body_that_follows_at_once(
    holder: HeadHolder, transport: Transport
) -> None:
    holder.expect_head()
    holder.write(b"head ")
    holder.write(b"audio")
    assert transport.sent == [b"head audio"]
    holder.write(b"more")
    await asyncio.sleep(0)
    assert transport.sent == [b"head audio", b"more"]


async def test_a_head_that_nothing_follows_leaves_after_one_step(
    holder: HeadHolder, transport: Transport
) -> None:
    holder.expect_head()
    holder.write(b"head ")
    assert transport.sent == []
    await asyncio.sleep(0)
    assert transport.sent == [b"head "]
    holder.write(b"audio")
    assert transport.sent == [b"head ", b"audio"]


async def test_a_head_leaves_before_its_connection_is_closed(
    holder: HeadHolder, transport: Transport
) -> None:
    holder.expect_head()
    holder.write(b"head")
    holder.close()
    await asyncio.sleep(0)
    assert transport.sent == [b"head"]
    assert transport.closed
    assert holder.is_closing()
