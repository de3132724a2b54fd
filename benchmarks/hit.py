"""The price of asking for a model that is ready: load and release, against a cache that only keeps.

`async-lru` finds what it keeps, and moves it to the front. Greenroom does that, counts a reference
for an owner, knows when it was taken, and takes it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from async_lru import alru_cache

from benchmarks.figures import Effort, Figure
from benchmarks.rounds import Stopwatch, interleaved
from greenroom import ModelManager
from greenroom.testing import Stage

_STEPS = 200_000

Case = Callable[[], Awaitable[float]]


def measure(effort: Effort) -> list[Figure]:
    """Return what a hit costs for a pinned model, one that is not, with an owner, as a lease."""
    return asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Figure]:
    steps = effort.count(_STEPS)
    stage = Stage("pinned", "free")
    manager = ModelManager(
        catalog=stage.catalog, default_model_id="pinned", preload_model_ids=["free"]
    )
    async with manager:
        cases: dict[str, Case] = {
            "async-lru": await _cache_hits(steps),
            "floor": _nothing(steps),
            "pinned": _hits(manager, "pinned", steps),
            "free": _hits(manager, "free", steps),
            "owner": _owned_hits(manager, "free", steps),
            "lease": _leases(manager, "free", steps),
        }
        took = await interleaved(effort.rounds, cases)
    peer = took["async-lru"]

    def row(name: str, case: str, at_most: float | None = 1.5) -> Figure:
        return Figure(name, took[case], "s", "async-lru hit", peer, at_most=at_most, bounds="ratio")

    return [
        row("load + release, pinned default", "pinned"),
        row("load + release", "free"),
        row("load + release with an owner", "owner"),
        row("async with lease(…)", "lease", None),
        Figure(
            "load + release above the floor",
            took["free"],
            peer="two awaits of an empty coroutine",
            theirs=took["floor"],
        ),
    ]


async def _cache_hits(steps: int) -> Case:
    @alru_cache(maxsize=3)
    async def load(model_id: str) -> object:
        return object()

    await load("free")

    async def case() -> float:
        watch = Stopwatch()
        for _ in range(steps):
            await load("free")
        return watch.read() / steps

    return case


def _hits(manager: ModelManager, model_id: str, steps: int) -> Case:
    async def case() -> float:
        load, release = manager.load, manager.release
        watch = Stopwatch()
        for _ in range(steps):
            await load(model_id)
            await release(model_id)
        return watch.read() / steps

    return case


def _owned_hits(manager: ModelManager, model_id: str, steps: int) -> Case:
    async def case() -> float:
        load, release = manager.load, manager.release
        watch = Stopwatch()
        for _ in range(steps):
            await load(model_id, owner="caller")
            await release(model_id, owner="caller")
        return watch.read() / steps

    return case


def _leases(manager: ModelManager, model_id: str, steps: int) -> Case:
    async def case() -> float:
        lease = manager.lease
        watch = Stopwatch()
        for _ in range(steps):
            async with lease(model_id):
                pass
        return watch.read() / steps

    return case


def _nothing(steps: int) -> Case:
    async def empty() -> None:
        pass

    call: Callable[[], Coroutine[Any, Any, None]] = empty

    async def case() -> float:
        watch = Stopwatch()
        for _ in range(steps):
            await call()
            await call()
        return watch.read() / steps

    return case
