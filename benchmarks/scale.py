"""A cluster far larger than this machine, in virtual time: what stale reports and a herd cost.

`python -m benchmarks.scale --minutes 20` prints a table in Markdown. Each worker is the ledger that
serves; the router is `rank` over `Reports`, as in a real cluster. Loads and speeches take a fixed
time; what cores do is not simulated but for the share that a report tells. Each voice that fits has
one home when it begins, so that all loads but those of the rarest voices come of what the router
does not know, of the herd and of the zone that is lost.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, cycle

import numpy as np

from greenroom.cluster.rank import rank
from greenroom.cluster.reports import Reports
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
from greenroom.simulation.generator import Workload, generate
from greenroom.worker.report import SPEECH_S, ReportedModel, WorkerReport

_LOAD_S = 0.3
_SHARE = 0.08
"""Of a worker's cores that a stream needs."""
_DELAY_S = 0.02
"""From a worker's report to the router."""
_HERD_S = 2.0
_FOOTPRINT = 60 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    name: str
    period_s: float
    """Between two reports of a worker."""
    remembers: bool = True
    """Whether the router counts what it has sent since the last report."""
    herd: int = 0
    """Calls for one voice within two seconds, in the middle of the run."""
    lost: float = 0.0
    """The share of the workers that end in the middle of the run."""
    new_router: bool = False
    """Whether the router ends in the middle of the run, and one that knows nothing goes on."""


@dataclass(slots=True)
class Met:
    """What the calls met."""

    calls: int = 0
    at_home: int = 0
    """Calls that found their voice in memory where they were sent."""
    loads: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list)
    most_in_flight: int = 0
    """At one worker."""
    beyond_cores: int = 0
    """Calls that began to speak where the cores could not keep up one more."""
    herd_copies: int = 0
    router_s: float = 0.0
    """Processor time of the router: picks and reports."""
    reports: int = 0


class Worker:
    """One worker: its ledger, and when it reports."""

    def __init__(self, name: str, places: int) -> None:
        policy = Policy(resident_cap=places, cap_policy="hard", ttl=-1.0, min_residency=0.0)
        self.name = name
        self.places = places
        self.ledger = Residency(policy)
        self.speaking = 0
        self.sequence = 0
        self.reports_at = math.inf
        self.ticks_at = math.inf
        self.lost = False

    def report(self, now: float) -> WorkerReport:
        self.sequence += 1
        residents = list(self.ledger.residents)
        leaving = sum(r.may_leave for r in residents)
        free = max(0, self.places - len(residents))
        waiting = self.ledger.queue.count + sum(len(r.waiters) for r in residents)
        return WorkerReport(
            boot_id=self.name,
            sequence=self.sequence,
            catalog="all",
            default_model_id="",
            places=self.places,
            free_places=free,
            evictable_places=leaving,
            free_bytes=1 << 40,
            evictable_bytes=0,
            room_in_s=0.0 if free or leaving else SPEECH_S,
            in_flight=self.speaking + waiting,
            streams=self.speaking,
            streams_waiting=0,
            waiting=waiting,
            capacity_used=_SHARE * self.speaking,
            ready=True,
            draining=False,
            residents=tuple(
                ReportedModel(
                    r.model_id,
                    r.state,
                    idle_s=0.0 if r.in_use else max(0.0, now - r.idle_since),
                    left_s=max(0.0, r.booked_at + _LOAD_S - now) if r.loading else 0.0,
                    can_leave=r.may_leave,
                    footprint=_FOOTPRINT,
                )
                for r in residents
            ),
            load_s={r.model_id: _LOAD_S for r in residents},
        )


class Cluster:
    """All workers, one router, one clock."""

    def __init__(self, plan: Plan, workers: int, voices: int, places: int) -> None:
        self.plan = plan
        self.met = Met()
        self._requests = [ModelRequest(f"voice-{n}", footprint=_FOOTPRINT) for n in range(voices)]
        self._workers = {f"worker-{n}": Worker(f"worker-{n}", places) for n in range(workers)}
        self._view = Reports(dead_after_s=math.inf)
        self._in_turn = cycle(self._workers)
        self._events: list[tuple[float, int, str, Worker, object]] = []
        self._numbers = count()
        self._lengths: dict[int, float] = {}

    def run(self, seconds: float, rate: float, night: float = 1.0) -> Met:
        """Play so many seconds of calls, from midnight on; `night` is as in `Workload`."""
        hours = seconds / 3_600
        workload = Workload(
            len(self._requests), rate, hours, zipf=1.0, night=night, speech_s=SPEECH_S
        )
        trace = generate(workload)
        by_rank = np.argsort(-np.bincount(trace.model, minlength=len(self._requests)))
        self._begin(by_rank.tolist())
        calls = list(
            zip(trace.at.tolist(), trace.model.tolist(), trace.speech_s.tolist(), strict=True)
        )
        # One that hardly anybody asks for otherwise.
        wanted, middle = int(by_rank[len(by_rank) // 20]), seconds / 2
        gap = _HERD_S / max(1, self.plan.herd)
        calls += [(middle + n * gap, wanted, SPEECH_S) for n in range(self.plan.herd)]
        calls.sort()
        is_first_half = True
        for number, (at, voice, length) in enumerate(calls):
            if is_first_half and at >= middle:
                is_first_half = False
                self._advance(middle)
                self._lose(middle)
            self._advance(at)
            self._lengths[number] = length
            self._call(number, voice, at)
            if self.plan.herd and middle <= at <= middle + 2 * _HERD_S:
                name = self._requests[wanted].model_id
                copies = sum(w.ledger.get(name) is not None for w in self._workers.values())
                self.met.herd_copies = max(self.met.herd_copies, copies)
        return self.met

    def _begin(self, by_rank: list[int]) -> None:
        """Give each of the voices that fit one home, and have every worker report."""
        workers = list(self._workers.values())
        room = sum(worker.places for worker in workers)
        for place, voice in enumerate(by_rank[:room]):
            ledger = workers[place % len(workers)].ledger
            ledger.request(self._requests[voice], "start", 0.0)
            resident = ledger.get(self._requests[voice].model_id)
            assert resident is not None
            ledger.loaded(resident, True, 0.0)
            ledger.release(resident.model_id, "start", 0.0)
        for worker in workers:
            self._view.update(worker.name, worker.report(0.0), 0.0)

    def _lose(self, now: float) -> None:
        if self.plan.new_router:
            self._view = Reports(dead_after_s=math.inf)
            # All of them report once in a period, changed or not.
            for worker in self._workers.values():
                self._changed(worker, now)
        for worker in list(self._workers.values())[: round(self.plan.lost * len(self._workers))]:
            worker.lost = True
            self._view.lost(worker.name)

    def _call(self, number: int, voice: int, now: float) -> None:
        request = self._requests[voice]
        before = time.process_time()
        # Who has heard of no worker asks one after another.
        name = next(iter(rank(self._view, request.model_id, now, 1)), None) or next(self._in_turn)
        if self.plan.remembers:
            self._view.picked(name, request.model_id, now)
        self.met.router_s += time.process_time() - before
        self.met.calls += 1
        worker = self._workers[name]
        resident = worker.ledger.hit(request.model_id, number, now)
        if resident is None:
            _, decisions = worker.ledger.request(request, number, now)
            self._carry_out(worker, decisions, now)
        else:
            self.met.at_home += 1
            self._speak(worker, resident, number, 0.0, now)
        self._changed(worker, now)

    def _speak(
        self, worker: Worker, resident: Resident, number: int, waited: float, now: float
    ) -> None:
        self.met.waits.append(waited)
        worker.speaking += 1
        self.met.beyond_cores += worker.speaking * _SHARE > 1
        self.met.most_in_flight = max(self.met.most_in_flight, worker.speaking)
        end = now + self._lengths[number]
        heappush(self._events, (end, next(self._numbers), "end", worker, (resident, number)))

    def _changed(self, worker: Worker, now: float) -> None:
        """Have a worker report at its next time; what has not changed need not be said again."""
        if worker.reports_at == math.inf:
            period = self.plan.period_s
            worker.reports_at = (math.floor(now / period) + 1) * period if period else now
            at = worker.reports_at
            heappush(self._events, (at, next(self._numbers), "report", worker, None))
        due = worker.ledger.next_due()
        if due < worker.ticks_at:
            worker.ticks_at = due
            heappush(self._events, (due, next(self._numbers), "tick", worker, None))

    def _advance(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            at, _, kind, worker, what = heappop(self._events)
            ledger = worker.ledger
            match kind, what:
                case "report", _:
                    worker.reports_at = math.inf
                    if not worker.lost:
                        made = worker.report(at), at
                        arrives = at + _DELAY_S
                        heappush(self._events, (arrives, next(self._numbers), "seen", worker, made))
                    continue
                case "seen", (WorkerReport() as report, float() as made_at):
                    before = time.process_time()
                    self._view.update(worker.name, report, at, made_at=made_at)
                    self.met.router_s += time.process_time() - before
                    self.met.reports += 1
                    continue
                case "tick", _:
                    worker.ticks_at = math.inf
                    self._carry_out(worker, ledger.tick(at), at)
                case "end", (Resident() as resident, number):
                    worker.speaking -= 1
                    if self.plan.remembers:
                        self._view.finished(worker.name, resident.model_id, at)
                    self._carry_out(worker, ledger.release(resident.model_id, number, at) or (), at)
                case "model", Resident() as resident if resident.state is State.LOADING:
                    self._carry_out(worker, ledger.loaded(resident, True, at), at)
                case "model", Resident() as resident:
                    self._carry_out(worker, ledger.gone(resident, at), at)
            self._changed(worker, at)

    def _carry_out(self, worker: Worker, decisions: Iterable[Decision], now: float) -> None:
        for decision in decisions:
            match decision:
                case Load(resident) | Unload(resident):
                    loads = isinstance(decision, Load)
                    self.met.loads += loads
                    end = now + (_LOAD_S if loads else 0.0)
                    heappush(self._events, (end, next(self._numbers), "model", worker, resident))
                case Granted(ticket, resident):
                    assert isinstance(ticket.owner, int)
                    self._speak(worker, resident, ticket.owner, now - ticket.since, now)
                case Refused():
                    self.met.refused += 1


PLANS = (
    Plan("reports at once", 0.0),
    Plan("reports every 0.5 s", 0.5),
    Plan("every 5 s", 5.0),
    Plan("every 30 s", 30.0),
    Plan("every 5 s, picks not remembered", 5.0, remembers=False),
    Plan("every 30 s, picks not remembered", 30.0, remembers=False),
    Plan("every 0.5 s, a herd", 0.5, herd=2_000),
    Plan("every 5 s, a herd", 5.0, herd=2_000),
    Plan("every 5 s, a herd, picks not remembered", 5.0, remembers=False, herd=2_000),
    Plan("every 0.5 s, a third of the workers lost", 0.5, lost=1 / 3),
    Plan("every 0.5 s, a new router", 0.5, new_router=True),
    Plan("every 5 s, a new router", 5.0, new_router=True),
    Plan("every 0.5 s, a new router in a herd", 0.5, new_router=True, herd=2_000),
    Plan("every 5 s, a new router in a herd", 5.0, new_router=True, herd=2_000),
)


def main() -> None:
    """Print a line of Markdown for each plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--voices", type=int, default=10_000)
    parser.add_argument("--places", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--calls", type=float, default=1e6, help="a day")
    parser.add_argument("--night", type=float, default=1.0, help="midnight's rate, noon's being 1")
    parser.add_argument("--plan", action="append", choices=[plan.name for plan in PLANS])
    given = parser.parse_args()
    print(
        "| | calls | found their voice | loads | wait p99 | longest | refused | most at one worker "
        "| beyond its cores | copies for the herd | router, µs a call |"
    )
    print("|---|" + "--:|" * 10)
    for plan in PLANS:
        if given.plan and plan.name not in given.plan:
            continue
        cluster = Cluster(plan, given.workers, given.voices, given.places)
        met = cluster.run(given.minutes * 60, given.calls / 86_400, given.night)
        waits = np.sort(met.waits)
        cells = (
            f"{met.calls:,}",
            f"{met.at_home / met.calls:.2%}",
            f"{met.loads:,}",
            f"{waits[math.ceil(0.99 * len(waits)) - 1]:.2f} s",
            f"{waits[-1]:.2f} s",
            f"{met.refused:,}",
            f"{met.most_in_flight:,}",
            f"{met.beyond_cores:,}",
            f"{met.herd_copies}" if plan.herd else "",
            f"{met.router_s / met.calls * 1e6:.0f}",
        )
        print(f"| {plan.name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
