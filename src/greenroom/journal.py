"""The record of every decision and why; the same entries are the events that are published."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass
from enum import StrEnum

from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.owners import owner_name

logger = safe_logger(__name__)


MAX_HISTORIES = 1_000
"""Models with more than one event: those to which something happened last."""


class Kind(StrEnum):
    """What an entry is about."""

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    JOINED = "joined"
    WAITING = "waiting"
    REFUSED = "refused"
    FAILED = "failed"
    DRAINING = "draining"
    UNLOADING = "unloading"
    OVERDUE = "overdue"
    GONE = "gone"
    CRASHED = "crashed"
    """The process that it lived in has ended."""
    RECYCLED = "recycled"
    """It has moved to a fresh process, as its own kept too much memory."""
    LEAKING = "leaking"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    KEPT = "kept"
    EXPECTED = "expected"
    """A caller said that it will ask for it soon."""
    FORGOTTEN = "forgotten"
    """It was not loaded for the caller that was expected."""
    PARKED = "parked"
    """A session that was silent has lost it, and comes back for it with its next word."""
    OVERDRAWN = "overdrawn"
    """The process takes more than the budget; of no model, so the event's `model_id` is empty."""
    RECOVERED = "recovered"
    """It does so no longer."""
    PREPARING = "preparing"
    PREPARED = "prepared"
    UNPREPARED = "unprepared"
    UPGRADED = "upgraded"
    """It has moved over to a better form while it stayed in memory."""
    SILENT = "silent"
    """A listener heard nothing in the midst of speech."""
    SPOKEN = "spoken"
    """A request for speech has ended; only for subscriptions that want speeches, and kept nowhere:
    there are too many of them."""


_LEVELS = {
    Kind.JOINED: logging.DEBUG,
    Kind.WAITING: logging.DEBUG,
    Kind.LEAKING: logging.WARNING,
    Kind.REFUSED: logging.WARNING,
    Kind.FAILED: logging.ERROR,
    Kind.OVERDUE: logging.ERROR,
    Kind.CRASHED: logging.ERROR,
    Kind.RECYCLED: logging.WARNING,
    Kind.OVERDRAWN: logging.WARNING,
    Kind.UNPREPARED: logging.WARNING,
    Kind.SILENT: logging.WARNING,
}


@dataclass(frozen=True, slots=True)
class Spoken:
    """How one request for speech went; seconds."""

    outcome: str
    """`finished`, `stopped`, `cancelled` or `failed`, or `refused`: without a model."""
    waited_s: float
    """From asking until it had its model, or had ended without."""
    first_audio_s: float | None
    """From asking to the first frame; `None` if none was heard."""
    audio_s: float
    """Of the frames that were taken."""
    took_s: float
    """From asking to its end."""


@dataclass(frozen=True, slots=True)
class Event:
    """One decision or fact in the life of a model."""

    kind: Kind
    model_id: str
    reason: str
    at: float
    """Seconds of the manager's monotonic clock."""
    wall: float
    """Seconds since the epoch, for people."""
    owner: str | None = None
    """The caller whose request it was about, if it was about one."""
    took_s: float | None = None
    """Seconds of what has just ended: the load at `warming`, the warmup at `ready`."""
    spoken: Spoken | None = None
    """Of a request for speech that has ended: how it went."""

    def __str__(self) -> str:
        who = f" ({self.owner})" if self.owner else ""
        return f"{self.model_id} {self.kind}: {self.reason}{who}"


class Journal:
    """The latest events, of all models and of each; old ones make room for new ones."""

    def __init__(self, size: int = 2_000, per_model: int = 20, backlog: int = 1_000) -> None:
        self._events: deque[Event] = deque(maxlen=size)
        self._by_model: dict[str, deque[Event]] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        """Models with a history; of all before them one event each is kept."""
        self._per_model = per_model
        self._backlog = backlog
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        """Weakly: a subscription that was dropped without being closed gets no more events."""
        self._closed = False

    def record(
        self,
        kind: Kind,
        model_id: str,
        reason: str,
        now: float,
        *,
        owner: str | None = None,
        took_s: float | None = None,
    ) -> None:
        """Write an event down and publish it."""
        event = Event(kind, model_id, reason, now, time.time(), owner, took_s)
        self._events.append(event)
        self._keep(event)
        for subscription in list(self._subscriptions):
            subscription.put(event)

    def note(
        self,
        kind: Kind,
        model_id: str,
        reason: str,
        now: float,
        *,
        owner: Hashable = None,
        took_s: float | None = None,
    ) -> None:
        """Record an event and log it; what goes wrong with that undoes no decision."""
        name = None if owner is None else owner_name(owner)
        try:
            self.record(kind, model_id, reason, now, owner=name, took_s=took_s)
        except Exception as error:  # noqa: BLE001 - it is done, or about to be, written down or not
            logger.error("the journal failed: %s", describe_error(error))
        extra = {"greenroom_kind": str(kind), "greenroom_model_id": model_id}
        level = _LEVELS.get(kind, logging.INFO)
        logger.log(level, "%s %s: %s", model_id, kind, reason, extra=extra)

    def publish_speech(self, model_id: str, owner: str, spoken: Spoken, now: float) -> None:
        """Publish how a request for speech went, to the subscriptions that want to know."""
        listeners = [each for each in self._subscriptions if each.speeches]
        if listeners:
            wall = time.time()
            event = Event(
                Kind.SPOKEN, model_id, spoken.outcome, now, wall, owner or None, spoken=spoken
            )
            for subscription in listeners:
                subscription.put(event)

    def events(self, model_id: str | None = None) -> tuple[Event, ...]:
        """Return the latest events, oldest first, of one model or of all."""
        if model_id is None:
            return tuple(self._events)
        return tuple(self._by_model.get(model_id, ()))

    def _keep(self, event: Event) -> None:
        """Add to the model's history; beyond `MAX_HISTORIES` shorten that of the quietest model.

        What stays of it is why the model left memory, if that is there.
        """
        model_id = event.model_id
        if model_id not in self._by_model:
            self._by_model[model_id] = deque(maxlen=self._per_model)
        self._by_model[model_id].append(event)
        self._recent[model_id] = None
        self._recent.move_to_end(model_id)
        if len(self._recent) > MAX_HISTORIES:
            oldest, _ = self._recent.popitem(last=False)
            past = self._by_model[oldest]
            left = (each for each in reversed(past) if each.kind is Kind.UNLOADING)
            self._by_model[oldest] = deque([next(left, past[-1])], maxlen=self._per_model)

    def subscribe(self, *, speeches: bool = False) -> Subscription:
        """Return an iterator over the events from now on; with `speeches`, over those too."""
        subscription = Subscription(self._backlog, self._subscriptions.discard, speeches)
        if self._closed:
            subscription.end()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """End every subscription after the events it has."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.end()


class Subscription(AsyncIterator[Event]):
    """An asynchronous iterator of events; a reader that is too slow loses the oldest."""

    def __init__(self, backlog: int, leave: object, speeches: bool = False) -> None:
        self.speeches = speeches
        """Whether it is told of each request for speech."""
        self.lost = 0
        """Events dropped because they were not taken in time."""
        self._leave = leave
        self._events: deque[Event] = deque(maxlen=backlog)
        self._news = asyncio.Event()
        self._ended = False

    def put(self, event: Event) -> None:
        """Add an event."""
        self.lost += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._news.set()

    def end(self) -> None:
        """Stop after the events that are there."""
        self._ended = True
        self._news.set()

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                await self.aclose()
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()

    async def aclose(self) -> None:
        """Receive nothing more."""
        self._ended = True
        if callable(self._leave):
            self._leave(self)
