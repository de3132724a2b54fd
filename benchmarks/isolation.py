"""Engines in a process of their own, against the same build with engines in threads.

Both managers work in a process each, in turn. "Ours" is `isolation: engine`, the peer `none`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.apart import Apart
from benchmarks.figures import Effort, Figure
from benchmarks.rounds import Stopwatch, interleaved
from benchmarks.ticker import Ticker
from benchmarks.voice_files import models, prepared_crowd
from benchmarks.voices import LONG_SENTENCE, PARAGRAPH, SENTENCE
from greenroom import Catalog, ModelManager
from greenroom.adapter import Isolation
from greenroom.audio.frames import FRAME_MS
from greenroom.memory.usage import MIB

_CROWD = 50
_CALLERS = (1, 16)
_BRIEF = "And back it goes."
"""What callers say where nothing is measured."""
_FIRST_AUDIO_RATIO, _FIRST_AUDIO_S = 1.05, 3e-3
_FURTHER_S, _COLD_S = 5e-3, 30e-3
_MEMORY_MB = 80.0
_PEER = "engines in threads"

_runner: asyncio.Runner
_manager: ModelManager
_names: list[str]


def measure(effort: Effort) -> list[Figure]:
    """Return what a process of their own costs engines, and what it gains."""
    voices = prepared_crowd(2 if effort.short else _CROWD)
    rounds = min(effort.rounds, 5)
    counts = [count for count in (1, 4, len(voices)) if count <= len(voices)]
    with Apart() as threads, Apart() as processes:
        threads(_begin, voices, "none")
        processes(_begin, voices, "engine")
        steps: dict[str, Callable[..., Any]] = {
            "first": functools.partial(_first_audio, effort.count(20)),
            "further": functools.partial(_further_loads, effort.count(20)),
            "cold": functools.partial(_cold_loads, effort.count(4)),
            "stall": functools.partial(_stall, effort.count(4)),
            **{f"loop {n}": functools.partial(_closed_loop, n, effort.share) for n in _CALLERS},
        }
        seen = {name: _in_turn(rounds, threads, processes, step) for name, step in steps.items()}
        memory = [
            (count, threads(_memory_of, count), processes(_memory_of, count)) for count in counts
        ]
        for each in (threads, processes):
            each(_end)

    def row(name: str, step: str, at_most: float | None = None, **more: Any) -> Figure:
        ours, theirs = seen[step]
        return Figure(name, ours, "s", _PEER, theirs, at_most, **more)

    def beyond(name: str, step: str, at_most: float) -> Figure:
        ours, theirs = seen[step]
        more = tuple(mine - other for mine, other in zip(ours, theirs, strict=True))
        return Figure(f"… more than in threads: {name}", more, "s", at_most=at_most)

    # As seconds for a second of audio, so that less is better, as in all rows.
    return [
        row("first audio of a voice in memory", "first"),
        beyond("first audio", "first", max(_FIRST_AUDIO_S, median(seen["first"][1]) / 20)),
        row("a further prepared voice, load and warmup", "further"),
        beyond("a further voice", "further", _FURTHER_S),
        row("a voice, nothing resident, load and warmup", "cold"),
        beyond("nothing resident", "cold", _COLD_S),
        row("seconds for a second of audio, 1 caller", "loop 1", 1 / 0.97, bounds="ratio"),
        row("seconds for a second of audio, 16 callers", "loop 16", 1.0, bounds="ratio"),
        row("loop stall, p99 of ticks, 4 callers and loads", "stall", 1 / 3, bounds="ratio"),
        *(
            Figure(
                f"memory of all processes more than in threads, {count} voices (proportional)",
                (mine - other,),
                "MB",
                at_most=_MEMORY_MB,
            )
            for count, other, mine in memory
        ),
        *(
            Figure(f"… of {count} voices", (mine,), "MB", _PEER, (other,))
            for count, other, mine in memory
        ),
    ]


def _in_turn(
    rounds: int, threads: Apart, processes: Apart, step: Callable[[], float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    cases = {
        "threads": functools.partial(asyncio.to_thread, threads, step),
        "processes": functools.partial(asyncio.to_thread, processes, step),
    }
    if rounds > 1:
        asyncio.run(interleaved(1, cases))  # everything that is made once
    found = asyncio.run(interleaved(rounds, cases))
    return found["processes"], found["threads"]


# In the processes


def _begin(voices: Sequence[Path], isolation: Isolation) -> None:
    global _runner, _manager, _names
    specs = models(list(voices))
    _names = [spec.model_id for spec in specs]
    _manager = ModelManager(
        catalog=Catalog(specs),
        default_model_id=_names[0],
        resident_cap=len(specs),
        min_residency_ms=0,
        pin_default=False,
        isolation=isolation,
    )
    _runner = asyncio.Runner()
    _runner.run(_manager.initialize())


def _end() -> None:
    _runner.run(_manager.shutdown())
    _runner.close()


def _first_audio(count: int) -> float:
    async def first() -> float:
        async with _manager.lease(_names[0]) as lease:
            watch = Stopwatch()
            async with lease.synthesize_stream(LONG_SENTENCE) as stream:
                await anext(stream)
                took = watch.read()
                async for _ in stream:
                    pass
        return took

    return median(_runner.run(first()) for _ in range(count))


def _further_loads(count: int) -> float:
    return median(_runner.run(_load_and_unload(_names[1])) for _ in range(count))


def _cold_loads(count: int) -> float:
    _runner.run(_unload_all())
    took = median(_runner.run(_load_and_unload(_names[1])) for _ in range(count))
    _runner.run(_load(_names[0]))
    return took


async def _load(name: str) -> float:
    watch = Stopwatch()
    async with _manager.lease(name):
        return watch.read()


async def _load_and_unload(name: str) -> float:
    took = await _load(name)
    await _manager.unload(name)
    return took


async def _unload_all() -> None:
    for resident in _manager.list_resident():
        await _manager.unload(resident.model_id)


async def _say(text: str) -> float:
    frames = 0
    async with _manager.lease(_names[0]) as lease:
        async for _ in lease.synthesize_stream(text):
            frames += 1
    return frames * FRAME_MS / 1000


def _closed_loop(callers: int, share: float) -> float:
    """Return the seconds for a second of audio."""
    times = max(1, round((24 if callers == 1 else 4) * share))
    text = _BRIEF if share < 0.1 else PARAGRAPH

    async def caller() -> float:
        return sum([await _say(text) for _ in range(times)])

    async def all_callers() -> float:
        watch = Stopwatch()
        audio_s = sum(await asyncio.gather(*(caller() for _ in range(callers))))
        return watch.read() / audio_s

    return _runner.run(all_callers())


def _stall(times: int) -> float:
    """Return the stall that 99 of 100 ticks stay below, while four speak and voices come and go."""

    async def lives() -> None:
        for _ in range(times):
            await _load_and_unload(_names[1])

    async def speak() -> None:
        for _ in range(times):
            await _say(SENTENCE)

    async def run() -> float:
        async with Ticker() as ticker:
            await asyncio.gather(lives(), *(speak() for _ in range(4)))
        return ticker.p99

    return _runner.run(run())


def _memory_of(count: int) -> float:
    """Return the proportional memory of this process and its children with so many voices, in MB.

    Each voice has spoken once.
    """

    async def use() -> None:
        await _unload_all()
        for name in _names[:count]:
            async with _manager.lease(name) as lease:
                async for _ in lease.synthesize_stream(SENTENCE):
                    pass

    _runner.run(use())
    me = psutil.Process()
    return sum(map(_proportional_bytes, [me, *me.children(recursive=True)])) / MIB


def _proportional_bytes(process: psutil.Process) -> int:
    path = Path(f"/proc/{process.pid}/smaps_rollup")
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
