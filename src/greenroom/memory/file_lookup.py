"""Looks at models' files before room is made for them."""

from __future__ import annotations

import asyncio
import functools

from greenroom.adapter import ModelSpec
from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor
from greenroom.memory.footprint_store import FootprintStore
from greenroom.untrusted.exceptions import told
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

_LOOK_LIMIT_S = 2.0
"""How long a caller waits for a look at its model's file."""


class Looks:
    """One look for all who ask for a model, and one at a time.

    So callers keep the order in which they came and share the load that follows. A file system
    that hangs holds them up for a moment only: the load itself has its own limit.
    """

    def __init__(self, footprints: FootprintStore, executor: DaemonExecutor, tasks: Tasks) -> None:
        self._footprints = footprints
        self._executor = executor
        self._tasks = tasks
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def at(self, spec: ModelSpec) -> None:
        """Return when the model's file was looked at, or when that takes too long."""
        look = self._under_way.get(spec.model_id)
        if look is None:
            look = self._under_way[spec.model_id] = self._tasks.begin(self._look(spec), "look")
            look.add_done_callback(lambda _: self._under_way.pop(spec.model_id))
        await asyncio.wait([look])

    async def _look(self, spec: ModelSpec) -> None:
        look = functools.partial(self._footprints.inspect, spec)
        try:
            await self._executor.run(look, limit=_LOOK_LIMIT_S)
        except TimeoutError:
            logger.warning("model %s: its file could not be looked at in time", spec.model_id)
        except Exception as error:  # noqa: BLE001 - the load itself says what is wrong with the file
            logger.warning("model %s: its file cannot be looked at: %s", spec.model_id, told(error))
