"""Callers who play what they get at real time and ask again when they have heard all.

All callers are tasks of one event loop; what they hear is worked out from when each piece came,
once the last has come, so that they take little of the processor from the server beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psutil

from benchmarks.audience import when_again
from benchmarks.listener import Listener
from benchmarks.playback import Piece, Played, play
from benchmarks.rounds import Stopwatch
from benchmarks.ticker import percentile

TEXT = (
    "The green room is where a voice waits until it is called. "
    "It has read its lines, and nobody has to wait for it."
)
"""Two sentences."""

SPEECH_S = 5.7
"""About how long the real voice speaks them."""

RATE = 24_000
"""Hz that callers of Greenroom get who do not ask for another."""

_PATIENCE_S = 60.0
_SEED = 10

Say = Callable[[str, str], Awaitable[Sequence[Piece]]]
"""Has a voice speak a text and returns what came.

Raises `RefusedError`, and `OSError` or `ValueError` for whatever else goes wrong.
"""


class RefusedError(Exception):
    """A server did not take a speech, and said what is wrong and when to ask again."""

    def __init__(self, code: str, retry_after: float) -> None:
        super().__init__(code)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Spoken:
    """One speech of one caller."""

    caller: int
    voice: str
    asked: float
    """Seconds from the begin of the run."""
    pieces: tuple[Piece, ...]
    """With times from asking first; refusals and their waits are in them."""
    played: Played


@dataclass(slots=True)
class Run:
    """What so many callers met."""

    callers: int
    speeches: list[Spoken] = field(default_factory=list)
    """In the order in which they ended."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Typed ones, by their code."""
    errors: Counter[str] = field(default_factory=Counter)
    """Everything else; each has ended one caller."""
    seconds: float = 0.0
    """From the first asking to the last piece."""
    processor: float = 0.0
    """Seconds that the server's process computed meanwhile, on all cores together."""
    all_there: tuple[float, float] | None = None
    """From when to when all callers played and asked again; `None` where they do not play."""

    @property
    def audio(self) -> float:
        """Seconds of audio in all."""
        return sum(spoken.played.audio for spoken in self.speeches)

    @property
    def stuttering(self) -> int:
        """Speeches with a gap that is heard."""
        return sum(spoken.played.stutters for spoken in self.speeches)

    @property
    def late(self) -> float:
        """Seconds of silence in all speeches."""
        return sum(spoken.played.late for spoken in self.speeches)

    @property
    def rate(self) -> float:
        """Audio seconds per second: heard while all callers were there, or received without a rest.

        The former cannot be more than there are callers.
        """
        if self.all_there is None:
            return self.audio / self.seconds
        since, until = self.all_there
        return sum(_heard(spoken, since, until) for spoken in self.speeches) / (until - since)

    @property
    def delivered(self) -> float:
        """Audio seconds received per second while all callers were there.

        A server works ahead of those who play, so this is more than what they hear.
        """
        since, until = self.all_there or (0.0, self.seconds)
        pieces = (
            piece.seconds
            for spoken in self.speeches
            for piece in spoken.pieces
            if since < spoken.asked + piece.at <= until
        )
        return sum(pieces) / (until - since)

    @property
    def processor_per_audio(self) -> float:
        """Seconds that the server computed for a second of audio."""
        return self.processor / self.audio if self.audio else math.inf

    def first(self, percent: float) -> float:
        """Return the percentile of the seconds to the first audio; infinite if none came."""
        if not self.speeches:
            return math.inf
        return percentile([spoken.played.first for spoken in self.speeches], percent)


async def talk(
    say: Say,
    text: str,
    voices: Sequence[str],
    callers: int,
    seconds: float,
    *,
    pid: int,
    at_once: bool = False,
    pause_s: float | None = None,
) -> Run:
    """Have callers ask, play and ask again for so long; each hears its last speech to its end.

    They come at random over the length of one speech, or all `at_once`; each has one of the voices,
    in turn. With `pause_s` they do not play, but rest so long after each speech. `pid` is the
    server's process.
    """
    crowd = _Crowd(Run(callers), say, text, until=seconds)
    spread = 0.0 if at_once else min(SPEECH_S, 0.9 * seconds)
    begins = arrivals(callers, spread)

    async def call(number: int) -> None:
        await asyncio.sleep(begins[number])
        while spoken := await crowd.hear(number, voices[number % len(voices)]):
            now = crowd.watch.read()
            again = spoken.asked + spoken.played.end if pause_s is None else now + pause_s
            if again >= seconds:
                break
            await asyncio.sleep(again - now)

    if pause_s is None:
        crowd.run.all_there = (spread, seconds)
    async with crowd.measured(pid):
        await asyncio.gather(*(call(number) for number in range(callers)))
    return crowd.run


async def work(
    say: Say, text: str, voices: Sequence[str], callers: int, speeches: int, *, pid: int
) -> Run:
    """Have callers ask again as soon as they have everything, so many speeches in all."""
    crowd = _Crowd(Run(callers), say, text)
    left = iter(range(speeches))

    async def call(number: int) -> None:
        for _ in left:
            if not await crowd.hear(number, voices[number % len(voices)]):
                break

    async with crowd.measured(pid):
        await asyncio.gather(*(call(number) for number in range(callers)))
    return crowd.run


def arrivals(callers: int, spread: float) -> list[float]:
    """Return when each caller comes: the first at once, the others at random, always the same."""
    choice = random.Random(_SEED)
    drawn = [choice.uniform(0.0, spread) for _ in range(callers)]
    return [each - min(drawn) for each in drawn]


def over_http(port: int) -> Say:
    """Return how speech is asked for over HTTP, with a connection for each speech."""

    async def say(text: str, voice: str) -> Sequence[Piece]:
        async with Listener(port) as listener:
            heard = await listener.say(text, voice)
        if heard.status != 200:
            again = when_again(heard)
            if again is None:
                raise ValueError(f"{heard.status}, not typed")
            code = json.loads(heard.body)["error"]["code"]
            raise RefusedError(f"{heard.status} {code}", again)
        rate = int(heard.headers["x-sample-rate"])
        return [
            Piece(at, len(piece) / 2 / rate)
            for at, piece in zip(heard.arrivals, heard.pieces, strict=True)
        ]

    return say


def _heard(spoken: Spoken, since: float, until: float) -> float:
    """Return the seconds of audio of a speech that were heard then, its gaps spread over it."""
    played = spoken.played
    begin, end = spoken.asked + played.first, spoken.asked + played.end
    share = played.audio / (end - begin)
    return max(0.0, min(end, until) - max(begin, since)) * share


class _Crowd:
    """The callers of one run."""

    def __init__(self, run: Run, say: Say, text: str, *, until: float = math.inf) -> None:
        """Who is refused asks no more after `until`."""
        self.run = run
        self.watch = Stopwatch()
        self._say = say
        self._text = text
        self._until = until

    @contextlib.asynccontextmanager
    async def measured(self, pid: int) -> AsyncIterator[None]:
        """Take the time of what is done inside, and the server's."""
        gc.collect()
        before = processor_seconds(pid)
        self.watch = Stopwatch()
        yield
        self.run.seconds = self.watch.read()
        self.run.processor = processor_seconds(pid) - before

    async def hear(self, caller: int, voice: str) -> Spoken | None:
        """Have one speech, however often it is refused; `None` if there is none."""
        asked = self.watch.read()
        while True:
            before = self.watch.read() - asked
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    pieces = await self._say(self._text, voice)
                waited = tuple(Piece(before + at, seconds) for at, seconds in pieces)
                spoken = Spoken(caller, voice, asked, waited, play(waited))
            except RefusedError as refusal:
                self.run.refusals[str(refusal)] += 1
                if self.watch.read() + refusal.retry_after > self._until:
                    return None
                await asyncio.sleep(refusal.retry_after)
            except (OSError, ValueError) as error:  # a timeout is an OSError
                self.run.errors[str(error) or type(error).__name__] += 1
                return None
            else:
                self.run.speeches.append(spoken)
                return spoken


def processor_seconds(pid: int) -> float:
    """Return what a process and its threads have computed so far, to a hundredth of a second."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
