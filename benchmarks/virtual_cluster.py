"""Several workers' ledgers and a router under one virtual clock: what it costs to send where.

The ledgers are those that serve. A load, a speech and a report take the time that is said here, all
else takes none. A speech holds its voice from the moment it has it; how speeches share the cores is
not played.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from greenroom.cluster.rank import rank
from greenroom.cluster.reports import Reports, seed_of
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Granted,
    Load,
    ModelRequest,
    Policy,
    Refused,
    Resident,
    State,
    Unload,
)
from greenroom.worker.report import ReportedModel, WorkerReport

LOAD_S = 0.3
UNLOAD_S = 0.01
SPEECH_S = 1.5
SHARE = 0.04
"""Of a worker's cores that one stream needs."""


@dataclass(frozen=True, slots=True)
class Request:
    """A caller wants a voice."""

    at: float
    voice: str


def requests_by_zipf(voices: int, count: int, rate: float, seed: int) -> list[Request]:
    """Return requests at `rate` a second, of voices by Zipf's law."""
    choice = random.Random(seed)
    weights = [1 / (number + 1) for number in range(voices)]
    asked = choice.choices([f"voice-{number}" for number in range(voices)], weights, k=count)
    now, found = 0.0, []
    for voice in asked:
        now += choice.expovariate(rate)
        found.append(Request(now, voice))
    return found


class VirtualWorker:
    """One ledger, and what it has decided that has not ended yet."""

    def __init__(self, cluster: VirtualCluster, number: int, places: int) -> None:
        self.name = f"worker-{number}"
        self.ledger = Residency(
            Policy(resident_cap=places, cap_policy="hard", min_residency=0.0, turn_after=2.0)
        )
        self._cluster = cluster
        self._places = places
        self._sequence = 0
        self._in_flight = 0
        self._streams = 0

    def ask(self, request: Request, number: int, now: float) -> None:
        """Have a caller ask this worker."""
        self._in_flight += 1
        resident = self.ledger.hit(request.voice, number, now)
        if resident is not None:
            self._cluster.waits.append(0.0)
            self._speak(resident, number, now)
        else:
            _, decisions = self.ledger.request(ModelRequest(request.voice), number, now)
            self._carry_out(decisions, now)

    def _speak(self, resident: Resident, number: int, now: float) -> None:
        self.ledger.open_stream(resident)
        self._streams += 1

        def end(at: float) -> None:
            self._streams -= 1
            self._in_flight -= 1
            self._cluster.ended(self.name, resident.model_id, number, at)
            self._carry_out(self.ledger.close_stream(resident, at, now) or (), at)
            self._carry_out(self.ledger.release(resident.model_id, number, at) or (), at)

        self._cluster.later(now + SPEECH_S, end)

    def _carry_out(self, decisions: Iterable[Decision], now: float) -> None:
        for decision in decisions:
            match decision:
                case Load(resident):
                    self._cluster.loads += 1
                    self._end_later(resident, now, LOAD_S, self._loaded)
                case Unload(resident):
                    self._end_later(resident, now, UNLOAD_S, self._gone)
                case Granted(ticket, resident):
                    self._cluster.waits.append(now - ticket.since)
                    assert isinstance(ticket.owner, int)
                    self._speak(resident, ticket.owner, now)
                case Refused():
                    self._cluster.refused += 1
                    self._in_flight -= 1
        due = self.ledger.next_due()
        if due < math.inf:
            self._cluster.later(max(due, now), self._tick)

    def _tick(self, now: float) -> None:
        if self.ledger.next_due() <= now:
            self._carry_out(self.ledger.tick(now), now)

    def _end_later(
        self,
        resident: Resident,
        now: float,
        seconds: float,
        ended: Callable[[Resident, float], Iterable[Decision]],
    ) -> None:
        self._cluster.later(now + seconds, lambda at: self._carry_out(ended(resident, at), at))

    def _loaded(self, resident: Resident, at: float) -> Iterable[Decision]:
        self.ledger.warming(resident, LOAD_S)
        return self.ledger.loaded(resident, True, at)

    def _gone(self, resident: Resident, at: float) -> Iterable[Decision]:
        return self.ledger.gone(resident, at)

    def report(self, now: float) -> WorkerReport:
        """Return what it has, as a worker tells it."""
        self._sequence += 1
        residents = tuple(_reported(each, now) for each in self.ledger.residents)
        movable = sum(each.can_leave for each in residents)
        free = max(0, self._places - len(residents))
        return WorkerReport(
            boot_id="its only life",
            sequence=self._sequence,
            catalog="all",
            default_model_id="voice-0",
            places=self._places,
            free_places=free,
            evictable_places=movable,
            free_bytes=0,
            evictable_bytes=0,
            room_in_s=0.0 if free or movable else SPEECH_S,
            in_flight=self._in_flight,
            streams=self._streams,
            streams_waiting=0,
            waiting=self.ledger.queue.count,
            capacity_used=SHARE * self._streams,
            ready=True,
            draining=False,
            residents=residents,
            load_s=dict.fromkeys((each.model_id for each in residents), LOAD_S),
        )


def _reported(resident: Resident, now: float) -> ReportedModel:
    ready = resident.state is State.READY
    idle = ready and not resident.in_use
    left = max(0.0, resident.booked_at + LOAD_S - now) if resident.loading else 0.0
    return ReportedModel(
        resident.model_id,
        resident.state,
        resident.refcount,
        resident.streams,
        max(0.0, now - resident.idle_since) if idle else 0.0,
        left,
        idle,
    )


@dataclass(slots=True)
class VirtualCluster:
    """Workers and one or more routers that know nothing of each other."""

    places: int
    workers: int
    routers: int = 1
    report_every: float = 0.5
    loads: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list)
    """From asking to having the voice."""
    views: list[Reports] = field(default_factory=list)
    """What each router knows."""
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def later(self, at: float, event: Callable[[float], None]) -> None:
        """Have something happen at a time."""
        heappush(self._events, (at, next(self._order), event))

    def ended(self, worker: str, voice: str, number: int, now: float) -> None:
        """Tell the router of a request that its speech is over."""
        self.views[number % self.routers].finished(worker, voice, now)

    def play(self, requests: Sequence[Request], way: str) -> VirtualCluster:
        """Send each request to a worker: by `rank`, `in turn` or `by hash`; return what it met."""
        workers = [VirtualWorker(self, n, self.places) for n in range(self.workers)]
        by_name = {worker.name: worker for worker in workers}
        views = self.views = [Reports() for _ in range(self.routers)]
        turns = itertools.cycle(workers)
        end = requests[-1].at

        def tell(worker: VirtualWorker, now: float) -> None:
            for view in views:
                view.update(worker.name, worker.report(now), now)
            if now < end:
                self.later(now + self.report_every, lambda at: tell(worker, at))

        def send(number: int, request: Request) -> None:
            if way == "by rank":
                view = views[number % self.routers]
                worker = by_name[rank(view, request.voice, request.at, 1)[0]]
                view.picked(worker.name, request.voice, request.at)
            elif way == "in turn":
                worker = next(turns)
            else:
                worker = workers[seed_of(request.voice) % self.workers]
            worker.ask(request, number, request.at)

        for number, worker in enumerate(workers):
            # They are known from the beginning, and do not report all at once.
            for view in views:
                view.update(worker.name, worker.report(0.0), 0.0)
            first = self.report_every * number / self.workers
            self.later(first, functools.partial(tell, worker))
        for number, request in enumerate(requests):
            self._run_until(request.at)
            send(number, request)
        self._run_until(math.inf)
        return self

    def _run_until(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            at, _, event = heappop(self._events)
            event(at)


def played(
    requests: Sequence[Request],
    way: str,
    *,
    workers: int,
    places: int,
    routers: int = 1,
    report_every: float = 0.5,
) -> VirtualCluster:
    """Return what requests met that were sent in one way."""
    return VirtualCluster(places, workers, routers, report_every).play(requests, way)
