"""Load the pinned default model again when it was lost, as by a reload that failed.

Until it is back the worker is not ready (`readiness.py`), so no caller would bring it back. What
an administrator unloads stays away until a caller asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Coroutine, Iterator
from typing import Any

from greenroom.errors import ManagerClosedError, ModelManagerError, ModelNotResidentError
from greenroom.journal import Kind, Subscription
from greenroom.ledger.state import State
from greenroom.model_manager import ModelManager
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

_OWNER = "the worker, for its default model"
_FIRST_S, _LONGEST_S = 1.0, 60.0
"""Between two tries; longer where the manager says so."""


class DefaultModel:
    """Follows the default model of a worker; all methods on the manager's event loop."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self._model_id = manager.catalog.get(manager.settings.default_model_id).model_id
        self._dismissed_at = -math.inf
        self._dismissed = False

    @contextlib.contextmanager
    def unloading(self, model_id: str) -> Iterator[None]:
        """Respect the unload inside the block, if it is of the default and is not refused."""
        if self._manager.catalog.get(model_id).model_id != self._model_id:
            yield
            return
        before, self._dismissed = self._dismissed, True
        self._dismissed_at = asyncio.get_running_loop().time()
        try:
            yield
        except ModelNotResidentError:
            raise
        except ModelManagerError:
            self._dismissed = before
            raise

    def follow(self) -> Coroutine[Any, Any, None]:
        """Return what brings it back from here on, to be run as a task; ends with the manager."""
        return self._follow(self._manager.subscribe())

    async def _follow(self, events: Subscription) -> None:
        try:
            async for event in events:
                if event.model_id != self._model_id:
                    continue
                if event.kind is Kind.READY and event.at > self._dismissed_at:
                    self._dismissed = False
                elif event.kind in (Kind.FAILED, Kind.GONE):
                    await self._bring_back()
        finally:
            await events.aclose()

    async def _bring_back(self) -> None:
        """Load it, until that succeeds or it is not missed any more."""
        delay = _FIRST_S
        while self._is_missed():
            try:
                await self._manager.load(self._model_id, owner=_OWNER)
            except ManagerClosedError:
                return
            except ModelManagerError as error:
                wait = max(delay, getattr(error, "retry_after", None) or 0.0)
                logger.warning("the default model is missed; next try in %.0f s: %s", wait, error)
            else:
                await self._manager.release(self._model_id, owner=_OWNER)
                return
            await asyncio.sleep(wait)
            delay = min(2 * delay, _LONGEST_S)

    def _is_missed(self) -> bool:
        found = self._manager.statistics()
        present = any(r.model_id == self._model_id and _is_usable(r.state) for r in found.residents)
        return self._model_id in found.pinned and not self._dismissed and not present


def _is_usable(state: State) -> bool:
    return state in (State.READY, State.DRAINING)
