"""Streams on cores without time passing: the scheduler decides, listeners hear, gaps count."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from greenroom.speech.playback import PlaybackClock
from greenroom.speech.scheduler import Scheduler, StreamState

Choose = Callable[[Sequence[StreamState], int, float], StreamState | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an engine."""

    takes: float
    """Seconds of a core."""
    audio: float
    """Seconds of audio that it makes."""
    begins: bool = False
    """Whether it is the first of a sentence."""


@dataclass(slots=True)
class KnownCost:
    """A cost as it is, or as it is thought to be."""

    rate: float
    step_s: float
    first_s: float
    overdue: int = 0

    def step_within(self, ahead_s: float) -> float:
        return self.step_s


def cost_of(steps: Sequence[Step], *, times: float = 1.0) -> KnownCost:
    """Return what these steps cost on average; `times` as much where the belief is wrong."""
    later = [step.takes for step in steps if not step.begins] or [steps[0].takes]
    first = [step.takes for step in steps if step.begins] or later
    rate = sum(step.takes for step in steps) / sum(step.audio for step in steps)
    return KnownCost(rate * times, max(later) * times, max(first) * times)


@dataclass(slots=True, eq=False)
class Speech:
    """One stream of the simulation, and what its listener met."""

    arrives: float
    steps: list[Step]
    cost: KnownCost
    state: StreamState = field(init=False)
    clock: PlaybackClock = field(default_factory=PlaybackClock)
    first_audio: float = math.inf
    ended: float = math.inf
    admitted: float = math.inf
    _held_s: float = 0.0
    _done: int = 0

    def __post_init__(self) -> None:
        self.state = StreamState(self.cost, self.arrives, left_s=self.left_s)

    @property
    def left_s(self) -> float:
        return sum(step.audio for step in self.steps[self._done :])

    @property
    def next_step(self) -> Step | None:
        return self.steps[self._done] if self._done < len(self.steps) else None

    def made(self, scheduler: Scheduler, cores: int, now: float) -> None:
        """Count the step that ended, and hand its audio over if it lasts."""
        step = self.steps[self._done]
        self._done += 1
        state = self.state
        state.left_s = self.left_s
        state.running_since, state.served = None, now
        following = self.next_step
        state.begins = following is not None and following.begins
        if state.heard:
            self.clock.come(now, -math.inf)
            self.clock.take(step.audio, now)
        else:
            self._held_s += step.audio
            if following is None or scheduler.may_be_heard(state, self._held_s, cores, now):
                state.heard = True
                self.first_audio = now
                self.clock.take(self._held_s, now)
        state.due = self.clock.due(now, 0.0)
        if following is None:
            self.ended = now
            scheduler.leave(state)


def simulate(
    speeches: Sequence[Speech],
    *,
    cores: int,
    taken_away: float = math.inf,
    choose: Callable[[Scheduler], Choose] = lambda scheduler: scheduler.next,
    hold: bool = True,
    admit: bool = True,
) -> None:
    """Run all to their ends; without `hold` the first audio is handed over at once.

    At the time `taken_away` one core is.
    """
    scheduler = Scheduler()
    order = choose(scheduler)
    by_state = {speech.state: speech for speech in speeches}
    numbers = itertools.count()
    events: list[tuple[float, int, Speech, bool]] = [
        (speech.arrives, next(numbers), speech, False) for speech in speeches
    ]
    heapq.heapify(events)
    ready: list[StreamState] = []
    line: list[Speech] = []
    idle = cores
    all_cores = cores
    while events:
        now, _, speech, ended = heapq.heappop(events)
        if now >= taken_away and cores == all_cores:
            cores, idle = cores - 1, idle - 1
        if ended:
            idle += 1
            speech.made(scheduler, cores if hold else 10**9, now)
            if speech.next_step is not None:
                ready.append(speech.state)
        else:
            line.append(speech)
        while line:
            waiting = [each.state for each in line]
            first = scheduler.next_to_begin(waiting, cores, now) if admit else waiting[0]
            if first is None:
                break
            begun = by_state[first]
            line.remove(begun)
            begun.admitted = now
            scheduler.enter(first)
            ready.append(first)
        while idle > 0 and (chosen := order(ready, cores, now)) is not None:
            ready.remove(chosen)
            idle -= 1
            chosen.running_since = now
            running = by_state[chosen]
            assert running.next_step is not None
            heapq.heappush(events, (now + running.next_step.takes, next(numbers), running, True))
    assert not ready, "a stream was never served"
    assert not line, "a stream was never admitted"
