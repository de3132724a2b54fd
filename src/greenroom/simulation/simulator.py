"""Plays a trace against the ledger that serves, under a virtual clock.

What the effects do in a worker takes no time here but for what the trace says: a load, an unload,
a speech. All else is decided by `ledger/`, called as the effects call it. A speech holds its model
from the moment it has it; how speeches share the cores, and so when a first word is heard, is not
simulated. Callers that were refused do not ask again.

A day has millions of requests, nearly all of which find their model ready. So when they end is not
kept in a heap: it is known beforehand, and arrivals and ends are sorted once. And the ledger is
told of their stream only where that could change a decision, which is while callers wait: then the
end of a stream may bring a turn forward. A test plays the same traces the long way.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

import numpy as np

from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Granted,
    Load,
    ModelRequest,
    Policy,
    Reason,
    Refused,
    Resident,
    Unload,
)
from greenroom.simulation.outcome import Outcome, jain, wait_percentiles
from greenroom.simulation.trace import Trace

_CHUNK = 1 << 16
"""Requests that are Python's own numbers at a time; a day of them would take a gigabyte."""

_ENDLESS: tuple[float, int, Resident | None, float] = (math.inf, -1, None, 0.0)
"""Keeps the heap of events from being empty."""


def simulate(trace: Trace, policy: Policy) -> Outcome:
    """Return what the requests of a trace would have met under a policy."""
    return Simulator(trace, policy).run()


class Simulator:
    """One play of one trace; used once."""

    def __init__(self, trace: Trace, policy: Policy) -> None:
        self.ledger = Residency(policy)
        self._trace = trace
        self._requests = [
            ModelRequest(model.model_id, model.device, model.footprint) for model in trace.models
        ]
        self._index = {model.model_id: number for number, model in enumerate(trace.models)}
        self._loads = [0] * len(trace.models)
        # Of loads, unloads and those speeches that did not begin at once, when each ends. A speech
        # has the number of its request; a higher one is a load or an unload, by its resident.
        self._events = [_ENDLESS]
        self._begins_later = bytearray((trace.at + trace.speech_s <= trace.at).tobytes())
        """Of each request, whether its end is among the events: with a length of 0, too, as it
        would be sorted before its arrival."""
        self._number = len(trace)
        self._due = math.inf
        self._waits = array("d")
        """Of those that were not served at once."""
        self._refused: Counter[str] = Counter()
        self._refused_by_model = [0] * len(trace.models)
        self._booked = _Level()
        self._count = _Level()

    def run(self) -> Outcome:
        """Play the whole trace, until the last speech has ended."""
        self._begin()
        self._arrive()
        end = self._trace.seconds
        memory = self._booked.mean(end), self._booked.most
        residents = self._count.mean(end), int(self._count.most)
        self._run_until(math.inf)
        return self._outcome(memory, residents)

    def _begin(self) -> None:
        """Bring into memory, and pin, what a worker had there when the trace was begun."""
        for model in self._trace.pinned:
            self._carry_out(self.ledger.pin(self._requests[model].model_id, 0.0), 0.0)
        for model in self._trace.resident:
            request = self._requests[model]
            _, decisions = self.ledger.request(request, None, 0.0)
            resident = self.ledger.get(request.model_id)
            if resident is None or not resident.loading:  # there are more than the policy allows
                continue
            ready = self.ledger.loaded(resident, True, 0.0)
            assert isinstance(decisions[-1], Load)
            assert isinstance(ready[0], Granted)
            self._carry_out(ready[1:], 0.0)
            self._carry_out(self.ledger.release(request.model_id, None, 0.0) or (), 0.0)
        self._level(0.0)

    def _arrive(self) -> None:
        """Have every request come at its time, and those end that began at once.

        The one place that is written for speed: it is passed twice for each request.
        """
        events, begins_later, queue = self._events, self._begins_later, self.ledger.queue
        hit, release, learn = self.ledger.hit, self.ledger.release, self.ledger.turns.learn_speech
        names = [model.model_id for model in self._trace.models]
        for moments in self._moments():
            for now, number, model, since in moments:
                if events[0][0] <= now or self._due <= now:
                    self._run_until(now)
                if number >= 0:
                    if hit(names[model], number, now) is None:
                        begins_later[number] = True
                        _, decisions = self.ledger.request(self._requests[model], number, now)
                        self._carry_out(decisions, now)
                    elif begins_later[number]:
                        heappush(events, (now, number, self.ledger.get(names[model]), now))
                elif not begins_later[~number]:
                    if queue.count:
                        self._end_stream(names[model], since, now)
                    else:
                        learn(now - since)
                    ended = release(names[model], ~number, now)
                    if ended is not None:
                        self._carry_out(ended, now)

    def _moments(self) -> Iterator[Iterable[tuple[float, int, int, float]]]:
        """Yield moments in order, many at a time: when, which request, its model, its arrival.

        The number of a request that ends is inverted (`~`). At the same time ends come first.
        """
        trace, count = self._trace, len(self._trace)
        at = np.concatenate((trace.at + trace.speech_s, trace.at))
        order = np.argsort(at, kind="stable")
        for first in range(0, len(order), _CHUNK):
            chunk = order[first : first + _CHUNK]
            number = chunk % count
            yield zip(
                at[chunk].tolist(),
                np.where(chunk < count, ~number, number).tolist(),
                trace.model[number].tolist(),
                trace.at[number].tolist(),
                strict=True,
            )

    def _end_stream(self, model_id: str, since: float, now: float) -> None:
        """Tell the ledger of a stream, at its end, while callers wait."""
        resident = self.ledger.get(model_id)
        assert resident is not None  # the speech holds it
        self.ledger.open_stream(resident)
        decisions = self.ledger.close_stream(resident, now, since)
        if decisions is not None:
            self._carry_out(decisions, now)

    def _run_until(self, now: float) -> None:
        """Do all that is due by `now`, but for the ends of speeches that began at once."""
        ledger, events, count = self.ledger, self._events, len(self._trace)
        while True:
            at, number, resident, since = events[0]
            if self._due < at:
                if self._due > now or math.isinf(self._due):
                    return
                due, self._due = self._due, math.inf
                self._carry_out(ledger.tick(due), due)
                continue
            if at > now or resident is None:
                return
            heappop(events)
            decisions: list[Decision] | None
            if number < count:
                self._end_stream(resident.model_id, since, at)
                decisions = ledger.release(resident.model_id, number, at)
            elif resident.loading:
                ledger.warming(resident, at - since)
                decisions = ledger.loaded(resident, True, at)
            else:
                decisions = ledger.gone(resident, at)
                self._level(at)
            if decisions is not None:
                self._carry_out(decisions, at)

    def _carry_out(self, decisions: Iterable[Decision], now: float) -> None:
        for decision in decisions:
            match decision:
                case Load(resident):
                    self._end_later(resident, now, self._next_load_s(resident))
                    self._level(now)
                case Unload(resident):
                    model = self._trace.models[self._index[resident.model_id]]
                    self._end_later(resident, now, model.unload_s)
                case Granted(ticket, resident):
                    self._waits.append(now - ticket.since)
                    number: int = ticket.owner  # type: ignore[assignment]
                    end = now + float(self._trace.speech_s[number])
                    heappush(self._events, (end, number, resident, now))
                case Refused(ticket, reason):
                    self._refused[reason.name.lower()] += 1
                    self._refused_by_model[self._index[ticket.model_id]] += 1
        self._due = self.ledger.next_due()

    def _end_later(self, resident: Resident, now: float, seconds: float) -> None:
        self._number += 1
        heappush(self._events, (now + seconds, self._number, resident, now))

    def _next_load_s(self, resident: Resident) -> float:
        model = self._index[resident.model_id]
        known = self._trace.models[model].loads_s
        self._loads[model] += 1
        return known[(self._loads[model] - 1) % len(known)]

    def _level(self, now: float) -> None:
        self._booked.change(sum(self.ledger.capacity.booked.values()), now)
        self._count.change(len(self.ledger.residents), now)

    def _outcome(self, memory: tuple[float, float], residents: tuple[float, int]) -> Outcome:
        asked = np.bincount(self._trace.model, minlength=len(self._trace.models))
        refused = np.asarray(self._refused_by_model)
        return Outcome(
            requests=len(self._trace),
            cold=len(self._waits),
            loads=sum(self._loads),
            refused=dict(self._refused),
            turns=self.ledger.departures[Reason.TURN],
            **wait_percentiles(self._waits, len(self._trace) - int(refused.sum())),
            jain=jain((asked - refused)[asked > 0] / asked[asked > 0]),
            mean_bytes=memory[0],
            most_bytes=int(memory[1]),
            mean_residents=residents[0],
            most_residents=residents[1],
        )


class _Level:
    """The mean over time, and the most, of a number that changes in steps."""

    def __init__(self) -> None:
        self.most = 0.0
        self._value = 0.0
        self._since = 0.0
        self._area = 0.0

    def change(self, value: float, now: float) -> None:
        """Note that it has another value from `now` on."""
        self._area += self._value * (now - self._since)
        self._value, self._since = value, now
        self.most = max(self.most, value)

    def mean(self, end: float) -> float:
        """Return the mean from 0 to `end`, which is not before the last change."""
        area = self._area + self._value * (end - self._since)
        return area / end if end else self._value
