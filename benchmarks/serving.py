"""Servers of the same voice files, each in a process of its own, and callers of them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

from benchmarks.playback import Piece
from benchmarks.processes import free_port, process, until_it_answers, worker_command
from benchmarks.rounds import Stopwatch
from benchmarks.sites import Site
from benchmarks.voice_files import folder
from greenroom.errors import WorkerError
from greenroom.worker.client import Client

Ask = Callable[[Path, str], Awaitable[float]]
"""Has a voice speak; returns the seconds to the first audio, once all of it has come."""


def has_wyoming() -> bool:
    """Whether `wyoming-piper` is installed: the dependency group `bench`."""
    return find_spec("wyoming_piper") is not None


@contextlib.asynccontextmanager
async def wyoming(default: Path) -> AsyncIterator[Ask]:
    """Serve with `wyoming-piper`, which keeps one voice in memory."""

    async def ask(voice: Path, text: str) -> float:
        pieces = await hear_wyoming(site.port, text, voice.stem)
        return pieces[0].at

    async with wyoming_site(default) as site:
        yield ask


@contextlib.asynccontextmanager
async def wyoming_site(default: Path) -> AsyncIterator[Site]:
    """Start `wyoming-piper` and return where it is found."""
    port = free_port()
    command = [sys.executable, "-m", "wyoming_piper", "--voice", default.stem]
    where = ["--data-dir", str(default.parent), "--uri", f"tcp://127.0.0.1:{port}"]
    async with process([*command, *where]) as running:

        async def greet() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()

        await until_it_answers(running, greet, OSError)
        yield Site(port, running.pid)


@contextlib.asynccontextmanager
async def worker(default: Path, **manager: int | bool) -> AsyncIterator[Ask]:
    """Serve with Greenroom's worker, with settings of its manager."""
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "worker.listen": address,
        "worker.http_listen": "127.0.0.1:0",
        "voices.directories": f"[{folder()}]",
        "voices.packages": "[]",
        "model_manager.default_model_id": default.stem,
        **{f"model_manager.{key}": value for key, value in manager.items()},
    }
    async with process(worker_command(settings)) as running, Client(address) as client:

        async def greet() -> None:
            async for _ in client.speak("Ready.", default.stem):
                pass

        async def ask(voice: Path, text: str) -> float:
            watch = Stopwatch()
            first = 0.0
            async for _ in client.speak(text, voice.stem):
                first = first or watch.read()
            return first

        await until_it_answers(running, greet, WorkerError)
        yield ask


async def hear_wyoming(port: int, text: str, voice: str) -> list[Piece]:
    """Have `wyoming-piper` speak; raises `ConnectionError` when it is cut off."""
    from wyoming.audio import AudioChunk, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.tts import Synthesize, SynthesizeVoice

    pieces = []
    async with AsyncTcpClient("127.0.0.1", port) as client:
        watch = Stopwatch()
        await client.write_event(Synthesize(text=text, voice=SynthesizeVoice(name=voice)).event())
        while event := await client.read_event():
            if AudioChunk.is_type(event.type):
                pieces.append(Piece(watch.read(), AudioChunk.from_event(event).seconds))
            elif AudioStop.is_type(event.type):
                return pieces
    raise ConnectionError("wyoming-piper ended the connection before the audio")
