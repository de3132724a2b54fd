"""Several voices on a server: Greenroom's worker, and `wyoming-piper`, which keeps one at a time.

Each is a process of its own that serves the same voice files, asked over its own protocol on
loopback. The worker keeps three voices (its default); beside it is one that may keep one only, so
that every change of voice evicts, loads and warms up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from benchmarks.figures import Effort, Figure
from benchmarks.rounds import interleaved
from benchmarks.serving import Ask, has_wyoming, worker, wyoming
from benchmarks.voice_files import prepared_files
from benchmarks.voices import LONG_SENTENCE

_VOICES = 3
_CALLERS = 6

Server = Callable[[], contextlib.AbstractAsyncContextManager[Ask]]


def measure(effort: Effort) -> list[Figure]:
    """Return first audio for callers in turn and at once, against wyoming-piper."""
    voices = prepared_files(1 if effort.short else _VOICES)
    return asyncio.run(_measure(voices, 2 if effort.short else _CALLERS, effort))


async def _measure(voices: list[Path], callers: int, effort: Effort) -> list[Figure]:
    rounds, quiet_s = min(effort.rounds, 5), effort.quiet_s
    async with contextlib.AsyncExitStack() as stack:
        servers = {
            "three": await stack.enter_async_context(worker(voices[0], resident_cap=3)),
            "one": await stack.enter_async_context(
                worker(voices[0], resident_cap=1, min_residency_ms=0, pin_default=False)
            ),
        }
        if has_wyoming():
            servers["wyoming"] = await stack.enter_async_context(wyoming(voices[0]))
        in_turn = await _asked(_in_turn, servers, voices, len(voices), rounds, quiet_s)
        del servers["one"]  # over its cap it would load more, and keep what it must not
        at_once = await _asked(_at_once, servers, voices, callers, rounds, quiet_s)
    peer, note = "wyoming-piper", "" if has_wyoming() else "wyoming-piper is not installed"

    def row(name: str, took: dict[str, tuple[float, ...]], which: str, bound: float) -> Figure:
        if note:
            return Figure(name, took[which], note=note)
        at_most = bound or None
        return Figure(name, took[which], "s", peer, took["wyoming"], at_most, "ratio")

    return [
        row(f"{len(voices)} voices in turn: first audio", in_turn, "three", 0.20),
        row("… with room for one voice", in_turn, "one", 0),
        row(f"{callers} callers at once: slowest first audio", at_once, "three", 0.30),
    ]


async def _asked(
    how: Callable[[Ask, list[Path], int], Awaitable[float]],
    servers: dict[str, Ask],
    voices: list[Path],
    count: int,
    rounds: int,
    quiet_s: float,
) -> dict[str, tuple[float, ...]]:
    def case(ask: Ask) -> Callable[[], Awaitable[float]]:
        async def run() -> float:
            took = await how(ask, voices, count)
            await asyncio.sleep(quiet_s)  # a worker gives back memory: nobody is asked meanwhile
            return took

        return run

    cases = {name: case(ask) for name, ask in servers.items()}
    await interleaved(1, cases)  # everything that is loaded or made once
    return await interleaved(rounds, cases)


async def _in_turn(ask: Ask, voices: list[Path], count: int) -> float:
    return median(
        [await ask(voices[number % len(voices)], LONG_SENTENCE) for number in range(count)]
    )


async def _at_once(ask: Ask, voices: list[Path], count: int) -> float:
    asked = (ask(voices[number % len(voices)], LONG_SENTENCE) for number in range(count))
    return max(await asyncio.gather(*asked))
