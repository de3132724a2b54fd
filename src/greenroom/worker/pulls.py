"""Voices that administrators have a worker pull: one at a time, owned by the worker, bounded.

A pull goes on when its caller leaves, is joined by who asks for the same voice, and ends with the
worker; what came until then is kept for the next time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor, NoThreadError, OverdueError
from greenroom.config.schema import VoiceSettings, pull_directory
from greenroom.errors import InvalidInputError, ModelManagerError, PullError, WorkerBusyError
from greenroom.untrusted.logs import safe_logger
from greenroom.voices.chosen_source import source_of
from greenroom.voices.installation import Installed, install
from greenroom.voices.partial_file import PullStoppedError
from greenroom.voices.voice_source import index_of
from greenroom.worker.catalog_refresh import CatalogRefresh

logger = safe_logger(__name__)

_MOST_WAITING = 16
_MOST_KEPT = 64
"""Pulls that are over and still shown."""

_LIMIT_S = 6 * 3600.0
"""The longest a pull may take: the largest voice at some 10 KB/s."""

_END_S = 2.0

PullState = Literal["waiting", "pulling", "pulled", "here already", "failed", "stopped"]


@dataclass(slots=True)
class Pull:
    """One pull; another thread changes `come` and `size` while it goes on."""

    voice: str
    """As it was asked for, until the index has told its name."""
    state: PullState = "waiting"
    come: int = 0
    size: int = 0
    """Bytes; 0 until the index has told."""
    licence: str = ""
    error: ModelManagerError | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def progress(self, come: int, size: int) -> None:
        """Take note of how much has come."""
        self.come, self.size = come, size


class Pulls:
    """The pulls of one worker; all methods on its event loop."""

    def __init__(self, settings: Callable[[], VoiceSettings], refresh: CatalogRefresh) -> None:
        self._settings = settings
        self._refresh = refresh
        self._thread = DaemonExecutor("pull", 1)
        self._tasks = Tasks()
        self._pulls: dict[str, Pull] = {}

    def begin(self, name: str) -> Pull:
        """Have a voice pulled, or join who has.

        Raises `InvalidInputError` where no directory is configured for it, and `WorkerBusyError`
        when too many wait.
        """
        settings = self._settings()
        directory = pull_directory(settings)
        if directory is None:
            raise InvalidInputError("voices.directories is empty; configure where voices go.")
        running = [pull for pull in self._pulls.values() if not pull.over.is_set()]
        for pull in running:
            if pull.voice == name:
                return pull
        if len(running) >= _MOST_WAITING:
            raise WorkerBusyError(f"{len(running)} voices are being pulled or wait for that")
        over = [key for key, pull in self._pulls.items() if pull.over.is_set()]
        for key in over[: max(0, len(over) - _MOST_KEPT)]:
            del self._pulls[key]
        self._pulls.pop(name, None)
        begun = self._pulls[name] = Pull(name)
        self._tasks.begin(self._run(begun, settings.index, directory), f"pull {name[:80]}")
        return begun

    def stop(self, name: str) -> None:
        """Stop a pull soon; what came is kept. One that is not there, or over, is none."""
        if (pull := self._pulls.get(name)) is not None:
            pull.stop.set()

    def all(self) -> tuple[Pull, ...]:
        """Return those under way and the latest that are over, oldest first."""
        return tuple(self._pulls.values())

    async def end(self) -> None:
        """Stop all, and let the thread end."""
        for pull in self._pulls.values():
            pull.stop.set()
        await self._tasks.end(_END_S)
        self._thread.close()

    async def _run(self, pull: Pull, index: str | None, directory: Path) -> None:
        try:
            work = partial(_pulled, pull, index, directory)
            done = await self._thread.run(work, limit=_LIMIT_S)
            pull.licence = done.card.licence
            await self._refresh.refresh()
            pull.state = done.outcome
            logger.info("voice %s: %s, licence: %s", done.key, done.outcome, pull.licence or "?")
        except PullStoppedError:
            pull.state = "stopped"
            pull.error = PullError(pull.voice, "it was stopped; what came is kept", resumable=True)
        except (OverdueError, NoThreadError) as error:
            self._fail(pull, PullError(pull.voice, str(error), resumable=True))
        except ModelManagerError as error:
            self._fail(pull, error)
        finally:
            if pull.state in ("waiting", "pulling"):
                pull.state = "stopped"
            pull.over.set()

    def _fail(self, pull: Pull, error: ModelManagerError) -> None:
        pull.state, pull.error = "failed", error
        logger.warning("%s", error)


def _pulled(pull: Pull, index: str | None, directory: Path) -> Installed:
    """Pull in a thread of its own, from the configured source into the configured directory."""
    if pull.stop.is_set():
        raise PullStoppedError
    pull.state = "pulling"
    with source_of(index) as source:
        voice = index_of(source).get(pull.voice)
        pull.size = voice.size
        return install(source, voice, directory, progress=pull.progress, stop=pull.stop)
