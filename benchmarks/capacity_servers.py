"""The servers whose capacity is measured, each started in a process of its own and warm."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks import ours, serving, sites, talkers
from benchmarks.apart import Apart
from benchmarks.playback import Piece
from benchmarks.talkers import Run, Say


class Server(Protocol):
    """A server whose callers all say the same text, spread over the first of its voices."""

    async def talk(
        self,
        callers: int,
        seconds: float,
        *,
        voices: int = 1,
        at_once: bool = False,
        pause_s: float | None = None,
    ) -> Run:
        """See `talkers.talk`."""

    async def work(self, callers: int, speeches: int, *, voices: int = 1) -> Run:
        """See `talkers.work`."""


ServerT = TypeVar("ServerT", bound=Server)


class Remote:
    """A server that callers of this process reach."""

    def __init__(self, say: Say, pid: int, text: str, voices: Sequence[str]) -> None:
        self._say = say
        self._pid = pid
        self._text = text
        self._voices = voices

    async def talk(
        self,
        callers: int,
        seconds: float,
        *,
        voices: int = 1,
        at_once: bool = False,
        pause_s: float | None = None,
    ) -> Run:
        """See `talkers.talk`."""
        return await talkers.talk(
            self._say,
            self._text,
            self._voices[:voices],
            callers,
            seconds,
            pid=self._pid,
            at_once=at_once,
            pause_s=pause_s,
        )

    async def work(self, callers: int, speeches: int, *, voices: int = 1) -> Run:
        """See `talkers.work`."""
        return await talkers.work(
            self._say, self._text, self._voices[:voices], callers, speeches, pid=self._pid
        )


class Manager:
    """Greenroom's manager with its callers beside it, in a process of their own."""

    def __init__(self, process: Apart, text: str, voices: Sequence[str]) -> None:
        self._process = process
        self._text = text
        self._voices = voices

    async def talk(
        self,
        callers: int,
        seconds: float,
        *,
        voices: int = 1,
        at_once: bool = False,
        pause_s: float | None = None,
    ) -> Run:
        """See `talkers.talk`."""
        call = functools.partial(
            ours.talk,
            self._text,
            self._voices[:voices],
            callers,
            seconds,
            at_once=at_once,
            pause_s=pause_s,
        )
        return await asyncio.to_thread(self._process, call)

    async def work(self, callers: int, speeches: int, *, voices: int = 1) -> Run:
        """See `talkers.work`."""
        call = functools.partial(ours.work, self._text, self._voices[:voices], callers, speeches)
        return await asyncio.to_thread(self._process, call)


@contextlib.asynccontextmanager
async def worker(
    paths: Sequence[Path], text: str, settings: Mapping[str, object] | None = None
) -> AsyncIterator[Remote]:
    """Serve voices of one folder with `greenroom serve`, all in memory; without any, a tone."""
    room = {"model_manager.resident_cap": len(paths) + 1, "model_manager.ttl_ms": 3_600_000}
    voices = [path.stem for path in paths] or [sites.TONES[0]]
    folder = paths[0].parent if paths else None
    async with sites.worker(voices[0], folder, {**room, **(settings or {})}) as site:
        yield await _warm(Remote(talkers.over_http(site.port), site.pid, text, voices), voices)


@contextlib.asynccontextmanager
async def manager(paths: Sequence[Path], text: str) -> AsyncIterator[Manager]:
    """Keep voices in memory in another process, with no worker around; without any, a tone."""
    with Apart() as process:
        await asyncio.to_thread(process, ours.begin, list(paths))
        for path in paths:
            await asyncio.to_thread(process, ours.keep, path)
        voices = [path.stem for path in paths] or ["tone"]
        yield await _warm(Manager(process, text, voices), voices)
        await asyncio.to_thread(process, ours.end)


@contextlib.asynccontextmanager
async def fastapi(voice: Path, text: str, *options: str) -> AsyncIterator[Remote]:
    """Serve a voice with an engine behind FastAPI; `options` are those of `peer_server`."""
    async with sites.peer(voice, *options) as site:
        say, voices = talkers.over_http(site.port), [voice.stem]
        yield await _warm(Remote(say, site.pid, text, voices), voices)


@contextlib.asynccontextmanager
async def wyoming(voice: Path, text: str) -> AsyncIterator[Remote]:
    """Serve a voice with `wyoming-piper`."""
    async with serving.wyoming_site(voice) as site:

        async def say(text: str, voice: str) -> list[Piece]:
            return await serving.hear_wyoming(site.port, text, voice)

        yield await _warm(Remote(say, site.pid, text, [voice.stem]), [voice.stem])


async def _warm(server: ServerT, voices: Sequence[str]) -> ServerT:
    """Have each voice speak; raises `ConnectionError` if one cannot."""
    run = await server.work(len(voices), len(voices), voices=len(voices))
    if run.errors:
        raise ConnectionError(", ".join(run.errors))
    return server


def has_streaming_vits() -> bool:
    """Whether `streaming-vits` is installed, and what it needs to read text aloud.

    Both are in the dependency group `bench`, the latter for Python 3.11 only; `espeak-ng` does too.
    """
    reads = find_spec("piper_phonemize") is not None or shutil.which("espeak-ng") is not None
    return find_spec("streaming_vits") is not None and reads
