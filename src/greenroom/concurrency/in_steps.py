"""Long iterations on the event loop in steps, between which others have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

STEP = 200
"""Models between two turns of the event loop: about 2 ms, where each is explained."""


async def in_steps(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items in order; others have their turn now and then."""
    for number, item in enumerate(items, 1):
        yield item
        if number % STEP == 0:
            await asyncio.sleep(0)
