"""`python -m benchmarks.soak_processes`: a worker whose engines have processes, for an hour.

64 callers over every protocol that speaks share 12 models under a hard cap of 3, some of them
vanish, and engines' processes are broken at random. It holds when every speech was whole or failed
with a type, nothing is held, waits or is booked once all have left, and no thread, descriptor or
memory is left behind then (`soak_rest`). From ten minutes on, neither memory nor descriptors,
threads or processes may have grown from the second quarter to the last while it worked: before,
pools and caches still fill. Prints a report, and ends with 1 when that was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.chaos_callers import TEXTS, Crowd, Standstills, Stream
from benchmarks.chaos_engines import INSIDE, tell, told
from benchmarks.chaos_worker import TWELVE
from benchmarks.listener import Listener
from benchmarks.processes import descendants, free_port, memory_mb
from benchmarks.soak import Process, started
from benchmarks.soak_rest import Rest, astray, left_behind, rest_of
from greenroom.v1 import tts_pb2

CALLERS = 64
PROTOCOLS = ("http", "piper", "grpc", "session")
_LOOKS = ("/api/ps", "/health", "/v2/health/ready", "/v1/models", "/v2")

_FAULT_EVERY_S = (3.0, 9.0)
_VANISH = 0.1
"""The share of speeches whose caller is gone before their end."""

_QUIET_S = 60.0
_RETURN_S = 20.0
"""How long threads, descriptors and memory may take to come back once nothing is left to do."""

_ALIKE = 5
"""So many looks in a row must find the same before the run, so that nothing is on its way out."""

_SAMPLE_EVERY_S = 5.0
"""Often, as a process that was just broken is missing from a sample."""

SETTLED_MINUTES = 10.0
"""In less, pools and caches fill while it works, which is no growth."""

GROWTH = 0.05
"""More than this share, and `_SPARE` more, is growth."""

_SPARE = {"memory, MB": 8.0, "descriptors": 16.0, "threads": 8.0, "processes": 1.0}

_OUTSIDE = {"kill -9": signal.SIGKILL, "stop signal": signal.SIGSTOP}
FAULTS = (*INSIDE, *_OUTSIDE, "fork server killed")


@dataclass
class Score:
    """What happened."""

    done: Counter[str] = field(default_factory=Counter)
    """Speeches that were whole, by protocol, and looks."""
    vanished: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Typed errors."""
    faults: Counter[str] = field(default_factory=Counter)
    breaches: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, float]] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)
    """What was held without a model, before the run and after it."""


class Callers(Crowd):
    """A crowd that speaks Piper's protocol and in sessions, too."""

    async def _take(self, stream: Stream) -> None:
        match stream.protocol:
            case "piper":
                await self._over_piper(stream)
            case "session":
                await self._in_session(stream)
            case _:
                await super()._take(stream)

    async def _over_piper(self, stream: Stream) -> None:
        body = json.dumps({"text": stream.text, "voice": stream.model}).encode()
        try:
            async with Listener(self.port) as listener:
                heard = await listener._ask("POST", "/synthesize", body)
        except OSError:
            stream.problem = "cut off"
            return
        self._judge(stream, heard)

    async def _in_session(self, stream: Stream) -> None:
        async def begin() -> str:
            asked = tts_pb2.StartSessionRequest(model_id=stream.model)
            return str((await self.stub.StartSession(asked, timeout=60.0)).session_id)

        session = ""
        with self._typed(stream):
            session = await begin()
        if not session:
            return
        try:
            await self._over_grpc(stream, session_id=session)
        finally:
            with contextlib.suppress(Exception):
                ended = tts_pb2.EndSessionRequest(session_id=session)
                await self.stub.EndSession(ended, timeout=10.0)


class Soak:
    """One run."""

    def __init__(self, seconds: float, seed: int, callers: int, *, leak: str = "") -> None:
        """Have a thread or a descriptor leak at each fault, if that is said, to see it found."""
        self.score = Score()
        self._leak = leak
        self._seconds = seconds
        self._seed = seed
        self._callers = callers
        self._until = 0.0
        self._standstills = Standstills()
        self._process: Process
        self._crowd: Callers

    async def run(self) -> None:
        """Start a worker, soak it, and look at what is left."""
        port, address = free_port(), f"127.0.0.1:{free_port()}"
        module = "benchmarks.chaos_worker"
        async with started(module, address, f"127.0.0.1:{port}", "twelve") as self._process:
            self._crowd = Callers(port, address, self._seed)
            await self._crowd.render_all(TWELVE, PROTOCOLS)
            await self._quiet()
            self._until = asyncio.get_running_loop().time() + self._seconds
            breaking = asyncio.create_task(self._break())
            watching = asyncio.create_task(self._standstills.watch())
            sampling = asyncio.create_task(self._sample())
            await asyncio.gather(*(self._call(number) for number in range(self._callers)))
            await asyncio.gather(breaking, sampling)
            await self._quiet()
            watching.cancel()
            await self._crowd.close()
            with contextlib.suppress(ConnectionError):
                await self._process.ask("stop")

    async def _call(self, number: int) -> None:
        dice = random.Random(self._seed * 1_000 + number)
        loop = asyncio.get_running_loop()
        while loop.time() < self._until:
            if dice.random() < 0.05:
                await self._look(dice.choice(_LOOKS))
                continue
            stream = Stream(
                dice.choice(TWELVE), dice.choice(PROTOCOLS), dice.choice(TEXTS), loop.time()
            )
            hearing = asyncio.create_task(self._crowd.hear(stream))
            if dice.random() < _VANISH:
                await asyncio.wait([hearing], timeout=dice.uniform(0.0, 2.0))
                hearing.cancel()
                await asyncio.wait([hearing])
                self.score.vanished += 1
            else:
                await hearing
                self._judge(stream)
            self._crowd.ended.clear()
            await asyncio.sleep(dice.uniform(0.0, 0.5) if stream.whole else dice.uniform(0.5, 1.5))

    async def _look(self, path: str) -> None:
        async with Listener(self._crowd.port) as listener:
            heard = await listener._ask("GET", path, b"")
        if heard.status in (200, 503):
            self.score.done["looks"] += 1
        else:
            self.score.breaches[f"{path}: {heard.status}"] += 1

    def _judge(self, stream: Stream) -> None:
        if stream.whole:
            self.score.done[stream.protocol] += 1
        elif stream.typed:
            self.score.refused[f"{stream.protocol}: {stream.problem}"] += 1
        elif not self._standstills.cover(stream.asked, stream.ended):
            self.score.breaches[f"{stream.protocol}: {stream.problem}"] += 1

    async def _break(self) -> None:
        """Break something every few seconds, but not at the very end."""
        dice = random.Random(self._seed)
        loop = asyncio.get_running_loop()
        while loop.time() < self._until - 5.0:
            await asyncio.sleep(dice.uniform(*_FAULT_EVERY_S))
            fault = dice.choice(FAULTS)
            look = await self._process.ask("look")
            pid = look["processes"].get("BreakingTone")
            if fault == "fork server killed":
                pid = look["fork_server"]
            if pid is None:
                continue
            self.score.faults[fault] += 1
            if self._leak:
                await self._process.ask(f"leak a {self._leak}")
            if fault in INSIDE:
                tell("breaking-tone", fault)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, _OUTSIDE.get(fault, signal.SIGKILL))
        told("breaking-tone").unlink(missing_ok=True)

    async def _sample(self) -> None:
        """Take note of what the worker and all that it has started take."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._until:
            await asyncio.sleep(_SAMPLE_EVERY_S)
            self.score.samples.append(sizes(self._process.running.pid))

    async def _quiet(self) -> None:
        """Wait until nothing is left to do, let all models go, and look at what is held then."""
        look = await self._come_to_rest()
        if look is None:
            return
        if abs(look["booked_mb"] - look["sum_mb"]) > 0.01:
            self.score.breaches["what is booked is not what residents have"] += 1
        await self._process.ask("unload all")
        left, rest = await self._let_go()
        for what in left:
            self.score.breaches[f"all was unloaded, and there is: {what}"] += 1
        self.score.rests.append(rest)

    async def _come_to_rest(self) -> dict[str, Any] | None:
        """Return what there is once no call is under way; `None` if that does not come about."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _QUIET_S
        while True:
            look = await self._process.ask("look")
            names = ("held", "moving", "waiting", "hanging")
            left = {name: look[name] for name in names if look[name]}
            if not left:
                left = dict(astray(look["processes"], look["connections"]))
            if not left:
                return look
            if loop.time() > until:
                self.score.breaches[f"left behind: {left}, {look['streams']}"] += 1
                return None
            await asyncio.sleep(0.2)

    async def _let_go(self) -> tuple[list[str], Rest]:
        """Wait until all has come back; return what has not in time, and what is held.

        Before the run, until it does not change any more.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _RETURN_S
        seen: list[Rest] = []
        while True:
            look = await self._process.ask("rest")
            names = ("residents", "booked_mb", "processes")
            left = [f"{name} {look[name]}" for name in names if look[name]]
            rest = rest_of(self._process.running.pid, look)
            if self.score.rests:
                before = self.score.rests[0]
                left += [f"{what}: {how}" for what, how in left_behind(before, rest).items()]
            seen = [*seen[-_ALIKE:], rest]
            is_steady = len(seen) > _ALIKE and all(each.is_like(rest) for each in seen)
            if loop.time() > until or not (left or (not self.score.rests and not is_steady)):
                return left, rest
            await asyncio.sleep(0.2)


def sizes(pid: int) -> dict[str, float]:
    """Return what a process and all that it has started take."""
    pids = [pid, *descendants(pid)]
    found = {"memory, MB": 0.0, "descriptors": 0.0, "threads": 0.0, "processes": float(len(pids))}
    for each in pids:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found["memory, MB"] += memory_mb(each)[1]
            found["descriptors"] += len(os.listdir(f"/proc/{each}/fd"))
            found["threads"] += len(os.listdir(f"/proc/{each}/task"))
    return found


def growth(samples: Sequence[dict[str, float]]) -> dict[str, tuple[float, float, bool]]:
    """Return the median in the second quarter, in the last, and whether that is no growth."""
    grown: dict[str, tuple[float, float, bool]] = {}
    quarter = len(samples) // 4
    if not quarter:
        return grown
    for name, spare in _SPARE.items():
        before = median(each[name] for each in samples[quarter : 2 * quarter])
        after = median(each[name] for each in samples[-quarter:])
        grown[name] = (before, after, after <= before * (1 + GROWTH) + spare)
    return grown


def report(minutes: float, seed: int, callers: int, score: Score) -> str:
    """Return the page."""
    rows = [
        ("minutes, seed, callers", f"{minutes:g}, {seed}, {callers}"),
        ("speeches that were whole, and looks", _listed(score.done)),
        ("callers that vanished", f"{score.vanished:,}"),
        ("refused or hurt, typed", _listed(score.refused)),
        ("faults injected", _listed(score.faults)),
    ]
    rows += [
        (f"{name}, second quarter and last", f"{before:.0f}, {after:.0f}")
        for name, (before, after, _) in growth(score.samples).items()
    ]
    if len(score.rests) > 1:
        rows += _rest_rows(*score.rests)
    rows += [(f"**broken**: {what}", f"{count:,}") for what, count in score.breaches.items()]
    if not score.breaches:
        rows.append(("broken", "nothing"))
    lines = ["# Soak with engines in processes", "", "| what | how many |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows), ""])


def _rest_rows(before: Rest, after: Rest) -> list[tuple[str, str]]:
    pools = f"; pools may have {after.pools.total()}"
    return [
        (
            "threads at rest, before and after",
            f"{before.threads.total()}, {after.threads.total()}{pools}",
        ),
        (
            "descriptors at rest, before and after",
            f"{before.descriptors.total()}, {after.descriptors.total()}",
        ),
        ("memory at rest, before and after", f"{before.memory_mb:.0f}, {after.memory_mb:.0f} MB"),
    ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the minutes given; return 1 when a rule was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak_processes", description=__doc__
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--callers", type=int, default=CALLERS)
    parser.add_argument(
        "--leak", choices=("thread", "descriptor"), help="leak one at each fault, to see it found"
    )
    parser.add_argument("--report", type=Path, help="also write the report, as Markdown")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="greenroom-soak-") as cache:
        os.environ["GREENROOM_CACHE_DIR"] = cache
        soak = Soak(chosen.minutes * 60.0, chosen.seed, chosen.callers, leak=chosen.leak or "")
        asyncio.run(soak.run())
    score = soak.score
    if chosen.minutes >= SETTLED_MINUTES:
        for name, (before, after, holds) in growth(score.samples).items():
            if not holds:
                score.breaches[f"{name} grew from {before:.0f} to {after:.0f}"] += 1
    page = report(chosen.minutes, chosen.seed, chosen.callers, score)
    print(page, end="")
    if chosen.report is not None:
        chosen.report.write_text(page)
    return 1 if score.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
