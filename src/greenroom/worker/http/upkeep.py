"""What administrators do to a worker without a restart: have it read its configuration again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from greenroom.worker.reload import Reload


def router(reload: Reload) -> APIRouter:
    """Return the routes; they are for administrators."""
    routes = APIRouter(prefix="/api", tags=["upkeep"])

    @routes.post("/reload")
    async def read_again() -> dict[str, Any]:
        """Read the configuration and the directories of voices again; no stream is touched.

        Answers the keys that have changed, those that change with the next start, and the models
        that came, went or were replaced. One that cannot work changes nothing.
        """
        return asdict(await reload.run())

    return routes
