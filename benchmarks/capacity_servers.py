"""The servers whose capacity is measured, each started in a process of its own and warm."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from benchmarks import ours, serving, sites, talkers
from benchmarks.apart import Apart
from benchmarks.playback import Piece
from benchmarks.talkers import Run, Say


class Server(Protocol):
    """Somebody to talk to: all callers say the same text, and are spread over some voices."""

    async def talk(
        self,
        voices: Sequence[str],
        callers: int,
        seconds: float,
        *,
        at_once: bool = False,
        pause_s: float | None = None,
    ) -> Run:
        """See `talkers.talk`."""

    async def work(self, voices: Sequence[str], callers: int, speeches: int) -> Run:
        """See `talkers.work`."""


class Remote:
    """A server that callers of this process reach."""

    def __init__(self, say: Say, pid: int, text: str) -> None:
        self._say = say
        self._pid = pid
        self._text = text

    async def warm(self, voices: Sequence[str]) -> None:
        """Have each voice speak."""
        for voice in voices:
            await self._say(self._text, voice)

    async def talk(
        self,
        voices: Sequence[str],
        callers: int,
        seconds: float,
        *,
        at_once: bool = False,
        pause_s: float | None = None,
    ) -> Run:
        """See `talkers.talk`."""
        return await talkers.talk(
            self._say,
            self._text,
            voices,
            callers,
            seconds,
            pid=self._pid,
            at_once=at_once,
            pause_s=pause_s,
        )

    async def work(self, voices: Sequence[str], callers: int, speeches: int) -> Run:
        """See `talkers.work`."""
        return await talkers.work(self._say, self._text, voices, callers, speeches, pid=self._pid)


class Manager:
    """Greenroom's manager with its callers beside it, in a process of their own."""

    def __init__(self, process: Apart, text: str) -> None:
        self._process = process
        self._text = text

    async def talk(
        self,
        voices: Sequence[str],
        callers: int,
        seconds: float,
        *,
        at_once: bool = False,
        pause_s: float | None = None,
    ) -> Run:
        """See `talkers.talk`."""
        call = functools.partial(
            ours.talk, self._text, voices, callers, seconds, at_once=at_once, pause_s=pause_s
        )
        return await asyncio.to_thread(self._process, call)

    async def work(self, voices: Sequence[str], callers: int, speeches: int) -> Run:
        """See `talkers.work`."""
        call = functools.partial(ours.work, self._text, voices, callers, speeches)
        return await asyncio.to_thread(self._process, call)


@contextlib.asynccontextmanager
async def worker(
    paths: Sequence[Path], text: str, settings: Mapping[str, object] | None = None
) -> AsyncIterator[Remote]:
    """Serve voices of one folder with `greenroom serve`, all of them in memory."""
    room = {"model_manager.resident_cap": len(paths) + 1, "model_manager.ttl_ms": 3_600_000}
    voices = [path.stem for path in paths]
    async with sites.worker(voices[0], paths[0].parent, {**room, **(settings or {})}) as site:
        server = Remote(talkers.over_http(site.port), site.pid, text)
        await server.warm(voices)
        yield server


@contextlib.asynccontextmanager
async def manager(paths: Sequence[Path], text: str) -> AsyncIterator[Manager]:
    """Keep voices in memory in another process, without a worker around them."""
    with Apart() as process:
        await asyncio.to_thread(process, ours.begin, list(paths))
        for path in paths:
            await asyncio.to_thread(process, ours.keep, path)
        server = Manager(process, text)
        await server.work([path.stem for path in paths], len(paths), len(paths))
        yield server
        await asyncio.to_thread(process, ours.end)


@contextlib.asynccontextmanager
async def fastapi(voice: Path, text: str, *options: str) -> AsyncIterator[Remote]:
    """Serve a voice with an engine behind FastAPI; `options` are those of `peer_server`."""
    async with sites.peer(voice, *options) as site:
        server = Remote(talkers.over_http(site.port), site.pid, text)
        await server.warm([voice.stem])
        yield server


@contextlib.asynccontextmanager
async def wyoming(voice: Path, text: str) -> AsyncIterator[Remote]:
    """Serve a voice with `wyoming-piper`."""
    async with serving.wyoming_site(voice) as site:

        async def say(text: str, voice: str) -> list[Piece]:
            return await serving.hear_wyoming(site.port, text, voice)

        server = Remote(say, site.pid, text)
        await server.warm([voice.stem])
        yield server


def has_streaming_vits() -> bool:
    """Whether `streaming-vits` is installed: the dependency group `bench`."""
    return find_spec("streaming_vits") is not None
