"""A crowd of a prepared voice's listeners in virtual time, on cores that slow each other down.

What a step takes is not what was learned of it: pieces of 1.5 s were measured to take 68 ms alone
and 117 ms beside another on two virtual cores, text stages are long, and steps vary by a fifth.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from greenroom.adapters.piper.prepared.windows import (
    FIRST,
    LARGEST,
    first_size,
    least_size,
    time_limit,
)
from greenroom.speech.cost import SpeechCost, StepTaken
from greenroom.speech.pace import Pace, current_pace, paced
from greenroom.speech.playback import PlaybackClock
from greenroom.speech.scheduler import Scheduler, StreamState

FRAME_S = 256 / 22050
_TEXT_S, _RUN_S, _RATE = 0.047, 0.004, 0.0427
"""Seconds of the text stage, of any piece, and of a second of audio in it, on one core alone."""
_BESIDE = 1.65
"""How many times as long a piece takes beside another."""
_VARIES = 0.2
_WARMUP_S, _WARMUP_AUDIO_S = 0.12, 0.7


@dataclass(slots=True, eq=False)
class Talk:
    """One speech and its listener, who plays from the first audio on."""

    state: StreamState
    sentences: list[int]
    """Frames of each."""
    again_until: float = -math.inf
    """Until when its listener asks again, once all is heard."""
    clock: PlaybackClock = field(default_factory=PlaybackClock)
    held_s: float = 0.0
    made: int = 0
    """Frames of the present sentence."""

    def ahead_s(self, now: float) -> float | None:
        """Seconds that its listener has left to hear."""
        if not self.clock.started:
            return self.held_s or None
        return max(0.0, self.clock.due(now, 0.0) - now)


class Crowd:
    """One model's streams on so many cores."""

    def __init__(self, seed: int, cores: int = 2) -> None:
        self.random = random.Random(seed)
        self.cores = cores
        self.scheduler = Scheduler()
        self.cost = SpeechCost(_WARMUP_S, _WARMUP_AUDIO_S)
        self.ended: list[Talk] = []
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._line: list[Talk] = []
        self._ready: dict[StreamState, Talk] = {}
        self._idle = cores

    def arrive(self, at: float, again_until: float = -math.inf) -> None:
        """Have a listener ask for two sentences."""
        frames = [self.random.randint(240, 300), self.random.randint(200, 250)]
        left_s = sum(frames) * FRAME_S
        talk = Talk(StreamState(self.cost, at, left_s=left_s), frames, again_until)
        self._at(at, lambda now: self._line.append(talk))

    def take_core_away(self, at: float) -> None:
        """Have one core fewer from then on; a step that runs on it runs to its end."""

        def taken(now: float) -> None:
            self.cores -= 1
            self._idle -= 1

        self._at(at, taken)

    def _at(self, moment: float, then: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), then))

    def run(self) -> None:
        """Let all speak to their ends."""
        while self._events:
            now, _, happens = heapq.heappop(self._events)
            happens(now)
            line = self._line
            while line and self.scheduler.may_begin(line[0].state, self.cores, now):
                talk = line.pop(0)
                self.scheduler.enter(talk.state)
                self._ready[talk.state] = talk
            while self._idle > 0 and (chosen := self._next(now)) is not None:
                self._step(self._ready.pop(chosen), now)
        assert not self._line, "a stream was never admitted"

    def _next(self, now: float) -> StreamState | None:
        return self.scheduler.next(list(self._ready), self.cores, now)

    def _step(self, talk: Talk, now: float) -> None:
        self._idle -= 1
        talk.state.running_since = now
        ahead_s = talk.ahead_s(now)
        frames = self._frames(talk, now)
        audio_s, first = frames * FRAME_S, talk.made == 0
        alone = _RUN_S + _RATE * audio_s + (_TEXT_S + 0.017 * audio_s) * first
        beside = 1.0 if self._idle > 0 else _BESIDE
        step = StepTaken(
            seconds=alone * beside * self.random.lognormvariate(0.0, _VARIES),
            processor_s=1.0,
            helped_s=0.0,
            audio_s=audio_s,
            first=first,
            paced=True,
            ahead_s=ahead_s,
            last=talk.made + frames >= talk.sentences[0],
            full=self._idle <= 0,
        )
        self._at(now + step.seconds, lambda then: self._made(talk, frames, step, then))

    def _frames(self, talk: Talk, now: float) -> int:
        """Return the frames of the next piece, as the engine decides."""
        sharers = max(1.0, self.scheduler.sharers(talk.state) / self.cores)
        spare_s = max(0.0, self.scheduler.slack(self.cores, now, but=talk.state))
        passed = iter((0.0, _TEXT_S * _BESIDE * (talk.made == 0)))
        with paced(Pace(talk.ahead_s(now), sharers, spare_s), lambda: next(passed)):
            pace = current_pace()
        least = first_size(sharers) if pace.ahead_s is None and not talk.made else FIRST
        least = max(least, least_size(sharers, FRAME_S, self._expected))
        limit_s = time_limit(pace.ahead_s or 0.0, pace.spare_s)
        sizes = range(least, LARGEST + 1, 8)
        size = max((n for n in sizes if self._expected(n) <= limit_s), default=least)
        left = talk.sentences[0] - talk.made
        return left if left - size < FIRST else size

    @staticmethod
    def _expected(frames: int) -> float:
        return _BESIDE * (_RUN_S + _RATE * frames * FRAME_S)

    def _made(self, talk: Talk, frames: int, step: StepTaken, now: float) -> None:
        self._idle += 1
        self.cost.learn_step(step)
        talk.made += frames
        if step.last:
            talk.sentences.pop(0)
            talk.made = 0
        state = talk.state
        state.running_since, state.served = None, now
        state.begins = talk.made == 0
        state.left_s = (sum(talk.sentences) - talk.made) * FRAME_S
        talk.held_s += step.audio_s
        may = self.scheduler.may_be_heard
        if state.heard or not talk.sentences or may(state, talk.held_s, self.cores, now):
            talk.clock.come(now, -math.inf)
            talk.clock.take(talk.held_s, now)
            talk.held_s, state.heard = 0.0, True
        state.due = talk.clock.due(now, 0.0)
        if talk.sentences:
            self._ready[state] = talk
            return
        self.scheduler.leave(state)
        self.ended.append(talk)
        if state.due < talk.again_until:
            self.arrive(state.due, talk.again_until)
