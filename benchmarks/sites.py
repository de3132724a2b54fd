"""HTTP servers on loopback, each in a process of its own: the worker, its floor, its peers."""

from __future__ import annotations

import contextlib
import pickle
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.listener import Heard, Listener
from benchmarks.processes import free_port, process, until_it_answers, worker_command
from benchmarks.replay import Recorded

TONES = tuple(f"tone-{note}" for note in (220, 247, 277, 294, 330, 370, 415, 440))
"""The test voices that every worker has."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a server is found."""

    port: int
    pid: int


@contextlib.asynccontextmanager
async def worker(
    default: str, voices: Path | None = None, settings: Mapping[str, object] | None = None
) -> AsyncIterator[Site]:
    """Serve the tones and the voices of a folder with `greenroom serve`."""
    port = free_port()
    command = worker_command(
        {
            "worker.listen": "127.0.0.1:0",
            "worker.http_listen": f"127.0.0.1:{port}",
            "voices.directories": f"[{voices or ''}]",
            "voices.packages": "[]",
            "model_manager.default_model_id": default,
            **(settings or {}),
        }
    )
    async with _site(command, port, default) as site:
        yield site


@contextlib.asynccontextmanager
async def replay(recorded: Recorded) -> AsyncIterator[Site]:
    """Serve the same bytes in the same pieces with uvicorn and nothing behind it."""
    port = free_port()
    with tempfile.NamedTemporaryFile() as file:
        file.write(pickle.dumps(recorded))
        file.flush()
        command = [sys.executable, "-m", "benchmarks.replay", str(port), file.name]
        async with _site(command, port, "anybody") as site:
            yield site


@contextlib.asynccontextmanager
async def peer(voice: Path, *options: str) -> AsyncIterator[Site]:
    """Serve one voice with `benchmarks.peer_server`."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peer_server", str(port), str(voice), *options]
    async with _site(command, port, voice.stem) as site:
        yield site


@contextlib.asynccontextmanager
async def _site(command: list[str], port: int, model: str) -> AsyncIterator[Site]:
    async with process(command) as running:

        async def greet() -> Heard:
            async with Listener(port) as listener:
                return await listener.say("Ready.", model)

        await until_it_answers(running, greet, OSError)
        yield Site(port, running.pid)
