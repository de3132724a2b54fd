"""Keep the catalog of a running worker true to its directories and its configuration.

A voice that came is in every list from then on; one that was taken away is in none, and leaves
memory when those that speak with it are done. No stream is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from greenroom.adapter import ModelSpec
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor, NoThreadError, OverdueError
from greenroom.config.schema import Config, VoiceSettings, voice_directories
from greenroom.errors import (
    ConfigError,
    ManagerClosedError,
    ModelInUseError,
    ModelManagerError,
    ModelNotResidentError,
    first_few,
)
from greenroom.model_manager import ModelManager
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.directory_watch import DirectoryWatch

logger = safe_logger(__name__)

_SCAN_LIMIT_S = 120.0
"""How long looking for voices may take; an adapter alone may take a minute."""

_REST = 4.0
"""After a look the next one rests so many times as long as it took: large catalogs cost time."""

_IDLE_LIMIT_S, _IDLE_STEP_S = 60.0, 0.25
"""How long a voice whose file was replaced is watched for a moment in which nobody uses it."""

_END_S, _NO_THREAD_S = 2.0, 1.0

_Files = dict[str, tuple[int, int, int]]
"""What tells the present file of a model from an earlier one: inode, size, time of change."""


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """Which models came, went, or are others now under the same id."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = (("new", self.added), ("gone", self.removed), ("replaced", self.replaced))
        return "; ".join(f"{what}: {first_few(names)}" for what, names in said if names)


@dataclass(frozen=True, slots=True)
class _Scan:
    catalog: Catalog
    files: _Files


class CatalogRefresh:
    """Looks for voices anew, and lets the manager's catalog follow; on the manager's event loop."""

    def __init__(self, manager: ModelManager, config: Config) -> None:
        self._manager = manager
        self._config = config
        self._devices = frozenset(spec.device for spec in manager.catalog) | {"cpu"}
        self._files: _Files | None = None
        self._turn = asyncio.Lock()
        self._threads = DaemonExecutor("voices", 2)  # one looks, one watches
        self._leaving = Tasks()

    @property
    def voices(self) -> VoiceSettings:
        """The present settings of where voices are and come from."""
        return self._config.voices

    async def refresh(
        self, config: Config | None = None, check: Callable[[Catalog], None] = lambda found: None
    ) -> CatalogChange:
        """Look for voices, by another configuration if one is given, and return what changed.

        `check` may refuse what was found by raising `ConfigError`. Raises that too for a
        configuration that cannot work, and `ModelManagerError` when it takes too long: then nothing
        has changed.
        """
        async with self._turn:
            wanted = config or self._config
            try:
                scan = await self._threads.run(
                    functools.partial(_scan, wanted), limit=_SCAN_LIMIT_S
                )
            except OverdueError:
                raise ConfigError(
                    f"looking for voices took longer than {_SCAN_LIMIT_S:.0f} s; is a directory of "
                    "voices on a file system that hangs?"
                ) from None
            check(scan.catalog)
            self._config = wanted
            return self._adopt(scan)

    async def end(self) -> None:
        """Wait for no voice that was taken away any more, and let the threads end."""
        await self._leaving.end(_END_S)
        self._threads.close()

    async def follow(self) -> None:
        """Watch the directories, and let the catalog follow; to be run as a task."""
        stop = threading.Event()
        settings = self._config.voices
        watch = DirectoryWatch(_watched(settings), stop)
        while True:
            if settings is not self._config.voices:
                settings = self._config.voices
                watch = DirectoryWatch(_watched(settings), stop)
            try:
                waiting = self._threads.submit(watch.changed)
            except NoThreadError:
                await asyncio.sleep(_NO_THREAD_S)
                continue
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError:
                stop.set()
                await asyncio.wait([waiting], timeout=_END_S)
                raise
            if waiting.result():
                began = time.monotonic()
                await self._refresh_unasked()
                await asyncio.sleep(_REST * (time.monotonic() - began))

    async def _refresh_unasked(self) -> None:
        try:
            await self.refresh()
        except ModelManagerError as error:
            # Such as a variant whose original is gone: what is served goes on as it was.
            logger.warning("the voices that are there now cannot be served: %s", error)

    def _adopt(self, scan: _Scan) -> CatalogChange:
        """Let the catalog become what was found; decided and done without an await."""
        catalog = self._manager.catalog
        found = self._with_default(self._of_known_devices(scan.catalog))
        before, was = {spec.model_id: spec for spec in catalog}, (self._files or scan.files).get
        after = {spec.model_id: spec for spec in found}
        self._files = scan.files
        change = CatalogChange(
            added=tuple(name for name in after if name not in before),
            removed=tuple(name for name in before if name not in after),
            replaced=tuple(
                name
                for name, spec in after.items()
                # A file that is gone is no other file: the default's spec outlives it.
                if name in before
                and (spec != before[name] or scan.files.get(name, was(name)) != was(name))
            ),
        )
        for problem in found.problems:
            if problem not in catalog.problems:
                logger.warning("%s", problem)
        if change == CatalogChange() and found.problems == catalog.problems:
            return change
        catalog.adopt(found)
        if change != CatalogChange():
            logger.info("the catalog has changed: %s", change)
        residents = {resident.model_id for resident in self._manager.list_resident()}
        for name in residents.intersection(change.removed):
            self._leaving.begin(self._take_leave(name), f"leave {name}")
        for name in residents.intersection(change.replaced):
            self._leaving.begin(self._renew(name), f"renew {name}")
        return change

    def _of_known_devices(self, found: Catalog) -> Catalog:
        """Leave out models on a device that has no budget, as it had no model at the start."""
        left_out = [spec for spec in found if spec.device not in self._devices]
        if not left_out:
            return found
        problems = [
            f"{spec.model_id} is left out: device {spec.device} is used from the next start on."
            for spec in left_out
        ]
        kept = (spec for spec in found if spec.device in self._devices)
        return Catalog(kept, problems=(*found.problems, *problems))

    def _with_default(self, found: Catalog) -> Catalog:
        """Keep the default model in the catalog, whose name everything else counts on."""
        name = self._manager.settings.default_model_id
        if name in found:
            return found
        spec = self._manager.catalog.get(name)
        aliases = tuple(alias for alias in spec.aliases if alias not in found)
        problem = (
            f"the default model {name!r} is not there any more; bring it back, or configure "
            "another one and start the worker again."
        )
        specs = [each for each in found if each.model_id != spec.model_id]
        return Catalog(
            [replace(spec, aliases=aliases), *specs], problems=(*found.problems, problem)
        )

    async def _take_leave(self, model_id: str) -> None:
        """Unload a model that is gone once nobody holds it; nobody new can ask for it."""
        while model_id not in self._manager.catalog:
            try:
                await self._manager.unload(model_id, drain=True)
            except ModelInUseError:  # held for longer than a drain lasts
                await asyncio.sleep(_IDLE_STEP_S)
                continue
            except (ModelNotResidentError, ManagerClosedError):
                pass
            except ModelManagerError as error:
                logger.warning("%s", error)
            return

    async def _renew(self, model_id: str) -> None:
        """Unload a model that is another now in a moment in which nobody uses it.

        The next caller loads the new one. In use without a pause it stays what it is until it
        leaves: a drain would have its callers wait.
        """
        end = asyncio.get_running_loop().time() + _IDLE_LIMIT_S
        while asyncio.get_running_loop().time() < end:
            used = [r for r in self._manager.list_resident() if r.model_id == model_id]
            if not used:
                return
            if not used[0].refcount and not used[0].streams:
                with contextlib.suppress(ModelManagerError):
                    await self._manager.unload(model_id)
                    return
            await asyncio.sleep(_IDLE_STEP_S)
        logger.info("model %s is in use and stays as it was loaded until it leaves", model_id)


def _watched(settings: VoiceSettings) -> list[Path]:
    """Return the directories that may change: those of packages do with the packages."""
    return voice_directories(settings.model_copy(update={"packages": ()}))


def _scan(config: Config) -> _Scan:
    """Look for voices; what is new is imported here, and not on the event loop."""
    catalog = Catalog.from_config(config, warn=False)
    for adapter in {spec.adapter for spec in catalog}:
        registry.resolve(adapter)
    return _Scan(catalog, dict(_stamps({s.model_id: s for s in catalog})))


def _stamps(specs: Mapping[str, ModelSpec]) -> _Files:
    found: _Files = {}
    for name, spec in specs.items():
        if spec.path is not None:
            with contextlib.suppress(OSError, ValueError):
                seen = os.stat(spec.path)
                found[name] = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return found
