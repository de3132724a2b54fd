"""What is known of the replicas of a cluster: their last reports, and what was sent there since.

Pure: time comes in as an argument, in seconds of the caller's own clock. A replica is a name: an
address, or an id. What is asked of all replicas at once is kept in arrays, one element a replica,
so that a thousand of them are looked through in microseconds.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from greenroom.cluster.known_replica import KnownReplica, Pick
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
"""Nor is one with so few in flight."""

_PAST_LIVES = 8
"""Earlier lives of a replica whose late reports are known as such."""

_MOST_LACKING = 10_000
"""Names that a catalog is remembered not to have."""


class Reports:
    """The replicas of a cluster as far as they are known; `rank` reads it."""

    # One element a slot.
    seeds: NDArray[np.uint64]
    """Of the rendezvous hash."""
    seen: NDArray[np.float64]
    """When it last reported that it takes work; minus infinity when it takes none."""
    flight: NDArray[np.float64]
    """Speeches that run or wait: of its report, and what is known of those sent there."""
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
        self,
        *,
        bound: float = 1.25,
        dead_after_s: float = DEAD_AFTER_S,
        max_copies: int = 0,
        most_in_flight: int = 0,
    ) -> None:
        """`bound` is how many times the mean in flight a replica takes before others are tried.

        `max_copies` is in how many replicas a voice may be at once; 0: in all. `most_in_flight` is
        how many speeches a replica takes at once; 0: that is not known.
        """
        assert bound > 1, bound
        self.bound = bound
        self.dead_after_s = dead_after_s
        self.max_copies = max_copies
        self.most_in_flight = most_in_flight
        self.homes: dict[str, dict[int, float]] = {}
        """By voice, the slots where it is or will be, and when it is ready."""
        self.names: list[str] = []
        """By slot; empty where there is none."""
        self._replicas: dict[str, KnownReplica] = {}
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
            replica = KnownReplica(self._slot(name), report, made_at)
            self._replicas[name] = replica
        elif not _is_next(replica, report):
            return False
        elif report.boot_id != replica.report.boot_id:
            replica.past_lives = [*replica.past_lives, replica.report.boot_id][-_PAST_LIVES:]
            replica.forget()
        replica.take(report, made_at)
        self._learn(replica.slot, report)
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
        self._live_in(replica, {})
        self.seen[replica.slot] = -np.inf
        self.names[replica.slot] = ""
        self._free_slots.append(replica.slot)

    def lost(self, name: str) -> None:
        """Send nothing to a replica that cannot be reached, until it reports again."""
        replica = self._replicas.get(name)
        if replica is not None:
            replica.forget()
            self._live_in(replica, {})
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
        """Count a request that was sent to a replica, until it has ended (`finished`)."""
        replica = self._replicas.get(name)
        if replica is None:
            return
        ready_at = now + float(self.room[replica.slot]) + self.load_s(voice)
        replica.sent(Pick(voice, now, ready_at))
        self._weigh(replica)

    def finished(self, name: str, voice: str, now: float) -> None:
        """Count a request no longer that has ended, though the last report may show it."""
        replica = self._replicas.get(name)
        if replica is not None and replica.ended(voice, now):
            self._weigh(replica)

    def withdrawn(self, name: str, voice: str) -> None:
        """Count a request no longer that the replica has not had."""
        replica = self._replicas.get(name)
        if replica is not None and replica.withdrawn(voice):
            self._weigh(replica)

    # What follows from both

    def _weigh(self, replica: KnownReplica) -> None:
        """Work out what one more request would meet at a replica, and which voices it has."""
        self._weigh_load(replica)
        idle = replica.idle()
        self._weigh_room(replica, idle)
        self._live_in(replica, replica.there(idle))

    def _weigh_load(self, replica: KnownReplica) -> None:
        """Work out how busy a replica is."""
        report, slot = replica.report, replica.slot
        flight = replica.in_flight()
        change = flight - report.in_flight
        share = report.capacity_used / report.streams if report.streams else UNKNOWN_SHARE
        used = max(0.0, report.capacity_used + change * share)
        lines = max(0, report.waiting + report.streams_waiting + min(0, change))
        self.flight[slot] = flight
        self.limit[slot] = max(FEW, COMFORT / max(share, 1e-3))
        self.queue[slot] = FIRST_AUDIO_S / max(0.05, 1 - used) + (
            lines * SPEECH_S / max(1, report.streams)
        )

    def _weigh_room(self, replica: KnownReplica, idle: list[tuple[float, str]]) -> None:
        """Work out when there is a place for one more model, and what has to leave for it."""
        report, slot = replica.report, replica.slot
        over = len(replica.coming) - report.free_places
        self.bytes[slot] = report.free_bytes + report.evictable_bytes
        room = math.inf if report.room_in_s is None else report.room_in_s
        if over < 0:
            self.room[slot], self.spare[slot] = 0.0, -math.inf
        elif over < len(idle):
            self.room[slot], self.spare[slot] = 0.0, idle[over][0]
        else:
            if room or report.evictable_places or report.free_places:
                # All is in use, or promised to requests on their way: so many speeches have to end.
                room = max(room, (over - len(idle) + 1) * SPEECH_S / max(1, report.places))
            self.room[slot], self.spare[slot] = room, math.inf

    def _live_in(self, replica: KnownReplica, there: dict[str, float]) -> None:
        """Make a replica a home of these voices, and of no others."""
        for voice in replica.homes.keys() - there.keys():
            self._home_arrays.pop(voice, None)
            homes = self.homes[voice]
            del homes[replica.slot]
            if not homes:
                del self.homes[voice]
        for voice, ready_at in there.items() - replica.homes.items():
            self._home_arrays.pop(voice, None)
            self.homes.setdefault(voice, {})[replica.slot] = ready_at
        replica.homes = there

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


def _is_next(replica: KnownReplica, report: WorkerReport) -> bool:
    """Whether a report says what came after the last one."""
    last = replica.report
    if report.boot_id == last.boot_id:
        return report.sequence > last.sequence
    return report.boot_id not in replica.past_lives


def seed_of(name: str) -> int:
    """Return 64 bits that stand for a name, in every process the same."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest())
