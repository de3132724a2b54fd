"""A voice of which one stream takes nearly all that the machine can do, for tests of overload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from greenroom.adapter import TTSAdapter
from greenroom.concurrency.cores import CORES
from greenroom.speech.cost import StepTaken
from greenroom.speech.host import ModelHost


def host_of(adapter: TTSAdapter) -> ModelHost:
    """Return where the streams of a model in memory are counted."""
    assert isinstance(adapter._host, ModelHost)
    return adapter._host


def cost_as_much_as_there_is(adapter: TTSAdapter) -> None:
    """Have one stream need nine tenths of all cores."""
    for _ in range(40):
        seconds = 0.8 * CORES.count
        host_of(adapter).cost.learn_step(StepTaken(seconds, seconds, 0.0, 1.0, first=False))


async def endless() -> AsyncIterator[str]:
    """Yield a sentence, and then nothing for longer than any test takes."""
    yield "A sentence. And"
    await asyncio.sleep(1e6)
