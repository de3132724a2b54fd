"""A model that speaks on slowly while a caller leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.worker.worker_client import Meter


@contextlib.asynccontextmanager
async def slow_speech(meter: Meter) -> AsyncIterator[None]:
    """Let a chunk pass now and then inside the block: a caller who leaves waits for the present."""

    async def allow() -> None:
        while True:
            meter.allow(1)
            await asyncio.sleep(0.02)

    allowing = asyncio.create_task(allow())
    try:
        yield
    finally:
        allowing.cancel()
        await asyncio.wait([allowing])
