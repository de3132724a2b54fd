"""A manager with fake engines that runs for the length of a block, and what is in it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from greenroom import ModelManager
from greenroom.testing import Stage


@contextlib.asynccontextmanager
async def running(stage: Stage, default: str = "a", **settings: Any) -> AsyncIterator[ModelManager]:
    settings.setdefault("min_residency_ms", 0)
    manager = ModelManager(catalog=stage.catalog, default_model_id=default, **settings)
    await manager.initialize()
    try:
        yield manager
    finally:
        stage.open_all()
        await manager.shutdown(drain_timeout_ms=0)


def ids(manager: ModelManager) -> list[str]:
    return [resident.model_id for resident in manager.list_resident()]


def one(manager: ModelManager, model_id: str) -> Any:
    return next(r for r in manager.list_resident() if r.model_id == model_id)
