"""Servers in processes of their own: started, waited for, looked at from outside, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from greenroom.memory.usage import MIB

_START_S = 60.0

Process = asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def process(command: list[str]) -> AsyncIterator[Process]:
    """Run a program inside the block; what it said is added to an error there."""
    environment = {**os.environ, "GREENROOM_PREPARE": "on"}
    with tempfile.TemporaryFile() as said:
        running = await asyncio.create_subprocess_exec(
            *command, stdout=said, stderr=said, env=environment
        )
        try:
            yield running
        except BaseException as error:
            said.seek(0)
            error.add_note(said.read().decode(errors="replace")[-2_000:])
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                running.terminate()
            await running.wait()


def worker_command(settings: Mapping[str, object]) -> list[str]:
    """Return how Greenroom's worker is started with these settings."""
    flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [str(Path(sys.executable).with_name("greenroom")), "serve", *flags]


async def until_it_answers(
    running: Process, greet: Callable[[], Awaitable[object]], *refusals: type[Exception]
) -> None:
    """Greet a server until it answers; raises `ConnectionError` when it ends before."""
    async with asyncio.timeout(_START_S):
        while running.returncode is None:
            with contextlib.suppress(*refusals):
                await greet()
                return
            await asyncio.sleep(0.1)
    raise ConnectionError(f"the server ended with {running.returncode}")


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def memory_mb(pid: int) -> tuple[float, float]:
    """Return what another process takes: all that is resident, and what only freeing gives back.

    Nothing once it has ended.
    """
    with contextlib.suppress(OSError, KeyError):  # one that is ending has no memory any more
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        sizes = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "RssAnon")))
        resident, anonymous = (int(sizes[name].split()[0]) for name in ("VmRSS", "RssAnon"))
        return resident * 1024 / MIB, anonymous * 1024 / MIB
    return 0.0, 0.0


def descendants(pid: int) -> list[int]:
    """Return the ids of all that a process has started, directly or not, and that is there."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found
