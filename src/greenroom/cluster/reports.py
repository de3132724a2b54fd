"""What is known of the replicas of a cluster: their last reports, and what was sent there since.

Pure: time comes in as an argument, in seconds of the caller's own clock. A replica is a name: an
address, or an id. What is asked of all replicas at once is kept in arrays, one element a replica,
so that a thousand of them are looked through in microseconds.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from greenroom.worker.report import SPEECH_S, UNKNOWN_LOAD_S, WorkerReport

DEAD_AFTER_S = 5.0
"""A replica that has been silent for so long gets nothing: ten reports of half a second.

It counts from the newest report of all: when nobody is heard, it is the router that is late, or cut
off, and it goes on with what it knows for ten times as long.
"""

_CUT_OFF = 10

FIRST_AUDIO_S = 0.1
"""Until a voice in memory is heard on an idle machine."""

UNKNOWN_SHARE = 0.05
"""Of a replica's cores that one more stream needs, while none runs there."""

COMFORT = 0.5
"""A replica whose streams need less of its cores is not busy, however idle the others are."""

FEW = 4
"""Nor is one with so few in flight: among small numbers a share of the mean says nothing."""

ON_ITS_WAY_S = 2.0
"""For so long a request may be under way to a replica that does not show its voice yet."""

_PAST_LIVES = 8
"""Earlier lives of a replica whose late reports are known as such."""

_MOST_LACKING = 10_000
"""Names that a catalog is remembered not to have."""


@dataclass(slots=True)
class Pick:
    """A request that was sent to a replica since its last report."""

    voice: str
    at: float


@dataclass(slots=True)
class Replica:
    """One replica: its last report, and what was sent there since."""

    slot: int
    """Its element of the arrays."""
    report: WorkerReport
    made_at: float
    picks: list[Pick] = field(default_factory=list)
    voices: set[str] = field(default_factory=set)
    """Of which it is a home."""
    past_lives: list[str] = field(default_factory=list)
    resident: frozenset[str] = frozenset()
    """Models of its report that are there, or on their way."""
    movable: tuple[tuple[float, str], ...] = ()
    """Models that would make room, the one that was used longest ago first: when, and which."""


class Reports:
    """The replicas of a cluster as far as they are known; `rank` reads it."""

    # One element a slot.
    seeds: NDArray[np.uint64]
    """Of the rendezvous hash."""
    seen: NDArray[np.float64]
    """When it last reported that it takes work; minus infinity when it takes none."""
    flight: NDArray[np.float64]
    """Speeches that run or wait, those sent there since its report included."""
    limit: NDArray[np.float64]
    """Speeches that it takes whatever the others do."""
    queue: NDArray[np.float64]
    """Seconds until a voice in memory is heard."""
    room: NDArray[np.float64]
    """Seconds until there is a place for one more model; infinite: never."""
    spare: NDArray[np.float64]
    """When the model that would make room was last used; minus infinity where a place is free,
    infinity where there is neither."""
    bytes: NDArray[np.float64]
    """That one more model may take."""
    catalog: NDArray[np.int64]
    """A number for what it can load."""

    def __init__(
        self, *, bound: float = 1.25, dead_after_s: float = DEAD_AFTER_S, max_copies: int = 0
    ) -> None:
        """`bound` is how many times the mean in flight a replica takes before others are tried.

        `max_copies` is in how many replicas a voice may be at once; 0: in all.
        """
        assert bound > 1, bound
        self.bound = bound
        self.dead_after_s = dead_after_s
        self.max_copies = max_copies
        self.homes: dict[str, dict[int, float]] = {}
        """By voice, the slots where it is or will be, and when it is ready."""
        self.names: list[str] = []
        """By slot; empty where there is none."""
        self._replicas: dict[str, Replica] = {}
        self._free_slots: list[int] = []
        self._home_arrays: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        """Those of voices that were looked for, until they change."""
        self._load_s: dict[str, float] = {}
        self._footprints: dict[str, int] = {}
        self._catalogs: dict[str, int] = {}
        self._lacking: dict[str, set[int]] = {}
        self._resize(16)

    def _resize(self, size: int) -> None:
        """Make the arrays longer; what is new in them is of no replica."""
        old = len(self.names)
        made: dict[str, NDArray[np.generic]] = {
            "seeds": np.zeros(size, np.uint64),
            "seen": np.full(size, -np.inf),
            "flight": np.zeros(size),
            "limit": np.zeros(size),
            "queue": np.zeros(size),
            "room": np.zeros(size),
            "spare": np.zeros(size),
            "bytes": np.zeros(size),
            "catalog": np.zeros(size, np.int64),
        }
        for name, array in made.items():
            if old:
                array[:old] = getattr(self, name)
            setattr(self, name, array)
        self._free_slots += range(size - 1, old - 1, -1)
        self.names += [""] * (size - old)

    # What replicas say

    def update(
        self, name: str, report: WorkerReport, now: float, *, made_at: float | None = None
    ) -> bool:
        """Take a report; whether it counts.

        What was sent there until `made_at` (else `now`) is in it, if it shows the voice; what else
        was sent is counted on, for a while. A report that is older than the last one, or of an
        earlier life, is ignored.
        """
        made_at = now if made_at is None else min(made_at, now)
        replica = self._replicas.get(name)
        if replica is None:
            replica = Replica(self._slot(name), report, made_at)
            self._replicas[name] = replica
        elif not _is_next(replica, report):
            return False
        elif report.boot_id != replica.report.boot_id:
            replica.past_lives = [*replica.past_lives, replica.report.boot_id][-_PAST_LIVES:]
            replica.picks = []
        self._leave_homes(replica)
        replica.report, replica.made_at = report, made_at
        replica.resident = frozenset(m.model_id for m in report.residents if m.is_home)
        replica.picks = [
            pick
            for pick in replica.picks
            if pick.at > made_at
            or (pick.voice not in replica.resident and pick.at > made_at - ON_ITS_WAY_S)
        ]
        replica.movable = movable_in(report, made_at)
        self._learn(replica.slot, report)
        self._enter_homes(replica)
        self._weigh(replica)
        takes_work = report.ready and not report.draining
        self.seen[replica.slot] = now if takes_work else -np.inf
        return True

    def _slot(self, name: str) -> int:
        if not self._free_slots:
            self._resize(2 * len(self.names))
        slot = self._free_slots.pop()
        self.names[slot] = name
        self.seeds[slot] = seed_of(name)
        return slot

    def _learn(self, slot: int, report: WorkerReport) -> None:
        self._load_s.update(report.load_s)
        for model in report.residents:
            self._footprints[model.model_id] = model.footprint
        self.catalog[slot] = self._catalogs.setdefault(report.catalog, len(self._catalogs))

    def remove(self, name: str) -> None:
        """Forget a replica that is no part of the cluster any more."""
        replica = self._replicas.pop(name, None)
        if replica is None:
            return
        self._leave_homes(replica)
        self.seen[replica.slot] = -np.inf
        self.names[replica.slot] = ""
        self._free_slots.append(replica.slot)

    def lost(self, name: str) -> None:
        """Send nothing to a replica that cannot be reached, until it reports again."""
        replica = self._replicas.get(name)
        if replica is not None:
            self._leave_homes(replica)
            replica.picks = []
            self.seen[replica.slot] = -np.inf

    def lacks(self, name: str, voice: str) -> None:
        """Note that a replica cannot load a voice: so cannot those with the same catalog."""
        replica = self._replicas.get(name)
        if replica is None:
            return
        if len(self._lacking) >= _MOST_LACKING:
            self._lacking.clear()
        self._lacking.setdefault(voice, set()).add(int(self.catalog[replica.slot]))

    def catalogs_without(self, voice: str) -> set[int]:
        """Return the numbers of the catalogs that are known not to have a voice."""
        return self._lacking.get(voice, set())

    # What was sent there

    def picked(self, name: str, voice: str, now: float) -> None:
        """Count a request that was sent to a replica, until its next report."""
        replica = self._replicas.get(name)
        if replica is None:
            return
        replica.picks.append(Pick(voice, now))
        self._settle(replica, voice, now + float(self.room[replica.slot]) + self.load_s(voice))
        self._weigh(replica)

    def finished(self, name: str, voice: str) -> None:
        """Count a request no longer that has ended before the replica's next report."""
        replica = self._replicas.get(name)
        if replica is None:
            return
        pick = next((each for each in replica.picks if each.voice == voice), None)
        if pick is not None:
            replica.picks.remove(pick)
            self._weigh(replica)

    # What follows from both

    def _leave_homes(self, replica: Replica) -> None:
        for voice in replica.voices:
            self._home_arrays.pop(voice, None)
            homes = self.homes[voice]
            del homes[replica.slot]
            if not homes:
                del self.homes[voice]
        replica.voices.clear()

    def _enter_homes(self, replica: Replica) -> None:
        for model in replica.report.residents:
            if model.is_home:
                self._settle(replica, model.model_id, replica.made_at + model.left_s)
        for pick in replica.picks:
            self._settle(replica, pick.voice, pick.at + self.load_s(pick.voice))

    def _settle(self, replica: Replica, voice: str, ready_at: float) -> None:
        """Make a replica a home of a voice, unless it is one."""
        if voice not in replica.voices:
            self.homes.setdefault(voice, {})[replica.slot] = ready_at
            replica.voices.add(voice)
            self._home_arrays.pop(voice, None)

    def _weigh(self, replica: Replica) -> None:
        """Work out what one more request would meet at a replica."""
        report, slot, sent = replica.report, replica.slot, len(replica.picks)
        share = report.capacity_used / report.streams if report.streams else UNKNOWN_SHARE
        used = report.capacity_used + sent * share
        lines = report.waiting + report.streams_waiting
        self.flight[slot] = report.in_flight + sent
        self.limit[slot] = max(FEW, COMFORT / max(share, 1e-3))
        self.queue[slot] = FIRST_AUDIO_S / max(0.05, 1 - used) + (
            lines * SPEECH_S / max(1, report.streams)
        )
        wanted = {pick.voice for pick in replica.picks}
        coming = len(wanted - replica.resident)
        victims = [at for at, voice in replica.movable if voice not in wanted]
        over = coming - report.free_places
        self.bytes[slot] = report.free_bytes + report.evictable_bytes
        self.room[slot] = math.inf if report.room_in_s is None else report.room_in_s
        if over < 0:
            self.spare[slot] = -math.inf
        elif over < len(victims):
            self.spare[slot] = victims[over]
        else:
            self.spare[slot] = math.inf
            if report.evictable_places or report.free_places:
                # What it had is promised to requests on their way.
                self.room[slot] = max(self.room[slot], SPEECH_S)

    # Looking

    def homes_of(self, voice: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the slots where a voice is or will be, and when it is ready; not to be changed."""
        found = self._home_arrays.get(voice)
        if found is None:
            homes = self.homes.get(voice, {})
            found = (
                np.fromiter(homes, np.int64, len(homes)),
                np.fromiter(homes.values(), np.float64, len(homes)),
            )
            if homes:
                self._home_arrays[voice] = found
        return found

    def load_s(self, voice: str) -> float:
        """Return what a load of the voice is expected to take."""
        return self._load_s.get(voice, UNKNOWN_LOAD_S)

    def footprint(self, voice: str) -> int:
        """Return the bytes that a voice was last seen to take; 0 when it was not."""
        return self._footprints.get(voice, 0)

    def knows(self, voice: str) -> bool:
        """Whether a replica has named this model."""
        return voice in self.homes or voice in self._load_s

    def is_open(self, now: float) -> NDArray[np.bool_]:
        """Return which slots have a replica that takes work, as far as is known."""
        since = max(float(self.seen.max()), now - _CUT_OFF * self.dead_after_s)
        open_slots: NDArray[np.bool_] = self.seen >= since - self.dead_after_s
        return open_slots

    def default_voice(self, now: float) -> str:
        """Return the default model of the replicas that take work; empty if they differ."""
        names = [self.names[slot] for slot in np.flatnonzero(self.is_open(now))]
        defaults = {self._replicas[name].report.default_model_id for name in names}
        return defaults.pop() if len(defaults) == 1 else ""

    def __len__(self) -> int:
        return len(self._replicas)

    def __repr__(self) -> str:
        return f"<Reports of {len(self)} replicas, {len(self.homes)} voices>"


def _is_next(replica: Replica, report: WorkerReport) -> bool:
    """Whether a report says what came after the last one."""
    last = replica.report
    if report.boot_id == last.boot_id:
        return report.sequence > last.sequence
    return report.boot_id not in replica.past_lives


def movable_in(report: WorkerReport, made_at: float) -> tuple[tuple[float, str], ...]:
    """Return the models that would make room, the one that was used longest ago first."""
    return tuple(sorted((made_at - m.idle_s, m.model_id) for m in report.residents if m.can_leave))


def seed_of(name: str) -> int:
    """Return 64 bits that stand for a name, in every process the same."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest())
