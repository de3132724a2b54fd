"""Inspects models' files before room is made for them: their size, and whether they changed."""

from __future__ import annotations

import asyncio
import functools

from greenroom.adapter import ModelSpec
from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor
from greenroom.memory.footprint_store import FootprintStore
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

_INSPECTION_LIMIT_S = 2.0
"""How long a caller waits until its model's file was inspected."""


class FileInspections:
    """One inspection for all callers that ask for a model, and one at a time.

    So callers keep the order in which they came and share the load that follows. A file system
    that hangs holds them up for a moment only: the load itself has its own limit.
    """

    def __init__(self, footprints: FootprintStore, executor: DaemonExecutor, tasks: Tasks) -> None:
        self._footprints = footprints
        self._executor = executor
        self._tasks = tasks
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def inspect(self, spec: ModelSpec) -> None:
        """Return when the model's file was inspected, or when that takes too long."""
        inspection = self._under_way.get(spec.model_id)
        if inspection is None:
            inspection = self._under_way[spec.model_id] = self._tasks.begin(
                self._inspect(spec), "inspection"
            )
            inspection.add_done_callback(lambda _: self._under_way.pop(spec.model_id))
        await asyncio.wait([inspection])

    async def _inspect(self, spec: ModelSpec) -> None:
        inspection = functools.partial(self._footprints.inspect, spec)
        try:
            await self._executor.run(inspection, limit=_INSPECTION_LIMIT_S)
        except TimeoutError:
            logger.warning("model %s: its file could not be looked at in time", spec.model_id)
        except Exception as error:  # noqa: BLE001 - the load itself says what is wrong with the file
            logger.warning(
                "model %s: its file cannot be looked at: %s", spec.model_id, describe_error(error)
            )
