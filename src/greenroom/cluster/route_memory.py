"""What a router remembers between requests, and the order in which it asks the replicas.

Pure, as `Reports` is: time comes in as an argument, in seconds. `rank` chooses; beside it a session
stays with the replica that has it, and what was sent somewhere counts there until it has ended.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenroom.cluster.rank import rank
from greenroom.cluster.reports import Reports
from greenroom.errors import InvalidInputError
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.report import WorkerReport, read_report, written_report

logger = safe_logger(__name__)

_DEAD_AFTER_S = 30.0
"""Who passes the reports on takes out replicas that have died; it may be late by seconds."""

_OLDEST_S = 5.0
"""A report is taken to be younger, whatever the clocks of two machines say."""

_MOST_SESSIONS = 100_000
"""Sessions whose replica is remembered: those that were used last."""

_MOST_SENT = 100_000
"""Requests under way; each is forgotten when it ends."""


@dataclass(frozen=True, slots=True)
class Request:
    """As much of a request as decides where it goes."""

    request_id: str
    voice: str = ""
    """The model that it is about; empty: any replica will do."""
    session: str = ""
    """What stands for its session (`session_key`); empty: none."""


def passed_on(report: WorkerReport, sessions: Collection[str], wall_time: float) -> dict[str, Any]:
    """Return what a replica tells the routers: its report, the keys of its sessions, the time."""
    return {"report": written_report(report), "sessions": list(sessions), "made_at": wall_time}


class RouteMemory:
    """Where voices and sessions are, as far as one router knows; by names of replicas."""

    def __init__(
        self,
        *,
        bound: float = 1.25,
        dead_after_s: float = _DEAD_AFTER_S,
        max_copies: int = 0,
        most_in_flight: int = 0,
    ) -> None:
        """The settings are those of `Reports`."""
        self.reports = Reports(
            bound=bound,
            dead_after_s=dead_after_s,
            max_copies=max_copies,
            most_in_flight=most_in_flight,
        )
        self._read: dict[str, float] = {}
        """By replica, when the report was made that was read last, by its own clock."""
        self._reported_sessions: dict[str, frozenset[str]] = {}
        self._sessions: OrderedDict[str, str] = OrderedDict()
        """By session, the replica that a request of it was sent to last."""
        self._sent: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """By request under way: where, and for which voice."""

    # What is heard of replicas

    def hear(self, told: Mapping[str, Mapping[str, Any]], now: float, wall_time: float) -> None:
        """Take what each replica told last (`passed_on`), and forget those that are not named.

        Clocks of two machines may differ: a report counts as made now where its own says later.
        """
        for gone in self._read.keys() - told.keys():
            del self._read[gone]
            self._reported_sessions.pop(gone, None)
            self.reports.remove(gone)
        for name, stats in told.items():
            self._hear(name, stats, now, wall_time)

    def _hear(self, name: str, stats: Mapping[str, Any], now: float, wall_time: float) -> None:
        made_at = stats.get("made_at")
        if not isinstance(made_at, float) or self._read.get(name) == made_at:
            return
        self._read[name] = made_at
        age = min(max(0.0, wall_time - made_at), _OLDEST_S)
        try:
            self.reports.update(name, read_report(stats.get("report")), now, made_at=now - age)
        except InvalidInputError as error:
            logger.warning("replica %s: %s", name, error)
        sessions = stats.get("sessions")
        self._reported_sessions[name] = frozenset(map(str, sessions or ()))

    def lost(self, name: str) -> None:
        """Send nothing to a replica that cannot be reached, until it reports again."""
        self.reports.lost(name)

    # Where a request goes

    def order(self, request: Request, names: Sequence[str], now: float) -> list[list[str]]:
        """Return which of these replicas to ask, in ranks: whoever is free first within a rank.

        The first of them counts as the one it is sent to, until `sent` says otherwise.
        """
        self.forget(request.request_id)
        home = self._home_of(request.session, names)
        if home is not None:
            return [[home]]
        if not request.voice:
            return [list(names)]
        there = set(names)
        ranked = rank(self.reports, request.voice, now, len(names))
        ranks = [[name] for name in ranked if name in there]
        # One that was not heard of may have just been started; it is asked before it is refused.
        unheard = [name for name in names if name not in self._read]
        if unheard or not ranks:
            ranks.append(unheard or list(names))
        self._count(request, ranks[0][0], now)
        return ranks

    def _home_of(self, session: str, names: Sequence[str]) -> str | None:
        """Return the replica that has a session, if it is one of these."""
        if not session:
            return None
        home = self._sessions.get(session)
        if home in names:
            return home
        self._sessions.pop(session, None)
        return next((n for n in names if session in self._reported_sessions.get(n, ())), None)

    def sent(self, request: Request, name: str, now: float) -> None:
        """Note which replica has taken a request."""
        if request.session:
            self._sessions[request.session] = name
            self._sessions.move_to_end(request.session)
            if len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        if request.voice and self._sent.get(request.request_id, ("",))[0] != name:
            self.forget(request.request_id)
            self._count(request, name, now)

    def _count(self, request: Request, name: str, now: float) -> None:
        if len(self._sent) >= _MOST_SENT:
            self.forget(next(iter(self._sent)))
        self._sent[request.request_id] = name, request.voice
        self.reports.picked(name, request.voice, now)

    def ended(self, request_id: str, name: str, now: float) -> None:
        """Count a request no longer that a replica has ended."""
        if self._sent.get(request_id, ("",))[0] == name:
            self.reports.finished(*self._sent.pop(request_id), now)

    def forget(self, request_id: str) -> None:
        """Count a request no longer that no replica has had."""
        sent = self._sent.pop(request_id, None)
        if sent is not None:
            self.reports.withdrawn(*sent)

    def __repr__(self) -> str:
        sent, sessions = len(self._sent), len(self._sessions)
        return f"<RouteMemory {self.reports!r}, {sent} requests, {sessions} sessions>"
