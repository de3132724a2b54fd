"""Frozen pictures of the manager, for people and tests: residents, totals, explanations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from greenroom.journal import Event
from greenroom.memory import MIB
from greenroom.residency import Residency
from greenroom.residents import Reason, Resident, State, owners_of


@dataclass(frozen=True, slots=True)
class ResidentStatistics:
    """One model in memory, loading or leaving."""

    model_id: str
    state: State
    refcount: int
    owners: tuple[str, ...]
    """Who holds it; `-` for a holder that gave no name."""
    pinned: bool
    age_s: float
    """Since it was ready, or since its load began."""
    idle_s: float
    """Since the last use; 0 while in use or not ready."""
    expires_in_s: float | None
    """Until it expires if nobody comes; `None` while it cannot expire."""
    footprint_mb: float
    load_s: float
    warmup_s: float
    streams: int = 0
    """Running streams; each counts as a use."""
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class ManagerStatistics:
    """The whole manager at one moment; counts are since the start."""

    residents: tuple[ResidentStatistics, ...]
    resident_cap: int
    footprint_mb: float
    """All that is booked: resident, loading and unloading."""
    budget_mb: Mapping[str, float]
    """Per device."""
    waiting: int
    """Callers that wait for room now."""
    hits: int
    loads: int
    failed_loads: int
    evictions: int
    """To make room, or because there were too many."""
    expirations: int
    unloads: int
    """All departures, whatever the reason."""
    refusals: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a model is or is not in memory, who holds it, and what happened to it."""

    model_id: str
    summary: str
    """One sentence."""
    resident: ResidentStatistics | None
    holders: tuple[tuple[str, float], ...]
    """Each reference: its owner, and for how many seconds it has been held."""
    history: tuple[Event, ...]
    """The latest events, oldest first."""
    now: float
    """The manager's clock, to which the events' `at` compares."""

    def __str__(self) -> str:
        lines = [f"{self.model_id}: {self.summary}"]
        lines += [f"  held by {owner} for {held:.1f} s" for owner, held in self.holders]
        lines += [
            f"  {self.now - event.at:8.1f} s ago  {event.kind}: {event.reason}"
            + (f" ({event.owner})" if event.owner else "")
            for event in self.history
        ]
        return "\n".join(lines)


def picture(resident: Resident, now: float) -> ResidentStatistics:
    """Return what can be seen of `resident` at `now`."""
    ready = resident.state in (State.READY, State.DRAINING)
    idle = resident.state is State.READY and not resident.in_use
    expires = idle and not resident.pinned and resident.ttl >= 0
    return ResidentStatistics(
        model_id=resident.model_id,
        state=resident.state,
        refcount=resident.refcount,
        owners=owners_of(resident),
        pinned=resident.pinned,
        age_s=now - (resident.ready_at if ready else resident.booked_at),
        idle_s=now - resident.idle_since if idle else 0.0,
        expires_in_s=max(0.0, resident.expires_at - now) if expires else None,
        footprint_mb=resident.footprint / MIB,
        load_s=resident.load_s,
        warmup_s=resident.warmup_s,
        streams=resident.streams,
        device=resident.device,
    )


def totals(ledger: Residency, residents: tuple[ResidentStatistics, ...]) -> ManagerStatistics:
    """Return the totals of `ledger` beside the pictures of its residents."""
    gone = ledger.departures
    return ManagerStatistics(
        residents=residents,
        resident_cap=ledger.policy.resident_cap,
        footprint_mb=sum(ledger.room.booked.values()) / MIB,
        budget_mb={device: size / MIB for device, size in ledger.policy.budgets.items()},
        waiting=ledger.waiting.count,
        hits=ledger.hits,
        loads=ledger.loads,
        failed_loads=ledger.failed_loads,
        evictions=gone[Reason.EVICTED] + gone[Reason.SURPLUS],
        expirations=gone[Reason.EXPIRED],
        unloads=sum(gone.values()),
        refusals=sum(ledger.refusals.values()),
    )
