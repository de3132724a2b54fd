"""`python -m benchmarks.soak`: a worker under mixed traffic and injected faults, for minutes.

It holds when no reference is lost, no load freezes, and every speech of a model that is not
itself at fault is whole. Prints a table, and ends with 1 when that was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.processes import free_port, memory_mb
from benchmarks.soak_callers import QUIET_S, Callers, Score
from benchmarks.soak_worker import DRAIN_MS

_CALLERS = 12
_START_S = 120.0
_STOP_S = DRAIN_MS / 1_000 + 15.0 + 5.0
"""The drain, what shutdown may take beyond it, and the process's own end."""

_FAULTS = ("no threads", "hang", "full log", "many lines", "slow reader of the log")


class Process:
    """The worker's process, its standard input and its answers, and its log, which is read here."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self.running = running
        self.log_bytes = 0
        self.last_lines = b""
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._turn = asyncio.Lock()
        self.reading = asyncio.create_task(self._read_log())

    async def ask(self, do: str, seconds: float = 0.0) -> dict[str, Any]:
        """Give a command; return the answer, a snapshot of the manager."""
        assert self.running.stdin is not None
        async with self._turn:
            line = json.dumps({"do": do, "seconds": seconds}) + "\n"
            self.running.stdin.write(line.encode())
            return await self.answer()

    async def answer(self, limit: float = 60.0) -> dict[str, Any]:
        """Return the next answer."""
        assert self.running.stdout is not None
        async with asyncio.timeout(limit):
            line = await self.running.stdout.readline()
        if not line:
            code = await self.ended()
            raise ConnectionError(f"the worker ended with {code}: {self.last_lines[-1_500:]!r}")
        return dict(json.loads(line))

    async def ended(self) -> int:
        """Return the exit code once there is one; asyncio's `wait` waits for the pipes as well."""
        while self.running.returncode is None:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.05)
        return self.running.returncode

    async def leave_the_log_unread(self, seconds: float) -> None:
        """Let the pipe fill, and stay full for a while."""
        self._may_read.clear()
        await self.ask("many lines")
        await asyncio.sleep(seconds)
        self._may_read.set()

    async def _read_log(self) -> None:
        assert self.running.stderr is not None
        while True:
            await self._may_read.wait()
            piece = await self.running.stderr.read(65_536)
            if not piece:
                return
            self.log_bytes += len(piece)
            self.last_lines = (self.last_lines + piece)[-8_000:]

    async def lose_the_logs_reader(self) -> None:
        """Close the reading end for good."""
        self.reading.cancel()
        await asyncio.wait([self.reading])
        transport: Any = self.running._transport  # type: ignore[attr-defined]
        transport.get_pipe_transport(2).close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the minutes given; return 1 when a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    score = Score()
    with tempfile.TemporaryDirectory(prefix="greenroom-soak-") as cache:
        os.environ["GREENROOM_CACHE_DIR"] = cache
        rows = asyncio.run(_soak(chosen.minutes * 60.0, chosen.seed, score))
    _show(rows, score)
    return 1 if score.breaches else 0


async def _soak(seconds: float, seed: int, score: Score) -> dict[str, object]:
    dice = random.Random(seed)
    http, address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    async with started("benchmarks.soak_worker", address, http, str(seed)) as process:
        callers = Callers(f"http://{http}", address, score, dice)
        await callers.render_all()
        loop = asyncio.get_running_loop()
        began, before = loop.time(), memory_mb(process.running.pid)[1]
        until = began + seconds
        tasks = [callers.act(until) for _ in range(_CALLERS)]
        injected = asyncio.create_task(_inject(process, score, dice, until))
        await asyncio.gather(*tasks, callers.sing(until))
        faults = await injected
        found = await _quiet(process, score)
        await callers.sing(loop.time() + 0.1)
        after = memory_mb(process.running.pid)[1]
        await callers.close()
        stopped = await _stopped(process, score)
    return {
        "minutes": f"{seconds / 60:g}, seed {seed}",
        "requests": f"{sum(score.done.values()):,}",
        **{f"  {kind}": f"{count:,}" for kind, count in sorted(score.done.items())},
        "refused, typed": _listed(score.refused),
        "faults injected": _listed(faults),
        "loads, failed, unloads": "{loads:,}, {failed_loads:,}, {unloads:,}".format(**found),
        "slowest canary": f"{score.slowest_canary_s:.1f} s",
        "anonymous memory before, after": f"{before:.0f}, {after:.0f} MB",
        "log": f"{process.log_bytes / 1e6:.1f} MB",
        "stopped in": f"{stopped:.1f} s",
    }


@contextlib.asynccontextmanager
async def started(module: str, *arguments: str) -> AsyncIterator[Process]:
    """Run a worker's module for an `async with` block; it has answered once when that begins."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", module, *arguments)
    running = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    process = Process(running)
    try:
        await process.answer(_START_S)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await process.ended()
        process.reading.cancel()


async def _inject(process: Process, score: Score, dice: random.Random, until: float) -> Any:
    """Break something every few seconds."""
    loop = asyncio.get_running_loop()
    counts = dict.fromkeys(_FAULTS, 0)
    while loop.time() < until - 5.0:
        await asyncio.sleep(dice.uniform(1.0, 6.0))
        fault, seconds = dice.choice(_FAULTS), dice.uniform(0.2, 2.0)
        counts[fault] += 1
        if fault == "slow reader of the log":
            await process.leave_the_log_unread(seconds)
            continue
        if fault == "no threads":
            score.excused_until = loop.time() + seconds + 12.0
        await process.ask(fault, seconds)
    await process.lose_the_logs_reader()
    counts["lost reader of the log"] = 1
    return counts


async def _quiet(process: Process, score: Score) -> dict[str, Any]:
    """Nothing is held, speaks, waits or loads once all have left."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + QUIET_S
    while True:
        found = await process.ask("look")
        moving = ("loading", "warming", "unloading", "draining")
        left = [
            one
            for one in found["residents"]
            if one["refcount"] or one["streams"] or one["state"] in moving
        ]
        if not left and not found["waiting"]:
            break
        if loop.time() > limit:
            for one in left:
                score.breaches[f"left behind: {one}"] += 1
            score.breaches["callers that wait for ever"] += found["waiting"]
            break
        await asyncio.sleep(0.2)
    for noticed in found["noticed"]:
        score.breaches[noticed] += 1
    score.breaches = +score.breaches
    return found


async def _stopped(process: Process, score: Score) -> float:
    """The worker stops in bounded time, and its process ends by itself, with 0."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await process.ask("stop")
        async with asyncio.timeout(_STOP_S):
            await process.ended()
    except (TimeoutError, ConnectionError) as error:
        score.breaches[f"stopping: {type(error).__name__} {error!s:.300}"] += 1
    if process.running.returncode:
        score.breaches[f"the worker ended with {process.running.returncode}"] += 1
    return loop.time() - began


def _listed(counts: Any) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"


def _show(rows: dict[str, object], score: Score) -> None:
    table = Table("what", "how many", title="soak")
    for name, value in rows.items():
        table.add_row(name, str(value))
    for breach, count in score.breaches.items():
        table.add_row(f"[red]broken[/]: {breach}".replace("[/]:", "[/red]:"), f"{count:,}")
    if not score.breaches:
        table.add_row("broken", "nothing")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
