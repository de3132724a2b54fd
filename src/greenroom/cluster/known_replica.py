"""One replica as a router knows it: its last report, and what was sent there and has ended since.

A report is old when it comes, by half a second and more. In the meantime a router knows better what
it did itself: which requests it sent, which of them have ended, and so which voices are on their
way, which are idle again, and which have left to make room. Pure, as `Reports` is.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from greenroom.worker.report import WorkerReport

ON_ITS_WAY_S = 2.0
"""For so long a request may be under way to a replica whose report does not show it yet."""

_MOST_ENDED = 100
"""Requests that have ended since a report of their replica; more only where none comes."""


@dataclass(slots=True)
class Pick:
    """A request that was sent to a replica."""

    voice: str
    at: float
    ready_at: float
    """When the voice is there, as it was expected."""
    ended_at: float = math.inf


@dataclass(slots=True)
class KnownReplica:
    """One replica."""

    slot: int
    """Its element of the arrays of `Reports`."""
    report: WorkerReport
    made_at: float
    """When the report was made."""
    homes: dict[str, float] = field(default_factory=dict)
    """The voices that `Reports` has it as a home of, and when they are ready."""
    past_lives: list[str] = field(default_factory=list)
    coming: dict[str, float] = field(default_factory=dict)
    """Voices that were sent for and are not in the report, and when they are ready."""
    wanted: Counter[str] = field(default_factory=Counter)
    """How many requests that have not ended want each voice; none is 0."""
    _picks: list[Pick] = field(default_factory=list)
    """Requests that have not ended."""
    _sent: int = 0
    """How many of them were sent since the report was made."""
    _ended: deque[Pick] = field(default_factory=lambda: deque(maxlen=_MOST_ENDED))
    """Requests that have ended since the report was made."""
    _residents: dict[str, float] = field(default_factory=dict)
    """Models of the report that are there, or on their way, and when they are ready."""
    _movable: tuple[tuple[float, str], ...] = ()
    """Those that would make room, the one used longest ago first: when, and which."""
    _used: dict[str, int] = field(default_factory=dict)
    """How many requests use each of the others that are used."""
    _unbound: set[str] = field(default_factory=set)
    """Residents that a report has shown free to leave: neither pinned nor too young."""

    def take(self, report: WorkerReport, made_at: float) -> None:
        """Take a report, and count no longer what it shows to have ended."""
        self.report, self.made_at = report, made_at
        homes = [model for model in report.residents if model.is_home]
        self._residents = {model.model_id: made_at + model.left_s for model in homes}
        self._used = {
            model.model_id: max(model.references, model.streams)
            for model in homes
            if model.references or model.streams
        }
        movable = [(made_at - m.idle_s, m.model_id) for m in homes if m.can_leave]
        self._movable = tuple(sorted(movable))
        self._unbound &= self._residents.keys()
        self._unbound.update(voice for _, voice in movable)
        ended = [pick for pick in self._ended if pick.ended_at > made_at]
        self._ended.clear()
        self._ended += ended
        # One that the report does not have: its end was not told, or it never came.
        arrived = [pick for pick in self._picks if pick.at <= made_at - ON_ITS_WAY_S]
        for pick in arrived[: max(0, len(arrived) - report.in_flight)]:
            self._picks.remove(pick)
        self._count()

    def forget(self) -> None:
        """Forget what it had and what was sent there, until its next report."""
        self._residents, self._movable, self._used = {}, (), {}
        self._unbound.clear()
        self._picks.clear()
        self._ended.clear()
        self._count()

    def _count(self) -> None:
        self.wanted = Counter(pick.voice for pick in self._picks)
        self._sent = sum(pick.at > self.made_at for pick in self._picks)
        self.coming = {}
        for pick in (*self._ended, *self._picks):
            self._expect(pick)

    def _expect(self, pick: Pick) -> None:
        if pick.voice not in self._residents:
            self.coming.setdefault(pick.voice, pick.ready_at)

    # What was sent there

    def sent(self, pick: Pick) -> None:
        """Count a request."""
        self._picks.append(pick)
        self._sent += pick.at > self.made_at
        self.wanted[pick.voice] += 1
        self._expect(pick)

    def ended(self, voice: str, now: float) -> bool:
        """Count the first request for a voice as ended; whether there was one."""
        pick = self._taken_out(voice)
        if pick is None:
            return False
        pick.ended_at = now
        forgets = len(self._ended) == _MOST_ENDED
        self._ended.append(pick)
        if forgets:
            self._count()
        return True

    def withdrawn(self, voice: str) -> bool:
        """Forget the first request for a voice; whether there was one."""
        found = self._taken_out(voice) is not None
        if found:
            self._count()
        return found

    def _taken_out(self, voice: str) -> Pick | None:
        pick = next((each for each in self._picks if each.voice == voice), None)
        if pick is not None:
            self._picks.remove(pick)
            self._sent -= pick.at > self.made_at
            self.wanted -= Counter((voice,))
        return pick

    # What follows from it

    def in_flight(self) -> int:
        """Return how many speeches run or wait there: those of the report, and what is known."""
        ended = sum(pick.at <= self.made_at for pick in self._ended)
        return max(len(self._picks), self.report.in_flight + self._sent - ended)

    def idle(self) -> list[tuple[float, str]]:
        """Return the models that would make room, the one used longest ago first: when, which."""
        if not self._ended:
            return [each for each in self._movable if each[1] not in self.wanted]
        last_used = {pick.voice: pick.ended_at for pick in self._ended}
        ended = Counter(pick.voice for pick in self._ended if pick.at <= self.made_at)
        found = [(last_used.get(voice, at), voice) for at, voice in self._movable]
        found += [
            (last_used[voice], voice)
            for voice in last_used
            if voice in self.coming or 0 < self._used.get(voice, 0) <= ended[voice]
        ]
        return sorted(each for each in found if each[1] not in self.wanted)

    def there(self, idle: list[tuple[float, str]]) -> dict[str, float]:
        """Return the voices that are there or on their way, and when they are ready.

        `idle` is what would make room; as much of it as was needed since has left. Those that may
        be pinned, or too young, are taken to be there.
        """
        found = self._residents | self.coming
        for _, voice in idle[: max(0, len(self.coming) - self.report.free_places)]:
            if voice in self._unbound:
                found.pop(voice, None)
        return found
