"""The first audio and the whole of a paragraph: one warm caller, four at once, one thread or two.

Stock Piper makes sentences at 22 kHz; ours are frames of 20 ms at 48 kHz. The `threads` of a model
are those inside one run of its network; without the option it has as many as there are cores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.figures import Effort, Figure
from benchmarks.rounds import Stopwatch, interleaved
from benchmarks.ticker import Ticker
from benchmarks.voices import PARAGRAPH, SENTENCE, piper_voices, stock_piper
from greenroom import Catalog, ModelManager, TTSAdapter

_CALLERS = 4
_VARIANTS: dict[str, dict[str, int]] = {"usual": {}, "one": {"threads": 1}, "two": {"threads": 2}}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a listener noticed, in seconds."""

    first: float
    whole: float
    stall: float = 0.0
    """The 99th percentile of the event loop's lateness meanwhile."""


def measure(effort: Effort) -> list[Figure]:
    """Return first audio and whole paragraph against stock Piper, and one thread against two."""
    return asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Figure]:
    text = SENTENCE if effort.share < 0.1 else PARAGRAPH
    stock = await asyncio.to_thread(stock_piper)
    await asyncio.to_thread(list, stock.synthesize("Ready."))
    catalog = Catalog(
        replace(piper_voices(1, **options)[0], model_id=name) for name, options in _VARIANTS.items()
    )
    manager = ModelManager(
        catalog=catalog, default_model_id="usual", preload_model_ids=["one", "two"]
    )
    async with manager:
        adapters = {name: await manager.load(name) for name in _VARIANTS}
        cases: dict[str, Callable[[], Awaitable[Heard]]] = {
            "stock": lambda: _while_ticking(asyncio.to_thread(_hear_stock, stock, text)),
            **{name: _listener(adapter, text) for name, adapter in adapters.items()},
        }
        alone = await interleaved(min(effort.rounds, 7), cases)
        crowds = {name: _listeners(adapters[name], text) for name in ("one", "two")}
        together = await interleaved(min(effort.rounds, 5), crowds)
        for name in adapters:
            await manager.release(name)
    return [*_against_stock(alone), *_one_against_two(alone, together)]


def _against_stock(alone: dict[str, tuple[Heard, ...]]) -> list[Figure]:
    ours, theirs = alone["usual"], alone["stock"]
    return [
        Figure("first audio of a paragraph", _first(ours), "s", "piper-tts", _first(theirs)),
        Figure("whole paragraph", _whole(ours), "s", "piper-tts", _whole(theirs)),
    ]


def _one_against_two(
    alone: dict[str, tuple[Heard, ...]], together: dict[str, tuple[float, ...]]
) -> list[Figure]:
    one, two = alone["one"], alone["two"]

    def row(name: str, ours: tuple[float, ...], theirs: tuple[float, ...]) -> Figure:
        return Figure(f"{name}, threads 1", ours, "s", "threads 2", theirs)

    return [
        row("first audio", _first(one), _first(two)),
        row("whole paragraph", _whole(one), _whole(two)),
        row(f"{_CALLERS} paragraphs at once", together["one"], together["two"]),
        row("loop stall while it speaks, p99", _stall(one), _stall(two)),
    ]


def _first(heard: tuple[Heard, ...]) -> tuple[float, ...]:
    return tuple(each.first for each in heard)


def _whole(heard: tuple[Heard, ...]) -> tuple[float, ...]:
    return tuple(each.whole for each in heard)


def _stall(heard: tuple[Heard, ...]) -> tuple[float, ...]:
    return tuple(each.stall for each in heard)


async def _while_ticking(speaking: Awaitable[Heard]) -> Heard:
    async with Ticker() as ticker:
        heard = await speaking
    return replace(heard, stall=ticker.p99)


def _listener(adapter: TTSAdapter, text: str) -> Callable[[], Awaitable[Heard]]:
    return lambda: _while_ticking(_hear(adapter, text))


def _listeners(adapter: TTSAdapter, text: str) -> Callable[[], Awaitable[float]]:
    async def case() -> float:
        watch = Stopwatch()
        await asyncio.gather(*(_hear(adapter, text) for _ in range(_CALLERS)))
        return watch.read()

    return case


async def _hear(adapter: TTSAdapter, text: str) -> Heard:
    watch = Stopwatch()
    first = 0.0
    async for _ in adapter.synthesize_stream(text):
        first = first or watch.read()
    return Heard(first, watch.read())


def _hear_stock(voice: Any, text: str) -> Heard:
    watch = Stopwatch()
    first = 0.0
    for _ in voice.synthesize(text):
        first = first or watch.read()
    return Heard(first, watch.read())
