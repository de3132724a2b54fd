"""Who computes next: the stream whose listener would fall silent first. Pure decisions.

Time comes in as an argument and decisions go out as values; nothing here knows a clock, a thread or
an event loop. Every step of a stream (an engine's text stage, a piece of decoding, an uncuttable
engine's whole sentence) is a job of one core, and a step that has begun cannot be interrupted.

Three questions are answered here.

1. *Who is next* when a core is free: earliest deadline first (Liu and Layland, 1973), the optimal
   order on one core. A listener who hears something has its playback clock as deadline, less the
   step itself, as the first of a sentence takes several times as long as others; a stream that
   nobody hears yet has its arrival plus a target. Such a stream goes first only while all who
   hear something can afford it, and a stream that has been late for long is served now and then
   and not always first, so that one which cannot be kept up takes nobody with it.
2. *May this stream be heard from now on*: whether what is made of it lasts, beside all others,
   until more is made. Else it is made a little further first.
3. *May one more stream begin*: whether all of them can be kept up to their ends.

2 and 3 are the processor demand test (Baruah, Rosier and Howell, 1990): for every moment to come,
what is due by then must fit on the cores. What a stream owes is taken as its next step, due when
its listener would fall silent, and from then on as a flow at the rate of its cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

TARGET_S = 0.25
"""After its arrival a stream's first audio is due."""

USABLE = 0.9
"""Of the cores: the rest is for the event loop, encoding, and costs that are not as learned."""

_LATE_S = 0.2
"""A listener who has been silent for longer is late: no longer first, but served now and then."""

_TURN_S = 0.5
"""A late stream is as urgent as one that falls silent so long after the late one's last step."""

_STARVED_S = 2.0
"""So often one step goes to the streams that nobody hears yet, whoever falls silent meanwhile."""

_LONG_S = 0.4
"""Steps that take longer leave one core to those who hear something and have shorter ones."""

_SOON_S = 1.0
"""When a stream that is still to be heard is taken to begin, if it is asked whether it fits."""

_RETRY_S, _LEAST_RETRY_S, _MOST_RETRY_S = 5.0, 0.5, 60.0
"""When to try again where no end is known; and the bounds of what is known."""

_RESERVE_S = 0.1
"""Of a core: kept when a stream joins others that are heard, for what takes longer than learned."""

_MARGIN = 1.5
"""What is made must last so many times as long as a step takes."""


class Cost(Protocol):
    """What is known of the cost of a model's speech, in seconds of a core."""

    overdue: int
    """How many steps of the model run for so much longer than usual that they may hang."""

    @property
    def rate(self) -> float:
        """For one second of audio."""

    @property
    def step_s(self) -> float:
        """Of a step within a sentence."""

    @property
    def first_s(self) -> float:
        """Of the first step of a sentence."""

    def step_within(self, ahead_s: float) -> float:
        """Of a step within a sentence whose listener has `ahead_s` seconds left to hear."""


@dataclass(slots=True, eq=False)
class StreamState:
    """What the scheduler knows of one stream; its owner keeps it up to date."""

    cost: Cost
    arrived: float
    heard: bool = False
    """Whether its listener hears it: what it was given first has been handed over."""
    due: float = math.inf
    """When its listener falls silent, unless more is made; only for one that hears it."""
    left_s: float = math.inf
    """Seconds of audio that are still to be made; infinite while its text is open."""
    resting: bool = False
    """Whether nothing need be made for it: it is paused, or has two seconds waiting."""
    wants_text: bool = False
    """Whether it has nothing to say until more text comes, which may be at any moment."""
    begins: bool = True
    """Whether its next step is the first of a sentence."""
    served: float = -math.inf
    """When its last step ended."""
    running_since: float | None = None
    """When its step that runs has begun."""
    urged_by: Callable[[], float] | None = None
    """Says when the most urgent of those who wait for a turn that this one holds needs it."""

    @property
    def next_step_s(self) -> float:
        """Seconds that its next step takes."""
        return self.cost.first_s if self.begins else self.cost.step_s

    @property
    def is_running(self) -> bool:
        """Whether a step of it runs."""
        return self.running_since is not None

    def step_left_s(self, now: float) -> float:
        """Return the seconds that its next step takes, or that the one which runs has left."""
        since = self.running_since
        takes = self.next_step_s
        if self.heard and not self.begins:
            takes = self.cost.step_within(max(0.0, self.due - now))
        return max(0.0, takes - (0.0 if since is None else now - since))

    @property
    def is_long(self) -> bool:
        """Whether its next step keeps a core for long."""
        return self.next_step_s > _LONG_S

    @property
    def is_slow(self) -> bool:
        """Whether it costs more than a core, and so is never kept up for long."""
        return self.cost.rate > USABLE

    def deadline(self, now: float) -> float:
        """Return when its next step is to begin at the latest: the smaller, the more urgent."""
        if not self.heard:
            own = self.arrived + TARGET_S
        elif now - self.due <= _LATE_S:
            own = self.due - self.step_left_s(now)
        else:
            own = max(self.due, self.served) + _TURN_S
        return own if self.urged_by is None else min(own, self.urged_by())


@dataclass(frozen=True, slots=True)
class _Debt:
    """What one stream owes: nothing before `at`, then `step`, and from there on `rate` a second."""

    at: float
    step: float
    rate: float
    total: float

    @property
    def end(self) -> float:
        """When all of it is due."""
        return self.at + max(0.0, self.total - self.step) / self.rate if self.rate else self.at


def spare_time(debts: Iterable[_Debt], cores: int, taken: float = 0.0) -> float:
    """Return how many seconds of a core can be given away without a debt being paid late.

    `taken` is work that comes before all of it. Negative when not all can be paid in time, infinite
    where nothing is owed. The sum of the debts jumps where one begins and grows along straight
    lines elsewhere, so only the moments are looked at where one begins or ends.
    """
    usable = USABLE * cores
    events = []
    for debt in debts:
        events.append((debt.at, debt.step, debt.rate))
        if not math.isinf(debt.total):
            events.append((debt.end, 0.0, -debt.rate))
    least = math.inf
    owed = flow = before = 0.0
    for moment, step, rate in sorted(events):
        owed += flow * (moment - before) + step
        flow += rate
        before = moment
        least = min(least, usable * moment - owed)
    if flow > usable * (1 + 1e-9):  # those without an end cannot be kept up for ever
        return -math.inf
    return least - taken


@dataclass(slots=True)
class Scheduler:
    """The streams of one manager, and the order in which their steps are run."""

    streams: dict[StreamState, None] = field(default_factory=dict)
    """Those that are admitted and have not been made to their end."""
    _unheard_served: float = -math.inf
    """When one that nobody hears yet was last chosen."""

    def enter(self, stream: StreamState) -> None:
        """Admit a stream."""
        self.streams[stream] = None

    def leave(self, stream: StreamState) -> None:
        """Forget a stream: all of it is made, or nobody wants it any more."""
        self.streams.pop(stream, None)

    def next(self, ready: Sequence[StreamState], cores: int, now: float) -> StreamState | None:
        """Return which of those that have a step to run is next; `None` when none may."""
        chosen = self._choose(ready, cores, now)
        if chosen is not None and not chosen.heard:
            self._unheard_served = now
        return chosen

    def _choose(self, ready: Sequence[StreamState], cores: int, now: float) -> StreamState | None:
        ready = [stream for stream in ready if self.may_run(stream, cores)]
        heard = [stream for stream in ready if stream.heard]
        unheard = [stream for stream in ready if not stream.heard]

        def urgency(stream: StreamState) -> float:
            return stream.deadline(now)

        if not heard or not unheard:
            return min(ready, key=urgency, default=None)
        silent_next, newest = min(heard, key=urgency), min(unheard, key=urgency)
        if now - max(newest.arrived, self._unheard_served) > _STARVED_S:
            return newest
        if urgency(newest) > urgency(silent_next):
            return silent_next
        spare = self.slack(cores, now) - _RESERVE_S
        return newest if spare >= newest.next_step_s else silent_next

    def may_run(self, stream: StreamState, cores: int) -> bool:
        """Whether its next step leaves a core to those that it could keep waiting for long."""
        if stream.is_long and not self._may_take_long(cores):
            return False
        return not stream.cost.overdue or self._may_take_hanging(cores)

    def _may_take_long(self, cores: int) -> bool:
        """Whether one more long step leaves a core to those that have short ones."""
        long = sum(stream.is_long for stream in self.streams if stream.is_running)
        if cores < 2 or long < cores - 1:
            return True
        return not any(s.heard and not s.resting and not s.is_long for s in self.streams)

    def _may_take_hanging(self, cores: int) -> bool:
        """Whether one more step of a model that may hang leaves a core to the other models."""
        running = sum(bool(s.cost.overdue) for s in self.streams if s.is_running)
        return running < max(1, cores - 1)

    def slack(
        self, cores: int, now: float, *, but: StreamState | None = None, also: Iterable[_Debt] = ()
    ) -> float:
        """Return how many seconds of a core are to spare before a listener falls silent.

        `but` is left out; `also` is owed besides. Those that are late already cannot be helped, and
        are left out as well. May be asked from any thread: what it finds is then a moment old.
        """
        streams = [stream for stream in list(self.streams) if stream is not but]
        debts = [self._debt(stream, now) for stream in streams if self._counts(stream, now)]
        taken = sum(s.step_left_s(now) for s in streams if s.is_running and not s.heard)
        return spare_time([*debts, *also], cores, taken)

    @staticmethod
    def _counts(stream: StreamState, now: float) -> bool:
        if not stream.heard or stream.resting:
            return False
        return stream.wants_text or now - stream.due <= _LATE_S

    @staticmethod
    def _debt(stream: StreamState, now: float) -> _Debt:
        step = stream.step_left_s(now)
        total = stream.cost.rate * stream.left_s
        at = max(TARGET_S if stream.wants_text else 0.0, stream.due - now)
        return _Debt(at, min(step, total), stream.cost.rate, total)

    def may_be_heard(self, stream: StreamState, made_s: float, cores: int, now: float) -> bool:
        """Whether `made_s` seconds, handed over now, last until more is made, beside all others."""
        cost = stream.cost
        step = cost.step_within(made_s)
        if made_s < _MARGIN * step:
            return False
        total = cost.rate * stream.left_s
        own = _Debt(made_s, min(step, total), cost.rate, total)
        others = any(s.heard and s is not stream for s in list(self.streams))
        reserve = _RESERVE_S if others else 0.0
        return self.slack(cores, now, but=stream, also=(own,)) >= reserve

    def may_begin(self, stream: StreamState, cores: int, now: float) -> bool:
        """Whether one more stream can be kept up beside all that are admitted, to their ends.

        Of those that cost more than a core, which none can keep up once they are late, as many may
        speak as there are cores: more make each later, and none is done sooner.
        """
        if stream.is_slow and sum(s.is_slow and not s.resting for s in self.streams) >= cores:
            return False
        return self._whole(stream, cores, now) >= 0.0 or all(s.resting for s in self.streams)

    def next_to_begin(
        self, line: Iterable[StreamState], cores: int, now: float
    ) -> StreamState | None:
        """Return which of those in line begins now: the first, or none while it cannot.

        One that costs more than a core and waits for another of that kind is passed by those that
        cost less: else everyone waited for what is never kept up.
        """
        slow_wait = False
        for stream in line:
            if not (slow_wait and stream.is_slow):
                if self.may_begin(stream, cores, now):
                    return stream
                if not stream.is_slow or not self._has_slow():
                    return None
                slow_wait = True
        return None

    def _has_slow(self) -> bool:
        return any(s.is_slow and not s.resting for s in self.streams)

    def _whole(self, stream: StreamState, cores: int, now: float) -> float:
        """Return the slack if all that are admitted, and `stream`, were heard soon."""
        others = [other for other in self.streams if self._is_to_come(other, now)]
        also = [self._debt_of_unheard(other) for other in (*others, stream)]
        return self.slack(cores, now, also=also)

    def _is_to_come(self, stream: StreamState, now: float) -> bool:
        """Whether a stream that `slack` leaves out is to be kept up all the same, before long.

        That holds for one that is late and can catch up: else each that is late would make room for
        one more, which would be late as well. One that costs more than a core never catches up.
        """
        if stream.resting or self._counts(stream, now):
            return False
        return not stream.heard or not stream.is_slow

    @staticmethod
    def _debt_of_unheard(stream: StreamState) -> _Debt:
        total = max(stream.cost.first_s, stream.cost.rate * stream.left_s)
        at = _SOON_S + 2 * stream.cost.first_s
        return _Debt(at, stream.cost.first_s, stream.cost.rate, total)

    def retry_after(self, now: float) -> float:
        """Return in how many seconds one of those that are heard has been made, at the latest."""
        ends = [max(0.0, s.due - now) + s.left_s for s in self.streams if s.heard]
        soonest = min(ends, default=math.inf)
        if math.isinf(soonest):
            return _RETRY_S
        return min(max(soonest, _LEAST_RETRY_S), _MOST_RETRY_S)

    def sharers(self, stream: StreamState) -> int:
        """Return how many streams `stream` shares the cores with, itself included."""
        streams = list(self.streams)
        return sum(s.heard and not s.resting for s in streams) if stream.heard else len(streams)

    def used(self, cores: int) -> float:
        """Return the share of the cores that the admitted streams need to be kept up.

        Above 1 it is more than there is.
        """
        need = sum(
            stream.cost.rate
            for stream in self.streams
            if not stream.resting and stream.left_s > 0.0
        )
        return need / (USABLE * cores)
