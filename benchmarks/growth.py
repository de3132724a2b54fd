"""Memory over fifty lives of the real voice: what one life leaves behind, and what fifty do."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import psutil

from benchmarks.apart import apart
from benchmarks.figures import Effort, Figure
from benchmarks.voices import SENTENCE, piper_voices, stock_piper
from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.memory.usage import MIB

_LIVES = 50
_SETTLED = 5
"""Lives after which pools and caches have their size."""
_BOUND_MB = 5.0

Memory = tuple[float, float]
"""Megabytes: all that is resident, and the anonymous part of it."""


def measure(effort: Effort) -> list[Figure]:
    """Return the growth from the 5th to the last life, each of two programs in its own process."""
    lives = effort.count(_LIVES, least=2)
    settled = min(_SETTLED, lives - 1)
    theirs = apart(_lives_of_stock, lives)
    ours = apart(_lives_in_manager, lives)
    peer = "piper-tts, dropped and collected"

    def row(kind: str, column: int, at_most: float | None) -> Figure:
        return Figure(
            f"growth of {kind} memory, unload {settled} to {lives}",
            (ours[-1][column] - ours[settled][column],),
            "MB",
            peer,
            (theirs[-1][column] - theirs[settled][column],),
            at_most=at_most,
        )

    return [
        row("resident", 0, _BOUND_MB),
        row("anonymous", 1, _BOUND_MB),
        Figure(
            f"anonymous memory above the start, after {lives} unloads",
            (ours[-1][1] - ours[0][1],),
            "MB",
            peer,
            (theirs[-1][1] - theirs[0][1],),
        ),
    ]


def _lives_in_manager(lives: int) -> list[Memory]:
    return asyncio.run(_manage(lives))


async def _manage(lives: int) -> list[Memory]:
    (voice,) = piper_voices(1)
    tone = ModelSpec("tone", ToneTTSAdapter)
    seen = [_memory()]
    async with ModelManager(catalog=Catalog([tone, voice]), default_model_id="tone") as manager:
        for _ in range(lives):
            async with manager.lease(voice.model_id) as lease:
                async for _ in lease.synthesize_stream(SENTENCE):
                    pass
            await manager.unload(voice.model_id, drain=True)
            seen.append(_memory())
    return seen


def _lives_of_stock(lives: int) -> list[Memory]:
    seen = [_memory()]
    for _ in range(lives):
        voice = stock_piper()
        for text in ("Ready.", SENTENCE):
            for _ in voice.synthesize(text):
                pass
        del voice
        gc.collect()
        seen.append(_memory())
    return seen


def _memory() -> Memory:
    resident = psutil.Process().memory_info().rss / MIB
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return resident, int(line.split()[1]) / 1024
    return resident, resident
