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

2 and 3 are the processor demand test (`demand.py`): for every moment to come, what is due by then
must fit on the cores. What a stream owes is taken as its next step, due when its listener would
fall silent, and from then on as a flow at the rate of its cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Protocol

from greenroom.speech.demand import Debt, Demand

_first = itemgetter(0)

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


_SUM_S = 0.01
"""For so long what is owed is not summed up again: it changes by less than a step takes."""

_NOTHING = Demand({})


class Cost(Protocol):
    """What is known of the cost of a model's speech, in seconds of a core."""

    overdue: int
    """How many steps of the model run for so much longer than usual that they may hang."""

    rate: float
    """For one second of audio."""
    step_s: float
    """Of a step within a sentence."""
    first_s: float
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


@dataclass(slots=True)
class Scheduler:
    """The streams of one manager, and the order in which their steps are run."""

    streams: dict[StreamState, None] = field(default_factory=dict)
    """Those that are admitted and have not been made to their end."""
    _unheard_served: float = -math.inf
    """When one that nobody hears yet was last chosen."""
    _sums: dict[bool, tuple[float, Demand, float]] = field(default_factory=dict)
    """What is owed, when that was summed up, and the seconds that come before all of it: by whether
    it is of all that are admitted, or of those that are heard."""

    def enter(self, stream: StreamState) -> None:
        """Admit a stream."""
        self.streams[stream] = None
        self._sums = {}

    def leave(self, stream: StreamState) -> None:
        """Forget a stream: all of it is made, or nobody wants it any more."""
        self.streams.pop(stream, None)
        self._sums = {}

    def next(self, ready: Sequence[StreamState], cores: int, now: float) -> StreamState | None:
        """Return which of those that have a step to run is next; `None` when none may."""
        chosen = self._choose(ready, cores, now)
        if chosen is not None and not chosen.heard:
            self._unheard_served = now
            self._sums = {}  # its step comes before what is owed
        return chosen

    def _choose(self, ready: Sequence[StreamState], cores: int, now: float) -> StreamState | None:
        may_run = [(s.deadline(now), s) for s in ready if self.may_run(s, cores)]
        nobody = (math.inf, None)
        urgency, silent_next = min((e for e in may_run if e[1].heard), key=_first, default=nobody)
        target, newest = min((e for e in may_run if not e[1].heard), key=_first, default=nobody)
        if silent_next is None or newest is None:
            return silent_next or newest
        if now - max(newest.arrived, self._unheard_served) > _STARVED_S:
            return newest
        if target > urgency:
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

    def slack(self, cores: int, now: float, *, but: StreamState | None = None) -> float:
        """Return how many seconds of a core are to spare before a listener falls silent.

        `but` is left out. Those that are late already cannot be helped, and are left out as well.
        What is owed is summed up again when streams come, go and begin to be heard, and after 10 ms
        (measured of 64 and 500 streams: a question 6 to 30 us, a sum 0.3 and 2 ms). May be asked
        from any thread.
        """
        return self._spare(cores, now, but=but)

    def _spare(
        self,
        cores: int,
        now: float,
        *,
        but: StreamState | None = None,
        also: Debt | None = None,
        whole: bool = False,
    ) -> float:
        sums = self._sums
        summed, demand, taken = sums.get(whole) or (-math.inf, _NOTHING, 0.0)
        if not summed <= now <= summed + _SUM_S:
            demand, taken = self._sum(now, whole=whole)
            sums[whole] = (now, demand, taken)
        if but is not None and but.is_running and not but.heard:
            taken -= min(taken, but.step_left_s(now))
        return demand.spare(now, USABLE * cores, but=but, also=also) - taken

    def _sum(self, now: float, *, whole: bool) -> tuple[Demand, float]:
        """Return what is owed, by the loop's time, and the seconds that come before all of it.

        `whole` adds those that are heard soon.
        """
        debts: dict[StreamState, Debt] = {}
        taken = 0.0
        for stream in list(self.streams):
            if not stream.heard and stream.running_since is not None:
                taken += stream.step_left_s(now)
            if self._counts(stream, now):
                debts[stream] = self._debt(stream, now)
            elif whole and self._is_to_come(stream, now):
                debts[stream] = self._debt_of_unheard(stream, now)
        return Demand(debts), taken

    @staticmethod
    def _counts(stream: StreamState, now: float) -> bool:
        if not stream.heard or stream.resting:
            return False
        return stream.wants_text or now - stream.due <= _LATE_S

    @staticmethod
    def _debt(stream: StreamState, now: float) -> Debt:
        rate = stream.cost.rate
        total = rate * stream.left_s
        at = max(now + TARGET_S if stream.wants_text else now, stream.due)
        return Debt(at, min(stream.step_left_s(now), total), rate, total)

    def may_be_heard(self, stream: StreamState, made_s: float, cores: int, now: float) -> bool:
        """Whether `made_s` seconds, handed over now, last until more is made, beside all others."""
        cost = stream.cost
        step = cost.step_within(made_s)
        if made_s < _MARGIN * step:
            return False
        total = cost.rate * stream.left_s
        own = Debt(now + made_s, min(step, total), cost.rate, total)
        others = any(s.heard and s is not stream for s in list(self.streams))
        reserve = _RESERVE_S if others else 0.0
        may = self._spare(cores, now, but=stream, also=own) >= reserve
        if may:
            self._sums = {}  # it is owed from now on
        return may

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
        also = self._debt_of_unheard(stream, now)
        return self._spare(cores, now, also=also, whole=True)

    def _is_to_come(self, stream: StreamState, now: float) -> bool:
        """Whether a stream that `slack` leaves out is to be kept up all the same, before long.

        That holds for one that is late and can catch up: else each that is late would make room for
        one more, which would be late as well. One that costs more than a core never catches up.
        """
        if stream.resting:
            return False
        return not stream.heard or not stream.is_slow

    @staticmethod
    def _debt_of_unheard(stream: StreamState, now: float) -> Debt:
        rate, first_s = stream.cost.rate, stream.cost.first_s
        total = max(first_s, rate * stream.left_s)
        return Debt(now + _SOON_S + 2 * first_s, first_s, rate, total)

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
