"""What goes on in a worker: the figures of the last ten minutes, and the streams that run now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from greenroom.concurrency.cores import cores
from greenroom.worker.history import STEP_S
from greenroom.worker.http import serializers
from greenroom.worker.synthesis import Synthesis

_Number = Annotated[int, Path(ge=1, lt=2**53)]


def router(
    synthesis: Synthesis, *, reading: Sequence[Any] = (), changing: Sequence[Any] = ()
) -> APIRouter:
    """Return the routes; the dependencies say who may look, and who may end streams of others."""
    routes = APIRouter(prefix="/api", tags=["activity"])

    @routes.get("/history", dependencies=list(reading))
    async def history(after: Annotated[int, Query(ge=0, lt=2**53)] = 0) -> dict[str, Any]:
        """Answer the figures of the last ten minutes, a step for every five seconds, oldest first.

        `after` leaves out the steps up to that number. Sizes are bytes; the percentiles of a step
        are those of the minute that it ends.
        """
        steps = [serializers.step(each) for each in synthesis.history.steps(after)]
        return {"step_s": STEP_S, "cores": cores(), "steps": steps}

    @routes.get("/streams", dependencies=list(reading))
    async def streams() -> dict[str, Any]:
        """Answer the streams that run or wait, at most 200 of them: who, since when, how far."""
        return serializers.streams(synthesis.running())

    @routes.delete("/streams/{number}", dependencies=list(changing))
    async def end(number: _Number) -> dict[str, bool]:
        """End a stream: its caller gets an error, as it was not said to its end.

        One that is not there, or over, is none.
        """
        return {"ended": synthesis.end_speech(number)}

    return routes
