"""Read the configuration again: what may change changes, what may not is named.

All of it is checked before anything changes, and no stream is touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import check_ids
from greenroom.concurrency.threads import DaemonExecutor, OverdueError
from greenroom.config.messages import summary
from greenroom.config.schema import Config, WorkerSettings
from greenroom.errors import ConfigError, ModelManagerError
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.auth import Keys
from greenroom.worker.catalog_refresh import CatalogChange, CatalogRefresh
from greenroom.worker.settings_check import worker_problems
from greenroom.worker.synthesis import Synthesis

logger = safe_logger(__name__)

_READ_LIMIT_S = 10.0

_WORKER = ("api_keys", "aliases", "text", "pronunciations")
"""Keys of `worker` that may change while it runs."""

_CHANGEABLE = {
    *("models", "voices.directories", "voices.packages", "voices.index"),
    *(f"worker.{key}" for key in _WORKER),
}


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a configuration that was read again."""

    changed: tuple[str, ...] = ()
    """Keys that have their new values now."""
    needs_restart: tuple[str, ...] = ()
    """Keys that are others in the file, and change with the next start."""
    models: CatalogChange = field(default_factory=CatalogChange)

    def __str__(self) -> str:
        parts = [f"changed: {', '.join(self.changed) or 'nothing'}"]
        if self.needs_restart:
            parts.append(f"with the next start: {', '.join(self.needs_restart)}")
        if said := str(self.models):
            parts.append(f"models {said}")
        return "; ".join(parts)


class Reload:
    """Has a worker follow its configuration; on the worker's event loop."""

    def __init__(
        self,
        config: Config,
        synthesis: Synthesis,
        keys: Keys,
        refresh: CatalogRefresh,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """`reread` reads the configuration as the start did, and blocks; without it voices alone
        are looked for again."""
        self._config = config
        self._synthesis = synthesis
        self._keys = keys
        self._refresh = refresh
        self._reread = reread
        self._thread = DaemonExecutor("configuration", 1)
        self._turn = asyncio.Lock()

    async def run(self) -> Reloaded:
        """Read it again and let it count; raises `ConfigError`, and then nothing has changed."""
        async with self._turn:
            wanted = await self._wanted()
            different = tuple(_differences(self._config, wanted))
            kept = [key for key in different if not self._may_change(key, wanted)]
            fitting = self._kept(wanted, kept)

            def check(found: Catalog) -> None:
                check_ids(wanted.model_manager, found)
                if problems := list(worker_problems(wanted.worker, found)):
                    raise ConfigError(summary(problems), problems=problems)

            # The last thing that may fail; from there on nothing is awaited.
            models = await self._refresh.refresh(fitting, check)
            self._apply(fitting)
            done = tuple(key for key in different if key not in kept)
            reloaded = Reloaded(done, tuple(kept), models)
            logger.info("the configuration was read again: %s", reloaded)
            return reloaded

    def end(self) -> None:
        """Let the thread end that reads."""
        self._thread.close()

    async def run_unasked(self) -> None:
        """Do the same for a signal: what is wrong is logged."""
        try:
            await self.run()
        except ModelManagerError as error:
            logger.error("the configuration was read again and nothing has changed: %s", error)

    async def _wanted(self) -> Config:
        """Read the configuration; one that names no default keeps the one that was found."""
        if self._reread is None:
            return self._config
        try:
            wanted = await self._thread.run(self._reread, limit=_READ_LIMIT_S)
        except OverdueError:
            raise ConfigError(
                f"the configuration was not read within {_READ_LIMIT_S:.0f} s; is it a pipe?"
            ) from None
        manager = wanted.model_manager
        if "default_model_id" in manager.model_fields_set:
            return wanted
        default = self._config.model_manager.default_model_id
        same = manager.model_copy(update={"default_model_id": default})
        return wanted.model_copy(update={"model_manager": same})

    def _may_change(self, key: str, wanted: Config) -> bool:
        # With the first key, or without the last, other addresses and pages may be answered.
        if key == "worker.api_keys":
            return bool(wanted.worker.api_keys) and bool(self._config.worker.api_keys)
        return key in _CHANGEABLE

    def _kept(self, wanted: Config, kept: list[str]) -> Config:
        """Return the present configuration with what may change of `wanted`."""
        sections: dict[str, Any] = {}
        if "models" not in kept:
            sections["models"] = wanted.models
        for name in ("voices", "worker"):
            present, asked = getattr(self._config, name), getattr(wanted, name)
            fresh = {
                key: getattr(asked, key)
                for key in type(present).model_fields
                if f"{name}.{key}" in _CHANGEABLE and f"{name}.{key}" not in kept
            }
            sections[name] = present.model_copy(update=fresh)
        return self._config.model_copy(update=sections)

    def _apply(self, config: Config) -> None:
        settings: WorkerSettings = config.worker
        self._config = config
        self._synthesis.settings = settings
        self._synthesis.names.take(settings.aliases)
        self._synthesis.voices.pronounce(settings.pronunciations)
        self._keys.replace(settings)


def _differences(old: Config, new: Config) -> Iterator[str]:
    """Yield the keys whose values differ, such as `worker.text`."""
    for name in type(old).model_fields:
        present, asked = getattr(old, name), getattr(new, name)
        if name == "models":
            if present != asked:
                yield name
            continue
        for key in type(present).model_fields:
            if getattr(present, key) != getattr(asked, key):
                yield f"{name}.{key}"
