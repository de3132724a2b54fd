"""Ask whether an address is where a worker serves HTTP, so that the two ports are told apart."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

from greenroom.config.address import Address

_LIMIT_S = 5.0
"""A worker that answers at all answers `/health` sooner, and one of another kind hangs up."""

_MOST_BYTES = 64 * 1024


async def health_at(address: Address, key: str | None = None) -> Mapping[str, Any] | None:
    """Return what a worker answers at `/health`; `None` where none does, or not soon.

    `key` is one of its API keys, without which it may say less.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
        async with asyncio.timeout(_LIMIT_S):
            answer = await _get(address, key)
        found = json.loads(answer.partition(b"\r\n\r\n")[2])
        if isinstance(found, dict) and "ready" in found:
            return found
    return None


async def _get(address: Address, key: str | None) -> bytes:
    if address.path:
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        request = ["GET /health HTTP/1.1", f"Host: {'localhost' if address.path else address}"]
        request += ["Connection: close", *([f"Authorization: Bearer {key}"] if key else [])]
        writer.write(("\r\n".join(request) + "\r\n\r\n").encode())
        answer = b""
        while len(answer) < _MOST_BYTES and (more := await reader.read(_MOST_BYTES)):
            answer += more
        return answer
    finally:
        writer.close()
