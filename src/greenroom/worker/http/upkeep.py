"""What administrators do to a worker without a restart: have voices pulled, have it read its
configuration again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from greenroom.worker.http.body import read
from greenroom.worker.http.errors import body_of
from greenroom.worker.http.models import ModelName
from greenroom.worker.http.openapi import reads
from greenroom.worker.pulls import Pull, Pulls
from greenroom.worker.reload import Reload

_STEP_S = 0.5
"""Between two lines about how much has come."""

_PULL_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "How the pull ended, or lines that tell how much has come.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/x-ndjson": {"schema": {"type": "object"}},
        },
    }
}


class PullBody(BaseModel):
    """A voice to bring here, as Ollama's clients ask for a model; unknown fields are ignored."""

    model_config = ConfigDict(strict=True)

    model: ModelName
    stream: bool = True
    """Whether lines tell how much has come, or one tells the end."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the routes do their work with."""

    reload: Reload
    pulls: Pulls

    def router(self, patience: float) -> APIRouter:
        """Return the routes; they are for administrators. A body may take `patience` seconds."""
        routes = APIRouter(prefix="/api", tags=["upkeep"])
        _add_reload(routes, self.reload)
        _add_pulls(routes, self.pulls, patience)
        return routes


def _add_reload(routes: APIRouter, reload: Reload) -> None:
    @routes.post("/reload")
    async def read_again() -> dict[str, Any]:
        """Read the configuration and the directories of voices again; no stream is touched.

        Answers the keys that have changed, those that change with the next start, and the models
        that came, went or were replaced. One that cannot work changes nothing.
        """
        return asdict(await reload.run())


def _add_pulls(routes: APIRouter, pulls: Pulls, patience: float) -> None:
    @routes.post(
        "/pull", openapi_extra=reads(PullBody), response_model=None, responses=_PULL_ANSWER
    )
    async def pull(request: Request) -> StreamingResponse | dict[str, Any]:
        """Bring a voice here from the configured index; it can be loaded when this says success.

        Goes on when its client leaves; who asks for the same voice meanwhile joins.
        """
        body = await read(request, PullBody, patience)
        begun = pulls.begin(body.model)
        if body.stream:
            return StreamingResponse(_lines(begun), media_type="application/x-ndjson")
        await begun.over.wait()
        if begun.error is not None:
            raise begun.error
        return _end_of(begun)

    @routes.get("/pulls")
    async def pulls_now() -> dict[str, Any]:
        """Answer the voices that are being pulled, and the latest that were."""
        return {"pulls": [_entry(each) for each in pulls.all()]}

    @routes.delete("/pulls/{voice}")
    async def stop(voice: str) -> dict[str, Any]:
        """Stop a pull; what came is kept for the next one."""
        pulls.stop(voice)
        return {"pulls": [_entry(each) for each in pulls.all()]}


async def _lines(pull: Pull) -> AsyncIterator[str]:
    """Yield a line of JSON whenever more has come, and one at the end, as Ollama does."""
    told = None
    while not pull.over.is_set():
        now = (pull.state, pull.come, pull.size)
        if now != told:
            told = now
            yield _line({"status": f"{pull.state} {pull.voice}", **_progress(pull)})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STEP_S):
                await pull.over.wait()
    if pull.error is not None:
        yield _line({"error": body_of(pull.error)["error"]["message"]})
    else:
        yield _line(_end_of(pull))


def _line(content: dict[str, Any]) -> str:
    return f"{json.dumps(content)}\n"


def _end_of(pull: Pull) -> dict[str, Any]:
    ended = "success" if pull.error is None and pull.state != "stopped" else pull.state
    return {"status": ended, "licence": pull.licence or None, **_progress(pull)}


def _progress(pull: Pull) -> dict[str, Any]:
    return {"completed": pull.come, "total": pull.size}


def _entry(pull: Pull) -> dict[str, Any]:
    problem = None if pull.error is None else str(pull.error)
    return {
        "voice": pull.voice,
        "state": pull.state,
        "licence": pull.licence or None,
        "problem": problem,
        **_progress(pull),
    }
