"""Waiting in tests for what threads, processes and servers do, which set no event of ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LIMIT_S = 60.0
"""Seconds that nothing which is waited for takes."""

_PAUSE_S = 0.002


def eventually(condition: Callable[[], object], limit: float = LIMIT_S) -> None:
    """Return as soon as `condition` holds; fail when it does not within `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, _late(condition, limit)
        time.sleep(_PAUSE_S)


async def until(condition: Callable[[], object], limit: float = LIMIT_S) -> None:
    """Return as soon as `condition` holds, as `eventually` does, while the event loop goes on."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, _late(condition, limit)
        await asyncio.sleep(_PAUSE_S)


def _late(condition: Callable[[], object], limit: float) -> str:
    return f"{condition} did not hold within {limit:g} s"
