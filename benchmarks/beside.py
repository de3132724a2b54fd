"""The wait for a ready model while another one loads, hangs or leaves.

From the moment of asking, in a task of its own as a server would ask, to having the adapter. How
long the loop itself stands still meanwhile is the benchmark `stall`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from benchmarks.figures import Effort, Figure
from benchmarks.rounds import Stopwatch, interleaved
from benchmarks.ticker import PERIOD, percentile
from benchmarks.voices import piper_voices
from greenroom import Catalog, ModelManager
from greenroom.adapter import ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.testing import Gate, Stage

_WAITS = 2_000
_LIVES = 8
_CALLERS = 64
_BOUND_S = 1e-3


def measure(effort: Effort) -> list[Figure]:
    """Return the p99 of the wait beside each of four things, against nothing going on."""
    return asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Figure]:
    waits = effort.count(_WAITS, least=3)
    lives = effort.count(_LIVES)
    rounds = min(effort.rounds, 5)
    fakes = await interleaved(
        rounds,
        {
            "alone": lambda: _alone(waits),
            "coming": lambda: _beside_hanging_load(waits),
            "going": lambda: _beside_hanging_unload(waits),
        },
    )
    coming, going = await _beside_real_voice(rounds * lives)

    def row(beside: str, ours: tuple[float, ...]) -> Figure:
        name = f"wait for a ready model while {beside}, p99"
        return Figure(name, ours, "s", "nothing goes on", fakes["alone"], at_most=_BOUND_S)

    return [
        row("a real voice loads", (coming,)),
        row("a real voice unloads", (going,)),
        row(f"{_CALLERS} callers wait for a load that hangs", fakes["coming"]),
        row(f"{_CALLERS} callers wait for an unload that hangs", fakes["going"]),
    ]


async def _wait(manager: ModelManager) -> float:
    """Ask once and give back; return the seconds from asking to having."""
    watch = Stopwatch()
    await asyncio.create_task(manager.load("ready"))
    took = watch.read()
    await manager.release("ready")
    return took


async def _p99(manager: ModelManager, waits: int) -> float:
    took = []
    for _ in range(waits):
        took.append(await _wait(manager))
        await asyncio.sleep(0)
    return percentile(took, 99)


async def _alone(waits: int) -> float:
    async with _staged(lambda stage: stage["other"].load, callers_for="") as manager:
        return await _p99(manager, waits)


async def _beside_hanging_load(waits: int) -> float:
    async with _staged(lambda stage: stage["other"].load, callers_for="other") as manager:
        return await _p99(manager, waits)


async def _beside_hanging_unload(waits: int) -> float:
    async with _staged(lambda stage: stage["other"].unload, callers_for="third") as manager:
        return await _p99(manager, waits)


@asynccontextmanager
async def _staged(
    gate: Callable[[Stage], Gate], *, callers_for: str
) -> AsyncIterator[ModelManager]:
    """Run two models, `ready` and `other`, in two places, and callers who wait at the gate."""
    stage = Stage("ready", "other", "third")
    manager = ModelManager(
        catalog=stage.catalog,
        default_model_id="ready",
        resident_cap=2,
        cap_policy="hard",
        min_residency_ms=0,
    )

    async def call() -> None:
        async with manager.lease(callers_for):
            pass

    async with manager:
        if callers_for == "third":
            async with manager.lease("other"):
                pass
        gate(stage).hold()
        callers = [asyncio.create_task(call()) for _ in range(_CALLERS if callers_for else 0)]
        await asyncio.sleep(0)
        try:
            yield manager
            assert not any(caller.done() for caller in callers), "nothing hung"
        finally:
            stage.open_all()
            await asyncio.gather(*callers)


async def _beside_real_voice(lives: int) -> tuple[float, float]:
    """Return the p99 while the voice comes in and while it leaves, asking every millisecond."""
    (voice,) = piper_voices(1)
    took: dict[str, list[float]] = {"coming": [], "going": []}
    phase = "coming"
    ready = ModelSpec("ready", ToneTTSAdapter)
    manager = ModelManager(
        catalog=Catalog([ready, voice]), default_model_id="ready", min_residency_ms=0
    )

    async def ask() -> None:
        while True:
            took[phase].append(await _wait(manager))
            await asyncio.sleep(PERIOD)

    async with manager:
        asking = asyncio.create_task(ask())
        for _ in range(lives):
            phase = "coming"
            async with manager.lease(voice.model_id):
                phase = "going"
            await manager.unload(voice.model_id)
        asking.cancel()
        await asyncio.wait([asking])
    return percentile(took["coming"], 99), percentile(took["going"], 99)
