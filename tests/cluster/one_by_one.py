"""What comes a few at a time, one by one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

T = TypeVar("T")


async def one_by_one(batches: AsyncGenerator[Sequence[T], None]) -> AsyncGenerator[T, None]:
    """Yield each of what comes together; closing it closes the batches."""
    async with contextlib.aclosing(batches):
        async for batch in batches:
            for each in batch:
                yield each
