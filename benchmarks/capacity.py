"""How many callers who play at real time a server keeps talking, soon and unbroken.

Each asks for two sentences as pcm, plays what it gets, and asks again when it has heard all. A gap
is the time for which a listener has heard everything that was received. Callers are *held* when at
most 1 % of their speeches have more than 20 ms of gaps, and 95 % begin no later than 95 % of stock
Piper's do with a single caller.

In a closed loop nobody plays: who has everything asks again. Its rate measures load: each caller
who plays hears a second of audio a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from benchmarks import capacity_plot, capacity_servers, plots
from benchmarks.capacity_figures import (
    CLOSED,
    LOADS,
    OURS,
    SINGLE,
    STOCK,
    Outcome,
    case,
    figures,
    rate,
)
from benchmarks.capacity_servers import Server
from benchmarks.figures import Effort, Figure
from benchmarks.ladder import Ladder, climb
from benchmarks.rounds import interleaved
from benchmarks.serving import has_wyoming
from benchmarks.talkers import TEXT, Run
from benchmarks.voice_files import prepared_crowd, prepared_files
from benchmarks.voices import piper_voices

_CALLERS = (1, 2, 4, 8, 12, 16, 24)
_VOICES = 8
_FIRST_S, _OTHERS_S = 7.0, 6.0
"""For how long callers ask on each step: over HTTP with one voice, and of all else."""
_SWARM = 24
"""Callers who come at one instant."""
_ALONE_S, _PAUSE_S = 12.0, 0.5
"""For how long one caller asks who does not play, and how long it rests after each speech."""
_ROUNDS = 2
"""Of closed loops."""
_HOPELESS = 4.0
"""A peer is asked by no more callers once its p95 is so many times what stock takes for one."""


_STREAMING, _WYOMING = "streaming-vits behind FastAPI", "wyoming-piper"


def measure(effort: Effort) -> list[Figure]:
    """Return held callers and how they were served; keep a plot of it."""
    scale = _Scale(effort)
    outcome = asyncio.run(_measure(scale, *_voices(effort)))
    plots.keep("capacity", capacity_plot.draw(outcome.ours, outcome.peers, outcome.limit))
    return figures(outcome)


def _voices(effort: Effort) -> tuple[list[Path], Path]:
    """Return our voices and the peers'; a short effort prepares none, and has test voices."""
    if effort.short:
        (voice,) = piper_voices(1)
        return [], Path(voice.path or "")
    crowd = prepared_crowd(_VOICES)
    (path,) = prepared_files(1)
    return crowd, path


class _Scale:
    """How much is done: a short effort has few callers, who say a word for a moment."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self.short = short = effort.short
        self.text = "Ready." if short else TEXT
        self.callers = _CALLERS[:2] if short else _CALLERS
        self.rounds = min(effort.rounds, _ROUNDS)

    def seconds(self, full: float) -> float:
        """Return for how long callers ask, or rest."""
        return 0.05 if self._effort.short else full * self._effort.share

    def count(self, full: float) -> int:
        """Return how many callers or speeches there are."""
        return 2 if self._effort.short else max(1, int(full))


async def _measure(scale: _Scale, crowd: list[Path], voice: Path) -> Outcome:
    seconds, text = scale.seconds, scale.text
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        worker = await enter(capacity_servers.worker(crowd, text))
        stock = await enter(capacity_servers.fastapi(voice, text))
        single = stock
        if not scale.short:
            single = await enter(capacity_servers.fastapi(voice, text, "--threads", "1"))
        alone = {
            name: await server.talk(1, seconds(_ALONE_S), pause_s=seconds(_PAUSE_S))
            for name, server in ((STOCK, stock), (OURS, worker))
        }
        hopeless_s = _HOPELESS * alone[STOCK].first(95)
        closed = await _closed_loops(scale, {OURS: worker, STOCK: stock, SINGLE: single})
        most = max(rate(closed, OURS, callers) for callers in CLOSED)
        first = await _climb(scale, "HTTP, one voice", worker, _FIRST_S)
        loads = [
            await worker.talk(scale.count(load.share * most), seconds(load.seconds))
            for load in LOADS
        ]
        swarm = await worker.talk(scale.count(_SWARM), seconds(_OTHERS_S), at_once=True)
        second = await _climb(scale, f"HTTP, {_VOICES} voices", worker, _OTHERS_S, _VOICES)
        peers = [await _climb(scale, STOCK, stock, _OTHERS_S, hopeless_s=hopeless_s)]
    async with capacity_servers.manager(crowd, text) as manager:
        third = await _climb(scale, "manager, one voice", manager, _OTHERS_S)
        fourth = await _climb(scale, f"manager, {_VOICES} voices", manager, _OTHERS_S, _VOICES)
    ours = [first, second, third, fourth]
    starts = {} if scale.short else _further_peers(voice, text)
    for name, start in starts.items():
        async with start() as server:
            peers.append(await _climb(scale, name, server, _OTHERS_S, hopeless_s=hopeless_s))
    missing = [name for name in (_STREAMING, _WYOMING) if name not in starts]
    return Outcome(alone, closed, loads, swarm, ours, peers, missing)


async def _closed_loops(scale: _Scale, servers: Mapping[str, Server]) -> dict[str, tuple[Run, ...]]:
    cases: dict[str, Callable[[], Awaitable[Run]]] = {
        case(name, callers): functools.partial(server.work, callers, scale.count(loop.speeches))
        for callers, loop in CLOSED.items()
        for name, server in servers.items()
    }
    return await interleaved(scale.rounds, cases)


async def _climb(
    scale: _Scale,
    name: str,
    server: Server,
    full_s: float,
    voices: int = 1,
    *,
    hopeless_s: float = math.inf,
) -> Ladder:
    talk = functools.partial(server.talk, seconds=scale.seconds(full_s), voices=voices)
    return await climb(name, talk, scale.callers, hopeless_s=hopeless_s)


def _further_peers(
    voice: Path, text: str
) -> dict[str, Callable[[], AbstractAsyncContextManager[Server]]]:
    """Return how those peers are started that are installed, by their names."""
    starts: dict[str, Callable[[], AbstractAsyncContextManager[Server]]] = {}
    if capacity_servers.has_streaming_vits():
        options = ("--engine", "streaming-vits")
        starts[_STREAMING] = functools.partial(capacity_servers.fastapi, voice, text, *options)
    if has_wyoming():
        starts[_WYOMING] = functools.partial(capacity_servers.wyoming, voice, text)
    return starts
