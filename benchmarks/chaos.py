"""`python -m benchmarks.chaos`: faults injected into a worker whose engines have processes.

Callers listen over real sockets while one process after another is broken. It holds when only
streams of the broken process were hurt, all others had every sample, nothing is held, waits or is
booked once all have left, and the memory comes back. The same seed breaks the same in the same
order. Prints a table, and ends with 1 when a rule was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import chaos_report
from benchmarks.chaos_callers import TEXTS, Crowd, Standstills, Stream
from benchmarks.chaos_engines import INSIDE, tell, told
from benchmarks.chaos_report import Injection, Outcome
from benchmarks.chaos_worker import BREAKING, SPARE, STEADY, STEP_LIMIT_S, VOICES
from benchmarks.processes import descendants, free_port, memory_mb
from benchmarks.soak import Process, started
from benchmarks.voice_files import prepare_real_voice

CALLERS = 8
_NOTICED_S = STEP_LIMIT_S + 10.0
"""A process that is to end has ended by then."""

_BACKING_OFF_S = 3.0
"""A load that the end of its process broke off counts as one that failed: its model is refused for
a second, or two."""

_QUIET_S = 60.0
_AGAIN_S = 60.0
"""A voice that crashed speaks again by then, or a rule is broken."""

GROUPS = {"breaking-tone": BREAKING, "breaking-voice": VOICES}
"""Models that share a process which is broken; its engine's class is named like the group."""

_PROCESS_OF = {"breaking-tone": "BreakingTone", "breaking-voice": "BreakingVoice"}
_SIGNALS = {"kill -9": signal.SIGKILL, "stop signal": signal.SIGSTOP}
_HARMLESS = ("standard error flooded", "fork server killed", "full disk")
"""Faults that end no process with models, and hurt no stream."""

FAULTS = (*INSIDE, *_SIGNALS, "fork server killed", "full disk")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the minutes given; return 1 when a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="also write the tables, as Markdown")
    parser.add_argument("--voice", choices=("real", "tone"), default="real")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only these")
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="greenroom-chaos-") as cache,
        _disk(Path(cache)) as disk,
    ):
        os.environ["GREENROOM_CACHE_DIR"] = cache
        real = chosen.voice == "real"
        if real:
            prepare_real_voice()
        faults = [
            fault for fault in chosen.fault or FAULTS if fault != "full disk" or disk is not None
        ]
        chaos = Chaos(faults, chosen.seed, disk, real=real)
        asyncio.run(chaos.run(chosen.minutes * 60.0))
    outcome = chaos.outcome
    if disk is None:
        outcome.notes.append("A full disk was left out: no file system can be mounted here.")
    page = chaos_report.markdown(outcome)
    print(page, end="")
    if chosen.report is not None:
        chosen.report.write_text(page)
    return 1 if outcome.breaches else 0


class Disk:
    """A file system of its own, which can be full."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def resize(self, size: int) -> None:
        """Give it so many bytes; raises `CalledProcessError`."""
        command = ["mount", "-o", f"remount,size={size}", str(self._place)]
        subprocess.run(command, check=True, capture_output=True)

    def fill(self) -> None:
        """Leave no room for another byte."""
        found = os.statvfs(self._place)
        self.resize((found.f_blocks - found.f_bfree) * found.f_frsize)


_DISK_BYTES = 512 * 1024 * 1024


@contextlib.contextmanager
def _disk(place: Path) -> Iterator[Disk | None]:
    """Mount a file system for the block; `None` where that is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    (place / "something").write_bytes(b"x" * 4_096)  # a size of nothing would be without limit
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


class Chaos:
    """One run."""

    def __init__(self, faults: Sequence[str], seed: int, disk: Disk | None, *, real: bool) -> None:
        self.outcome = Outcome(seed)
        self._faults = tuple(faults)
        self._dice = random.Random(seed)
        self._disk = disk
        self._real = real
        self._groups = tuple(GROUPS) if real else ("breaking-tone",)
        self._standstills = Standstills()
        self._process: Process
        self._crowd: Crowd

    async def run(self, seconds: float) -> None:
        """Break one thing after another for so long, in rounds of every fault."""
        port, address = free_port(), f"127.0.0.1:{free_port()}"
        voice = "real" if self._real else "tone"
        module = "benchmarks.chaos_worker"
        async with started(module, address, f"127.0.0.1:{port}", voice) as self._process:
            models = [*STEADY, *(model for group in self._groups for model in GROUPS[group])]
            self._crowd = Crowd(port, address, self.outcome.seed)
            await self._crowd.render_all([*models, SPARE])
            ticking = asyncio.create_task(self._standstills.watch())
            loop = asyncio.get_running_loop()
            until = loop.time() + seconds
            while loop.time() < until:
                await self._round(models, until)
            ticking.cancel()
            await self._crowd.close()
            with contextlib.suppress(ConnectionError):
                await self._process.ask("stop")

    async def _round(self, models: Sequence[str], until: float) -> None:
        """Have every fault once, in random order; then nothing is held, and memory is back."""
        loop = asyncio.get_running_loop()
        faults = list(self._faults)
        self._dice.shuffle(faults)
        over = asyncio.Event()
        callers = [
            asyncio.create_task(self._crowd.call(number, over, models)) for number in range(CALLERS)
        ]
        await asyncio.sleep(1.0)
        done = 0
        for fault in faults:
            if done and loop.time() >= until:
                break
            group = self._dice.choice(self._groups)
            await asyncio.sleep(self._dice.uniform(0.3, 1.5))
            await self._inject(fault, group)
            done += 1
        over.set()
        await asyncio.gather(*callers)
        self._judge_streams()
        await self._quiet()
        if done == len(faults):
            self.outcome.memory_mb.append(self._memory())

    # One fault

    async def _inject(self, fault: str, group: str) -> None:
        loop = asyncio.get_running_loop()
        look = await self._process.ask("look")
        pid = look["processes"].get(_PROCESS_OF[group])
        harmless = fault in _HARMLESS
        injection = Injection(fault, group, loop.time(), running=len(self._crowd.running))
        self.outcome.injections.append(injection)
        if pid is None:
            self._breach(f"{fault}: the process of {group} is not there")
            return
        model = self._dice.choice(GROUPS[group])
        with self._broken(fault, group, pid, look["fork_server"]):
            if harmless:
                model = SPARE if fault == "fork server killed" else model
                await asyncio.sleep(0.0 if model == SPARE else 0.5)
                injection.ended = loop.time()
            elif not await _has_ended(pid, _NOTICED_S):
                injection.disturbed = self._standstills.cover(injection.at, loop.time())
                if not injection.disturbed:
                    self._breach(f"{fault}: the process of {group} did not end")
                return
            else:
                injection.ended = loop.time()
            if model == SPARE:
                await self._process.ask("unload spare")
            injection.again_s = await self._speaks_again(model, injection.ended)
            injection.disturbed = self._standstills.cover(injection.at, loop.time())
        if harmless and not _is_there(pid):
            self._breach(f"{fault}: it ended the process of {group}")

    @contextlib.contextmanager
    def _broken(self, fault: str, group: str, pid: int, fork_server: int) -> Iterator[None]:
        """Break something for the block, or for good."""
        if fault in INSIDE:
            tell(group, fault)
        elif fault in _SIGNALS:
            os.kill(pid, _SIGNALS[fault])
        elif fault == "fork server killed":
            os.kill(fork_server, signal.SIGKILL)
        elif self._disk is not None:
            self._disk.fill()
        try:
            yield
        finally:
            told(group).unlink(missing_ok=True)
            if fault == "full disk" and self._disk is not None:
                self._disk.resize(_DISK_BYTES)

    async def _speaks_again(self, model: str, since: float) -> float:
        """Ask for a model until it has spoken; return the seconds to its first audio."""
        loop = asyncio.get_running_loop()
        problem = ""
        while loop.time() - since < _AGAIN_S:
            stream = Stream(model, "http", TEXTS[0], loop.time(), is_probe=True)
            await self._crowd.hear(stream)
            if stream.whole:
                return stream.asked + stream.first_s - since
            problem = stream.problem
            await asyncio.sleep(0.02)
        self._breach(f"{model} does not speak again within {_AGAIN_S:g} s: {problem}")
        return _AGAIN_S

    # Rules

    def _judge_streams(self) -> None:
        """Count who was hurt, and by what."""
        outcome = self.outcome
        streams, self._crowd.ended = self._crowd.ended, []
        for stream in streams:
            outcome.streams += 1
            if self._standstills.cover(stream.asked, stream.ended):
                outcome.excused += 1
                continue
            if stream.whole:
                hurt = [each for each in outcome.injections if each.covers(stream)]
                if stream.model in STEADY:
                    outcome.longest_gap_s = max(outcome.longest_gap_s, stream.longest_gap_s)
                    for each in hurt:
                        each.gap_s = max(each.gap_s, stream.longest_gap_s)
                continue
            causes = [
                each
                for each in outcome.injections
                if each.covers(stream, _BACKING_OFF_S)
                and each.fault not in _HARMLESS
                and stream.model in GROUPS[each.group]
            ]
            if not causes:
                what = f"{stream.model} over {stream.protocol}: {stream.problem} {stream.detail}"
                self._breach(what)
            elif not stream.typed:
                self._breach(f"hurt, not typed: {stream.protocol}: {stream.problem}")
            else:
                causes[-1].hurt += 1
                outcome.problems[f"{stream.protocol}: {stream.problem}"] += 1

    async def _quiet(self) -> None:
        """References and bytes add up once all have left, and everything can be unloaded."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _QUIET_S
        while True:
            look = await self._process.ask("look")
            left = {name: look[name] for name in ("held", "moving", "waiting", "hanging")}
            if not any(left.values()):
                break
            if loop.time() > until:
                self._breach(
                    f"left behind: { {name: each for name, each in left.items() if each} }"
                )
                return
            await asyncio.sleep(0.1)
        if abs(look["booked_mb"] - look["sum_mb"]) > 0.01:
            self._breach(f"booked are {look['booked_mb']} MB, residents have {look['sum_mb']} MB")
        look = await self._process.ask("unload all")
        if look["residents"] or look["booked_mb"] or look["processes"]:
            self._breach(f"all was unloaded, and there are: {look}")

    def _memory(self) -> float:
        """Return the anonymous MB of the worker and all that it has started."""
        pid = self._process.running.pid
        return sum(memory_mb(each)[1] for each in (pid, *descendants(pid)))

    def _breach(self, what: str) -> None:
        self.outcome.breaches[what] += 1


def _is_there(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


async def _has_ended(pid: int, limit: float) -> bool:
    """Wait for the end of a process, at most `limit` seconds; whether it came."""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit
    while _is_there(pid):
        if loop.time() > until:
            return False
        await asyncio.sleep(0.002)
    return True


if __name__ == "__main__":
    sys.exit(main())
