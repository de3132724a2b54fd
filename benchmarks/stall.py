"""How long the event loop stands still while a real voice loads, warms up, speaks and unloads.

Three readings of one ticker. Of ticks: the stall that 99 of 100 ticks stay below. Longest: the one
worst tick of a round. Of arrivals: what 99 of 100 callers stay below who come at any moment, so
that a long stall counts for as long as it lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.figures import Effort, Figure
from benchmarks.rounds import interleaved
from benchmarks.ticker import Ticker
from benchmarks.voices import SENTENCE, piper_voices, stock_piper
from greenroom import Catalog, ModelManager

_LIVES = 5
_SENTENCES = 3
_QUIET_S = 2.0
_AT_MOST = 2.0


def measure(effort: Effort) -> list[Figure]:
    """Return the stalls beside the manager, beside stock Piper in a thread, beside nothing."""
    return asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Figure]:
    lives = effort.count(_LIVES)
    seen = await interleaved(
        min(effort.rounds, 5),
        {
            "nothing": _while_ticking(lambda: asyncio.sleep(_QUIET_S * effort.share)),
            "stock": _while_ticking(lambda: _live_in_threads(lives)),
            "ours": _while_ticking(lambda: _live_in_manager(lives)),
        },
    )

    def row(name: str, value: Callable[[Ticker], float], at_most: float | None = None) -> Figure:
        ours = tuple(map(value, seen["ours"]))
        stock = tuple(map(value, seen["stock"]))
        peer = "piper-tts in asyncio.to_thread"
        return Figure(f"loop stall, {name}", ours, "s", peer, stock, at_most, bounds="ratio")

    def floor(name: str, value: Callable[[Ticker], float]) -> Figure:
        quiet = tuple(map(value, seen["nothing"]))
        return Figure(f"floor: loop stall with nothing running, {name}", quiet)

    return [
        row("p99 of ticks", lambda ticker: ticker.p99, _AT_MOST),
        row("p99 of arrivals", lambda ticker: ticker.p99_of_arrivals),
        row("longest", lambda ticker: ticker.longest),
        floor("p99 of ticks", lambda ticker: ticker.p99),
        floor("longest", lambda ticker: ticker.longest),
    ]


def _while_ticking(live: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[Ticker]]:
    async def case() -> Ticker:
        async with Ticker() as ticker:
            await live()
        return ticker

    return case


async def _live_in_manager(lives: int) -> None:
    """The default voice is loaded once; then each life evicts, loads, speaks and unloads."""
    manager = ModelManager(
        catalog=Catalog(piper_voices(4)),
        default_model_id="voice-0",
        resident_cap=2,
        min_residency_ms=0,
    )
    async with manager:
        for number in range(lives - 1):
            voice = f"voice-{1 + number % 3}"
            async with manager.lease(voice) as lease:
                for _ in range(_SENTENCES):
                    async for _ in lease.synthesize_stream(SENTENCE):
                        pass


async def _live_in_threads(lives: int) -> None:
    def live() -> None:
        voice = stock_piper()
        for text in ("Ready.", *[SENTENCE] * _SENTENCES):
            for _ in voice.synthesize(text):
                pass

    for _ in range(lives):
        await asyncio.to_thread(live)
