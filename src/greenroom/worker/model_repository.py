"""The worker's models as Triton and KServe see them: a repository with one version of each."""

from __future__ import annotations

import contextlib
from typing import Any

from greenroom.adapter import ModelSpec
from greenroom.concurrency.in_steps import in_steps
from greenroom.errors import InvalidInputError, ModelNotResidentError
from greenroom.ledger.state import State
from greenroom.worker.synthesis import Synthesis

VERSION = "1"
READY = "READY"
ABSENT = "UNAVAILABLE"

STATES = {
    State.LOADING: "LOADING",
    State.WARMING: "LOADING",
    State.READY: READY,
    State.DRAINING: "UNLOADING",
    State.UNLOADING: "UNLOADING",
}


class Repository:
    """What both protocols of Triton's ask; ids may be aliases, answers have the model's own."""

    def __init__(self, synthesis: Synthesis) -> None:
        self._synthesis = synthesis
        self._manager = synthesis.manager

    def server(self) -> dict[str, Any]:
        """Return what this server is."""
        version = self._synthesis.version
        return {"name": "greenroom", "version": version, "extensions": ["model_repository"]}

    def model(self, name: str, version: str = "") -> dict[str, Any]:
        """Return what a model is; raises `ModelNotFoundError`, and `InvalidInputError`."""
        spec = self._known(name, version)
        adapter = spec.adapter if isinstance(spec.adapter, str) else spec.adapter.__name__
        return {"name": spec.model_id, "versions": [VERSION], "platform": adapter}

    def state_of(self, name: str, version: str = "") -> str:
        """Return its state as Triton names it; raises as `model` does."""
        return self._states().get(self._known(name, version).model_id, ABSENT)

    async def index(self, *, only_ready: bool) -> list[dict[str, str]]:
        """Return every model, or those that are ready, with its state and why."""
        states = self._states()
        found = []
        async for spec in in_steps(self._manager.list_catalog()):
            name, state = spec.model_id, states.get(spec.model_id, ABSENT)
            if state == READY or not only_ready:
                reason = "" if state == READY else self._manager.explain(name).summary
                found.append({"name": name, "version": VERSION, "state": state, "reason": reason})
        return found

    async def load(self, name: str, *, owner: str, changed: bool = False) -> None:
        """Bring a model into memory, keeping no reference; `changed` it cannot be on the way."""
        spec = self._known(name, "")
        if changed:
            raise InvalidInputError(
                "parameters: a model's settings are the worker's; load it without parameters."
            )
        await self._synthesis.load_model(spec.model_id, owner=owner)

    async def unload(self, name: str) -> None:
        """Let a model go once its holders are done; one that is not there is no error."""
        with contextlib.suppress(ModelNotResidentError):
            await self._synthesis.unload_model(name)

    def _states(self) -> dict[str, str]:
        return {r.model_id: STATES[r.state] for r in self._manager.list_resident()}

    def _known(self, name: str, version: str) -> ModelSpec:
        spec = self._manager.catalog.get(name)
        if version not in ("", VERSION):
            raise InvalidInputError(f"model {spec.model_id!r} has version {VERSION} only.")
        return spec
