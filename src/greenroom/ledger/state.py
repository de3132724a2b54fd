"""What the ledger keeps (residents, tickets) and what it answers (decisions)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from greenroom.untrusted.owners import owner_name


class State(StrEnum):
    """Where a resident is in its life; `transitions.py` has the events between.

    A model that is not in memory has no resident, and so no state.
    """

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    """Its holders finish; no other caller gets it."""
    UNLOADING = "unloading"
    """It is leaving; its room stays booked until it is gone."""


class Reason(StrEnum):
    """Why a decision was made, as the journal and `explain` show it."""

    # The names are label values of the metrics, and as lasting as those.

    # Why a load begins.
    ASKED = "asked for"
    EXPECTED = "a caller is expected"

    # Why a model leaves.
    EXPIRED = "idle longer than its TTL"
    FORGOTTEN = "prefetched, and not used in time"
    EVICTED = "least recently used, its room was needed"
    SURPLUS = "over the cap or the budget"
    TURN = "its turn is over, its room was needed"
    UNLOADED = "unload was asked for"
    CRASHED = "its engine has crashed"
    SHUTDOWN = "the manager shuts down"  # and why a caller is refused

    # Why a caller is refused.
    BACKING_OFF = "it failed before and is not tried again yet"
    LOAD_FAILED = "its load failed"
    TOO_BIG = "it is larger than the memory budget"
    NO_ROOM = "every resident is pinned, in use, leaving, or within its min residency"
    LINE_FULL = "too many callers are waiting already"
    TIMED_OUT = "no room came free in time"
    OVERDRAWN = "the process takes more memory than the budget allows"


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide; times in seconds, sizes in bytes."""

    # What may be in memory at once.
    resident_cap: int = 3
    cap_policy: Literal["soft", "hard"] = "soft"
    budgets: Mapping[str, int] = field(default_factory=dict)
    """Bytes that all models of a device may take; a device that is absent has no limit."""
    # How long an idle model stays: at most `ttl`, and at least `min_residency` after its load.
    ttl: float = 600.0
    min_residency: float = 120.0
    max_parallel_loads: int = 1
    acquire_timeout: float = 30.0
    max_waiting: int = 1024
    """Callers waiting for room at once; one more is refused."""
    turn_after: float = 2.0
    """How long a model waits until one that is in use must leave for it; negative never."""
    # How long a model that failed is left alone.
    first_retry: float = 1.0
    longest_retry: float = 300.0


@dataclass(frozen=True, slots=True)
class SharedPart:
    """Memory that a model has in common with all others that name it; of one device."""

    name: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What the ledger must know of a model to make room for it."""

    model_id: str
    device: str = "cpu"
    footprint: int = 0
    """Bytes it is expected to take, without what it has in common with others."""
    ttl: float | None = None
    """Seconds; `None` takes the policy's, negative never expires."""
    min_footprint: int | None = None
    """Bytes it is certain to take; `None` when all of `footprint` is. An expectation above the
    budget does not refuse a model: it is tried when nothing else is in memory that may leave."""
    shared: SharedPart | None = None
    """What it is expected to have in common with others."""


# Tickets and residents are compared by identity: two requests of one owner in one moment are two,
# and so are two lives of a model.


@dataclass(slots=True, eq=False)
class Ticket:
    """One caller's request that could not be granted at once."""

    model_id: str
    owner: Hashable
    since: float
    deadline: float
    granted: bool = False
    """Whether its caller holds a reference: then a late `cancel` gives that back."""


@dataclass(slots=True, eq=False)
class Resident:
    """One model in memory, or on its way in or out."""

    request: ModelRequest
    state: State
    """Written by `Residency._enter` alone."""
    number: int
    """The order of booking: breaks ties, and tells one life of a model from the next."""
    footprint: int
    """Bytes booked against the budget: anonymous memory, or what is expected of it; `carried`
    among them."""
    booked_at: float
    ttl: float
    # Who uses it. References and streams are counted apart: a stream may outlast the reference that
    # it began with, and keeps a thread inside the engine.
    holders: dict[Hashable, float] = field(default_factory=dict)
    """When each owner took the first of its references."""
    repeats: dict[Hashable, list[float]] = field(default_factory=dict)
    """When owners that hold several took the others. Apart, as most hold one: a hit then makes no
    list. No empty one stays."""
    parked: set[Hashable] = field(default_factory=set)
    """Owners that hold it and do not keep it: in the model's turn to leave they lose it."""
    streams: int = 0
    waiters: dict[Ticket, None] = field(default_factory=dict)
    """Callers that wait for the present load."""
    pinned: bool = False
    """Whether the capacity counts it as pinned; while it is leaving, the pins may say otherwise."""
    instance: Any = None
    """Opaque to the ledger: what callers get."""
    # When, in the time of `now`. `idle_since` is of the last use, whether or not it is idle now.
    ready_at: float = 0.0
    idle_since: float = 0.0
    keep_until: float = 0.0
    """End of min residency."""
    expected_until: float | None = None
    """When it leaves if the caller for whom it was prefetched has not come; `None` once one has."""
    tenure_from: float = 0.0
    """Since when it has had its place: from ready, or from a turn that did not come about."""
    load_s: float = 0.0
    warmup_s: float = 0.0
    upgrading: bool = False
    """Whether its form is being replaced: it stays until that is done."""
    crashed: bool = False
    """Whether its engine is not there any more: it can only leave."""
    shared: SharedPart | None = None
    """What it has in common with others; written by `SharedMemory` alone, as the next."""
    carried: int = 0
    """Bytes of that which are booked with this one, for all of them."""
    form: str = ""
    """Which form of the model is in memory, for one that has several."""
    mapped: int = 0
    """Bytes of mapped files, which no budget counts: only shown."""
    # Where the indexes have it. A use changes none of these: what a search then meets in use it
    # takes out, and the release that follows puts it back. So a hit costs the indexes nothing.
    indexed: bool = False
    """Whether a search for idle models would meet it; false when one has found it in use."""
    protected: bool = False
    """Whether it is ready, unpinned and within its min residency."""
    promised: bool = False
    """Whether room is planned on its leaving; not so once its unload is overdue."""

    @property
    def model_id(self) -> str:
        """The id of the model."""
        return self.request.model_id

    @property
    def device(self) -> str:
        """Where its weights are."""
        return self.request.device

    @property
    def refcount(self) -> int:
        """The number of references held."""
        return len(self.holders) + sum(map(len, self.repeats.values()))

    @property
    def references(self) -> list[tuple[Hashable, float]]:
        """The owner of each reference and when it was taken, those of one owner together."""
        return [
            (owner, at)
            for owner, first in self.holders.items()
            for at in (first, *self.repeats.get(owner, ()))
        ]

    def repeat(self, owner: Hashable, now: float) -> None:
        """Count one more reference of an owner that holds one already."""
        self.repeats.setdefault(owner, []).append(now)

    def end_repeat(self, owner: Hashable) -> None:
        """Count one reference fewer of an owner that holds several: the youngest."""
        others = self.repeats[owner]
        others.pop()
        if not others:
            del self.repeats[owner]

    @property
    def in_use(self) -> bool:
        """Whether a caller holds it or it is speaking."""
        return bool(self.holders) or self.streams > 0

    @property
    def is_kept(self) -> bool:
        """Whether a turn must wait: it speaks, is upgraded, or has a holder that is not parked."""
        return self.occupied or len(self.parked) < len(self.holders)

    @property
    def occupied(self) -> bool:
        """Whether a thread is inside of it, or may be at any moment: it speaks or is upgraded."""
        return self.streams > 0 or self.upgrading

    @property
    def loading(self) -> bool:
        """Whether it is on its way in."""
        return self.state in (State.LOADING, State.WARMING)

    @property
    def leaving(self) -> bool:
        """Whether no other caller gets it, and it goes as soon as its last use ends."""
        return self.state in (State.DRAINING, State.UNLOADING)

    @property
    def hanging(self) -> bool:
        """Whether its load or its unload was abandoned after its limit and has not ended."""
        # A load that failed was never promised, an overdue unload is not any more.
        return self.state is State.UNLOADING and not self.promised

    @property
    def may_leave(self) -> bool:
        """Whether a search that meets it may choose it: it is ready and not in use."""
        # Neither pins nor min residency are asked: the heaps hold no pinned model, and of the
        # protected ones only their expiry, which is not before the end of that.
        if self.holders or self.occupied:
            return False
        return self.state is State.READY

    @property
    def expires_at(self) -> float:
        """When it expires if no caller comes; infinite with a negative TTL."""
        if self.expected_until is not None:
            return self.expected_until
        if self.ttl < 0:
            return float("inf")
        # A TTL shorter than min residency does not undo that: no load is for one use alone.
        return max(self.idle_since + self.ttl, self.keep_until)


@dataclass(frozen=True, slots=True)
class Load:
    """Begin to load; its room is booked."""

    resident: Resident

    @property
    def reason(self) -> Reason:
        """Why it begins."""
        return Reason.ASKED if self.resident.expected_until is None else Reason.EXPECTED


@dataclass(frozen=True, slots=True)
class Unload:
    """Begin to unload; its room stays booked until `gone`."""

    resident: Resident
    reason: Reason
    makes_room_for: str | None = None
    """The model that its room is needed for, where it leaves for one."""
    parked: tuple[Hashable, ...] = ()
    """The owners that have lost it, each of which comes back for it with its next word."""

    @property
    def why(self) -> str:
        """The reason in words, with the model that needs the room."""
        wanted = self.makes_room_for
        return str(self.reason) if wanted is None else f"{self.reason} for {wanted}"


@dataclass(frozen=True, slots=True)
class Drain:
    """A turn begins: no caller gets the model any more; `Unload` follows, or `Stay`."""

    resident: Resident
    makes_room_for: str
    """The model that has waited for its turn."""

    @property
    def why(self) -> str:
        """The reason in words, with the model that needs the room."""
        return f"{Reason.TURN} for {self.makes_room_for}"


@dataclass(frozen=True, slots=True)
class Stay:
    """A turn is taken back: the model is ready again."""

    resident: Resident


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A model that was to be prefetched is not loaded: there was no room, or it had failed."""

    model_id: str


@dataclass(frozen=True, slots=True)
class Granted:
    """The ticket's caller holds a reference now."""

    ticket: Ticket
    resident: Resident


@dataclass(frozen=True, slots=True)
class Joined:
    """The ticket's caller shares a load that is under way."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Wait:
    """The ticket's caller waits for room, at most `until`."""

    ticket: Ticket
    until: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The ticket's caller gets an error; `retry_after` seconds from now it may work."""

    ticket: Ticket
    reason: Reason
    retry_after: float | None = None
    problem: str = ""


# What a step of the ledger answers: booked already, to be carried out in this order.
Decision = Load | Unload | Drain | Stay | Forgotten | Granted | Joined | Wait | Refused


def owners_of(resident: Resident) -> tuple[str, ...]:
    """Return the names of a resident's holders; an owner that gave no name is `-`."""
    return tuple(map(owner_name, resident.holders))
