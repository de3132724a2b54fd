"""Several workers and more voices than fit: which worker a request is sent to, and what that costs.

16 real voices by Zipf's law, 3 places in each worker, 8 callers who ask without a pause, the same
requests in the same order for each way to choose. Beside them one worker with all places, which
cannot be bettered by sending requests anywhere. Loads are counted by the workers themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from benchmarks.figures import Effort, Figure
from benchmarks.listener import Listener
from benchmarks.processes import free_port, process, until_it_answers, worker_command
from benchmarks.rounds import Stopwatch
from benchmarks.voice_files import prepared_crowd
from greenroom.cluster.picker import Picker
from greenroom.cluster.reports import seed_of
from greenroom.errors import WorkerError
from greenroom.worker.client import Client

_VOICES = 16
_PLACES = 3
_CALLERS = 8
_REQUESTS = 240
_TEXT = "Yes, and back it goes."

_MOST_LOADS = {2: 0.7, 4: 0.5}
"""By the number of workers, in the place of one load of those asked in turn. With six places for 16
voices one worker with all of them needs 0.6: half cannot be had."""

Choose = Callable[[str], Client | Picker]
"""Returns who is asked to speak with a voice."""


@dataclass(frozen=True, slots=True)
class Server:
    """A worker in a process of its own."""

    client: Client
    port: int
    """Of HTTP."""

    async def loads(self) -> int:
        """Return how often it has loaded a voice."""
        async with Listener(self.port) as listener:
            text = await listener.text("/metrics")
        line = next(each for each in text.splitlines() if 'loads_total{outcome="ready"}' in each)
        return round(float(line.split()[-1]))

    async def empty(self) -> None:
        """Unload everything."""
        for model in (await self.client.list_models()).models:
            if model.HasField("resident"):
                with contextlib.suppress(WorkerError):
                    await self.client.unload(model.model_id)


@dataclass(slots=True)
class Run:
    """What the callers met with one way to choose."""

    requests: int
    loads: int = 0
    first: list[float] = field(default_factory=list)
    """Seconds to the first audio."""

    @property
    def found(self) -> float:
        """The share of requests for which nothing was loaded."""
        return 1 - self.loads / self.requests

    @property
    def p95(self) -> float:
        """Seconds to the first audio."""
        return quantiles(self.first, n=20)[-1]


def measure(effort: Effort) -> list[Figure]:
    """Compare ways to choose, with two workers and with four."""
    voices = prepared_crowd(2 if effort.short else _VOICES)
    requests = effort.count(_REQUESTS, least=4)
    counts = (2,) if effort.short else (2, 4)
    figures: list[Figure] = []
    for count in counts:
        runs = asyncio.run(_runs(voices, count, requests))
        figures += _figures(count, runs)
    return figures


def _figures(count: int, runs: dict[str, Run]) -> list[Figure]:
    ours, turn = runs["ours"], runs["in turn"]
    head = f"{count} workers"
    figures = [
        Figure(
            f"{head}: loads",
            (float(ours.loads),),
            "",
            "in turn",
            (float(turn.loads),),
            at_most=_MOST_LOADS[count],
            bounds="ratio",
        )
    ]
    for name, run in runs.items():
        figures += [
            Figure(f"… {name}: requests that found no voice", (1 - run.found,), ""),
            Figure(f"… {name}: first audio, p50", (median(run.first),)),
            Figure(f"… {name}: first audio, p95", (run.p95,)),
        ]
    return figures


async def _runs(voices: Sequence[Path], count: int, requests: int) -> dict[str, Run]:
    """Send the same requests in each way; by the way's name."""
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(_server(voices, _PLACES)) for _ in range(count)]
        whole = await stack.enter_async_context(_server(voices, _PLACES * count))
        turns = itertools.cycle(servers)
        picker = await stack.enter_async_context(Picker([s.client.address for s in servers]))
        ways: dict[str, tuple[Choose, list[Server]]] = {
            "ours": (lambda _: picker, servers),
            "in turn": (lambda _: next(turns).client, servers),
            "by hash": (lambda voice: servers[seed_of(voice) % count].client, servers),
            "one worker with all places": (lambda _: whole.client, [whole]),
        }
        return {
            name: await _run(choose, among, voices, requests)
            for name, (choose, among) in ways.items()
        }


async def _run(choose: Choose, servers: list[Server], voices: Sequence[Path], requests: int) -> Run:
    for server in servers:
        await server.empty()
    before = sum([await server.loads() for server in servers])
    weights = [1 / (number + 1) for number in range(len(voices))]
    asked = iter(random.Random(1).choices([voice.stem for voice in voices], weights, k=requests))
    run = Run(requests)

    async def call() -> None:
        for voice in asked:
            watch, first = Stopwatch(), 0.0
            async for _ in choose(voice).speak(_TEXT, voice):
                first = first or watch.read()
            run.first.append(first)

    await asyncio.gather(*(call() for _ in range(_CALLERS)))
    run.loads = sum([await server.loads() for server in servers]) - before
    return run


@contextlib.asynccontextmanager
async def _server(voices: Sequence[Path], places: int) -> AsyncIterator[Server]:
    port, http = free_port(), free_port()
    settings = {
        "worker.listen": f"127.0.0.1:{port}",
        "worker.http_listen": f"127.0.0.1:{http}",
        "voices.directories": f"[{voices[0].parent}]",
        "voices.packages": "[]",
        "model_manager.default_model_id": voices[0].stem,
        "model_manager.pin_default": "false",
        "model_manager.resident_cap": places,
        "model_manager.cap_policy": "hard",
        "model_manager.min_residency_ms": 0,
    }
    async with (
        process(worker_command(settings)) as running,
        Client(f"127.0.0.1:{port}") as client,
    ):
        await until_it_answers(running, lambda: _greet(client, voices[0].stem), WorkerError)
        yield Server(client, http)


async def _greet(client: Client, voice: str) -> None:
    async for _ in client.speak("Ready.", voice):
        pass
