"""The journal and explanations over HTTP, and both live as server-sent events.

A follower gets the journal's latest entries, then every new one (`journal`) and the state of the
whole worker whenever it changes (`state`), until the worker ends (`end`). One that asks for
`speeches` also gets how each request for speech went, at its end (`speech`), one that asks for
`activity` the steps of the worker's history, past ones first (`figures`), and once a second the
streams that run (`streams`). One that reads too slowly loses the oldest entries and gets their
number (`lost`).
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.types import Receive, Scope, Send

from greenroom.journal import Event, Subscription
from greenroom.worker.admission import SlotPools
from greenroom.worker.http import serializers
from greenroom.worker.http.middleware import cleanups_of, peer_in
from greenroom.worker.synthesis import Synthesis

_SOON_S = 0.2
"""The least time between two events with the state."""

_PERIOD_S = 1.0
"""Hits and releases make no event, so this is how soon a change of references shows."""

_SILENCE_S = 15.0
"""After so long a comment is sent, so that proxies and browsers see a live connection."""

_LONGEST = 2_000
"""Entries of the journal in one answer."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def router(synthesis: Synthesis, followers: SlotPools, *, reading: Sequence[Any] = ()) -> APIRouter:
    """Return the routes; `followers` are slots, `reading` says who may look."""
    manager = synthesis.manager
    routes = APIRouter(prefix="/api", tags=["journal"], dependencies=list(reading))

    @routes.get("/explain/{model:path}")
    async def explain(model: str) -> dict[str, Any]:
        """Answer why a model is or is not in memory, who holds it, what happened to it."""
        return serializers.explanation(manager.explain(model))

    @routes.get("/journal")
    async def journal(
        model: str | None = None, limit: Annotated[int, Query(ge=1, le=_LONGEST)] = 200
    ) -> dict[str, Any]:
        """Answer the latest events, oldest first, of one model or of all."""
        model_id = None if model is None else manager.catalog.get(model).model_id
        found = manager.journal.events(model_id)[-limit:]
        return {"events": [serializers.event(each) for each in found]}

    @routes.get("/events", response_class=EventStream, status_code=200)
    async def events(
        request: Request,
        history: Annotated[int, Query(ge=0, le=_LONGEST)] = 0,
        speeches: bool = False,
        activity: bool = False,
    ) -> EventStream:
        """Answer server-sent events: the last `history` entries, then what happens.

        With `speeches` also how each request for speech went, with `activity` also each step of
        `/api/history`, past ones first, and each second what `/api/streams` says, while any run.
        """
        cleanups_of(request).enter_context(followers.take(request.state.caller, peer_in(request)))
        return EventStream(_follow(synthesis, history, speeches=speeches, activity=activity))

    return routes


class EventStream(StreamingResponse):
    """The response to one follower; the server cuts off one that does not read."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        super().__init__(pieces, headers=_HEADERS)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send every event."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._pieces.aclose()


async def _follow(
    synthesis: Synthesis, history: int, *, speeches: bool, activity: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the events of one follower: the past, then what happens."""
    journal = synthesis.manager.journal
    # In one step with the past, so that nothing falls between.
    events = journal.subscribe(speeches=speeches)
    past = journal.events()[-history:] if history else ()
    try:
        for each in past:
            yield _message("journal", serializers.event(each))
        async for piece in _Feed(synthesis, events, _Activity(synthesis) if activity else None):
            yield piece
    finally:
        await events.aclose()


class _Feed:
    """The events of one follower after the past."""

    def __init__(
        self, synthesis: Synthesis, events: Subscription, activity: _Activity | None
    ) -> None:
        self._synthesis = synthesis
        self._events = events
        self._activity = activity
        self._clock = asyncio.get_running_loop().time
        self._sent: Any = None
        self._looked_at = -math.inf
        self._news = False
        """Whether something happened since the last look at the state."""
        self._lost = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        said_at = self._clock()
        ended = False
        while not ended:
            pieces = self._state()
            try:
                async with asyncio.timeout(_SOON_S if self._news else _PERIOD_S):
                    pieces += self._event(await anext(self._events)) if not pieces else []
            except StopAsyncIteration:
                pieces = [*self._state(now=True), _message("end", {})]
                ended = True
            except TimeoutError:
                if self._clock() - said_at >= _SILENCE_S:
                    pieces = [format_sse_event(comment="still here")]
            if self._activity is not None and not ended:
                pieces += self._activity.news(self._clock())
            for piece in pieces:
                said_at = self._clock()
                yield piece

    def _event(self, found: Event) -> list[bytes]:
        if found.spoken is not None:
            pieces = [_message("speech", serializers.speech(found, found.spoken))]
        else:
            self._news = True
            pieces = [_message("journal", serializers.event(found))]
        if self._events.lost != self._lost:
            pieces.append(_message("lost", {"count": self._events.lost - self._lost}))
            self._lost = self._events.lost
        return pieces

    def _state(self, *, now: bool = False) -> list[bytes]:
        """Look at the state, not too often; return its event if it differs from the last one."""
        if not now and self._clock() - self._looked_at < _SOON_S:
            return []
        self._looked_at, self._news = self._clock(), False
        snapshot = serializers.state(self._synthesis)
        still = serializers.unchanging(snapshot)
        if still == self._sent:
            return []
        self._sent = still
        return [_message("state", snapshot)]


class _Activity:
    """What one follower is told of the history, and of the streams that run."""

    def __init__(self, synthesis: Synthesis) -> None:
        self._synthesis = synthesis
        self._last_step = 0
        self._looked_at = -math.inf
        self._shown = True
        """Whether it was told of streams that run, or of nothing yet."""

    def news(self, now: float) -> list[bytes]:
        """Return the steps that have ended since the last time, and once a second the streams."""
        pieces = []
        for step in self._synthesis.history.steps(self._last_step):
            self._last_step = step.number
            pieces.append(_message("figures", serializers.step(step)))
        if now - self._looked_at < _PERIOD_S:
            return pieces
        self._looked_at = now
        running = self._synthesis.running()
        if running or self._shown:
            pieces.append(_message("streams", serializers.streams(running)))
        self._shown = bool(running)
        return pieces


def _message(name: str, content: dict[str, Any]) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(content, separators=(",", ":")))
