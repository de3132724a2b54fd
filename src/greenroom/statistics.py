"""What can be seen of a manager at one moment: residents, totals, explanations. All frozen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenroom.errors import duration
from greenroom.journal import Event, Kind
from greenroom.ledger.state import Reason, Resident, State, owners_of
from greenroom.memory.usage import MIB
from greenroom.untrusted.owners import by_kind, kind_in_words, owner_name

if TYPE_CHECKING:
    from greenroom.hosts.engine_process import EngineProcess
    from greenroom.hosts.processes import EngineProcesses
    from greenroom.ledger.residency import Residency
    from greenroom.ledger.shared_memory import Sharers
    from greenroom.memory.footprint_store import FootprintStore
    from greenroom.memory.leaks import Account, MemoryAccounts
    from greenroom.memory.usage import ProcessUsage

_MOST_HOLDERS = 10
"""Kinds of holders that an explanation tells of in words; `holders` has each."""

_MOST_NAMED = 5
"""Models that a line for people names; of more it says how many."""


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """A process that models of one engine live in, apart from the manager's own."""

    name: str
    """Of the adapter whose models share it, or of the model that has it to itself."""
    pid: int
    age_s: float
    memory_mb: float | None
    """Physical memory, pages that several processes have divided among them; as of at most a
    second before the manager's models last did anything, and `None` in its first second."""
    restarts: int
    """How many processes of this name have crashed, or were killed, before it."""
    idle: bool = False
    """Whether it has no model, and waits for the next one."""

    def __str__(self) -> str:
        memory = "" if self.memory_mb is None else f", {self.memory_mb:,.0f} MB"
        times = "1 crash" if self.restarts == 1 else f"{self.restarts} crashes"
        after = f", after {times}" if self.restarts else ""
        idle = "idle " if self.idle else ""
        age = duration(self.age_s)
        return f"{idle}process {self.name} (pid {self.pid}){memory}, for {age}{after}"


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
    """Until it expires if it is not used; `None` while it cannot expire."""
    footprint_mb: float
    """Anonymous memory, as booked: measured, stated, or expected while it is not measured yet;
    `shared_mb` among it."""
    load_s: float
    warmup_s: float
    streams: int = 0
    """Running streams; each counts as a use."""
    device: str = "cpu"
    mapped_mb: float = 0.0
    """Pages of mapped files, which the system can take back; no budget counts them."""
    gaps: int = 0
    """Silences of more than 20 ms in the midst of its streams' speech, since it was loaded; 0 once
    its unload began."""
    late_s: float = 0.0
    """Seconds of these."""
    process: ProcessStatistics | None = None
    """Where it lives; `None` in the manager's own process, and before it is loaded."""
    yields_to: str = ""
    """The model that it drains for, in its turn."""
    shared_mb: float = 0.0
    """What of `footprint_mb` it carries for all models that have it in common: see
    `ManagerStatistics.shared`."""


@dataclass(frozen=True, slots=True)
class SharedMemoryStatistics:
    """Memory that several models have in common, such as the graph of several voices."""

    name: str
    size_mb: float
    """As booked, once for all of them."""
    device: str
    model_ids: tuple[str, ...]
    """The models that have it, in memory or on their way in or out; the first carries it: it is
    part of that one's `footprint_mb`."""

    def __str__(self) -> str:
        carrier, *others = self.model_ids
        also = ", ".join(others[:_MOST_NAMED]) or "no other model"
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        return f"{self.name}: {self.size_mb:,.0f} MB, booked with {carrier}, shared by {also}{more}"


@dataclass(frozen=True, slots=True)
class MemoryAccount:
    """What a model took and gave back, in memory or not; anonymous memory, 1 MB = 1,048,576 bytes.

    `None` is what could not be measured, because something else ran beside it.
    """

    model_id: str
    lives: int
    """How often it was unloaded."""
    taken_mb: float | None
    """By its last load, warmup included."""
    returned_mb: float | None
    """By its last unload, with what speaking had added; `None` also before that."""
    not_returned_mb: float | None
    """Of its last life: what the process took more after it than before, or, where other models
    came, spoke or went meanwhile, what was taken and not returned."""
    leaking: bool
    """Whether it was found to leave more behind each time."""

    def __str__(self) -> str:
        if self.taken_mb is None and self.returned_mb is None:
            return ""
        took = "last time it took" + _amount(self.taken_mb)
        gave = "" if self.returned_mb is None else f" and gave back{_amount(self.returned_mb)}"
        leak = "; it leaves more behind each time" if self.leaking else ""
        return f"{took}{gave}{leak}"


def _amount(megabytes: float | None) -> str:
    return " what could not be measured" if megabytes is None else f" {megabytes:.1f} MB"


@dataclass(frozen=True, slots=True)
class ProcessMemoryStatistics:
    """Physical memory of the manager's own process: models, engines' code and all else."""

    anonymous_mb: float
    """What only freeing gives back; it is this that the budget counts."""
    mapped_mb: float
    """Pages of mapped files, which the system can take back: each file counts once, however many
    models map it."""
    proportional_mb: float | None
    """All of it, pages that several processes have divided among them; `None` where the system
    does not tell."""

    def __str__(self) -> str:
        whole = self.proportional_mb
        all_of_it = "" if whole is None else f"; {whole:,.0f} MB proportional"
        return f"{self.anonymous_mb:,.0f} MB anonymous, {self.mapped_mb:,.0f} MB mapped{all_of_it}"


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
    memory: tuple[MemoryAccount, ...] = ()
    """One for each model that was ever loaded."""
    departures: Mapping[str, int] = field(default_factory=dict)
    """The unloads by reason: the name of a `Reason`, in lower case."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """The refusals by reason, named likewise."""
    oldest_wait_s: float = 0.0
    """How long the caller has waited that waits longest, for room or for a load; 0 without one."""
    oldest_load_s: float = 0.0
    """The age of the oldest load or warmup under way; 0 without one."""
    taken_mb: Mapping[str, float] = field(default_factory=dict)
    """Per device, what the process was last seen to take more than before its first model."""
    overdrawn: tuple[str, ...] = ()
    """The devices of which that is over the budget: no load begins there."""
    pinned: tuple[str, ...] = ()
    """Models that are exempt from eviction and expiry, in memory or not."""
    capacity_used: float = 0.0
    """The share of the cores that all streams need to be kept up; above 1 is too much."""
    streams_waiting: int = 0
    """Streams that wait until they can be kept up."""
    hanging: tuple[str, ...] = ()
    """Models with a thread of an abandoned call inside: loading, speaking or unloading."""
    processes: tuple[ProcessStatistics, ...] = ()
    """Those of engines that run now, idle ones among them."""
    crashes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Engines' processes that ended with models in them: by adapter, and by how that came about,
    one of `hosts.engine_process.ENDINGS`."""
    shared: tuple[SharedMemoryStatistics, ...] = ()
    """What models have in common; counted in `footprint_mb`, once each."""
    process_memory: ProcessMemoryStatistics | None = None
    """Of the manager's own process, as of at most a second before its models last did anything;
    `None` before it is initialised. Those of engines have theirs in `processes`."""


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
    memory: MemoryAccount | None = None
    """What it took and gave back; `None` if it was never loaded."""
    footprints: tuple[str, ...] = ()
    """What earlier loads were measured to take, a phrase for each form of the model."""
    shared: SharedMemoryStatistics | None = None
    """What it has in common with other models, while it is in memory."""

    def __str__(self) -> str:
        lines = [f"{self.model_id}: {self.summary}"]
        if self.memory is not None and str(self.memory):
            lines.append(f"  {self.memory}")
        lines += [f"  remembered: {each}" for each in self.footprints]
        if self.shared is not None:
            lines.append(f"  {self.shared}")
        if self.resident is not None and self.resident.process is not None:
            lines.append(f"  lives in {self.resident.process}")
        lines += [f"  held by {each}" for each in _holders(self.holders)]
        lines += [
            f"  {duration(self.now - event.at):>7} ago  {event.kind}: {event.reason}"
            + (f" ({event.owner})" if event.owner else "")
            for event in self.history
        ]
        return "\n".join(lines)


def _holders(holders: Sequence[tuple[str, float]]) -> Iterator[str]:
    """Yield who holds a model and for how long, those of one kind together."""
    held: dict[str, list[float]] = {}
    for owner, seconds in holders:
        held.setdefault(owner, []).append(seconds)
    kinds = by_kind(owner for owner, _ in holders)
    for kind, owners in kinds[:_MOST_HOLDERS]:
        times = [seconds for owner in dict.fromkeys(owners) for seconds in held[owner]]
        shortest, longest = duration(min(times)), duration(max(times))
        span = longest if shortest == longest else f"{shortest} to {longest}"
        yield f"{kind_in_words(kind, owners)} for {span}"
    if rest := sum(len(owners) for _, owners in kinds[_MOST_HOLDERS:]):
        yield f"{rest} more"


def counted(count: int, thing: str) -> str:
    """Return how many of a thing there are, in words: `1 caller`, `3 callers`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def process_statistics(process: EngineProcess) -> ProcessStatistics:
    """Return what is known of a process, without a look at it."""
    size = process.proportional
    return ProcessStatistics(
        name=process.name,
        pid=process.pid,
        age_s=time.monotonic() - process.since,
        memory_mb=None if size is None else size / MIB,
        restarts=process.restarts,
        idle=not process.models,
    )


def _process_of(instance: object) -> ProcessStatistics | None:
    # Where there is an instance this is imported; who reads a worker's statistics has no engine.
    from greenroom.hosts.hosted_adapter import HostedAdapter

    if not isinstance(instance, HostedAdapter) or instance.process is None:
        return None
    return process_statistics(instance.process)


def snapshot(
    resident: Resident, now: float, *, gaps: int = 0, late_s: float = 0.0, yields_to: str = ""
) -> ResidentStatistics:
    """Return what can be seen of `resident` at `now`.

    `gaps` and `late_s` are the silences that its host counted, `yields_to` is of its turn.
    """
    ready = resident.state in (State.READY, State.DRAINING)
    idle = resident.state is State.READY and not resident.in_use
    expires = idle and not resident.pinned and resident.expires_at < math.inf
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
        mapped_mb=resident.mapped / MIB,
        gaps=gaps,
        late_s=late_s,
        process=_process_of(resident.instance),
        yields_to=yields_to,
        shared_mb=resident.carried / MIB,
    )


def _shared_memory(sharers: Sharers) -> SharedMemoryStatistics:
    carrier = sharers.carrier
    others = (each.model_id for each in sharers.members if each is not carrier)
    return SharedMemoryStatistics(
        name=sharers.part.name,
        size_mb=carrier.carried / MIB,
        device=sharers.device,
        model_ids=(carrier.model_id, *others),
    )


def memory_account(account: Account) -> MemoryAccount:
    """Return an account in megabytes."""
    sizes = (account.taken, account.returned, account.not_returned)
    taken, returned, not_returned = (None if size is None else size / MIB for size in sizes)
    return MemoryAccount(
        account.model_id, account.lives, taken, returned, not_returned, account.leaking
    )


def totals(
    ledger: Residency,
    accounts: MemoryAccounts,
    now: float,
    *,
    residents: tuple[ResidentStatistics, ...],
    processes: EngineProcesses,
    hanging: tuple[str, ...] = (),
    capacity_used: float = 0.0,
    streams_waiting: int = 0,
    process_usage: ProcessUsage | None = None,
) -> ManagerStatistics:
    """Return the totals of `ledger` and `accounts` at `now`, and what others know."""
    gone = ledger.departures
    loads = [resident for resident in ledger.residents if resident.loading]
    waiters = [ticket for load in loads for ticket in load.waiters]
    tickets = [*ledger.queue.all_tickets(), *waiters]
    return ManagerStatistics(
        residents=residents,
        resident_cap=ledger.policy.resident_cap,
        footprint_mb=sum(ledger.capacity.booked.values()) / MIB,
        budget_mb={device: size / MIB for device, size in ledger.policy.budgets.items()},
        waiting=ledger.queue.count,
        hits=ledger.hits,
        loads=ledger.loads,
        failed_loads=ledger.failed_loads,
        evictions=gone[Reason.EVICTED] + gone[Reason.SURPLUS] + gone[Reason.TURN],
        expirations=gone[Reason.EXPIRED] + gone[Reason.FORGOTTEN],
        unloads=sum(gone.values()),
        refusals=sum(ledger.refusals.values()),
        memory=tuple(map(memory_account, accounts.all())),
        departures=_named(gone),
        refused=_named(ledger.refusals),
        oldest_wait_s=max((now - ticket.since for ticket in tickets), default=0.0),
        oldest_load_s=max((now - load.booked_at for load in loads), default=0.0),
        taken_mb={device: size / MIB for device, size in ledger.capacity.taken.items()},
        overdrawn=ledger.capacity.overdrawn,
        pinned=ledger.pins,
        hanging=hanging,
        processes=tuple(sorted(map(process_statistics, processes.all), key=lambda p: p.pid)),
        crashes=dict(processes.crashes),
        capacity_used=capacity_used,
        streams_waiting=streams_waiting,
        shared=tuple(map(_shared_memory, ledger.capacity.shared)),
        process_memory=None if process_usage is None else _process_memory(process_usage),
    )


def _process_memory(usage: ProcessUsage) -> ProcessMemoryStatistics:
    whole = usage.proportional
    return ProcessMemoryStatistics(
        usage.anonymous / MIB, usage.mapped / MIB, None if whole is None else whole / MIB
    )


def _named(counts: Mapping[Reason, int]) -> dict[str, int]:
    return {reason.name.lower(): count for reason, count in counts.items()}


def explain(
    model_id: str,
    ledger: Residency,
    accounts: MemoryAccounts,
    footprints: FootprintStore,
    history: tuple[Event, ...],
    now: float,
    statistics_of: Callable[[Resident], ResidentStatistics],
) -> Explanation:
    """Return what the ledger, the accounts, the footprints and the journal know of the model."""
    resident = ledger.get(model_id)
    account = accounts.get(model_id)
    references = [] if resident is None else resident.references
    return Explanation(
        model_id=model_id,
        summary=_absent(model_id, ledger, history, now)
        if resident is None
        else _present(resident, ledger, now),
        resident=None if resident is None else statistics_of(resident),
        holders=tuple((owner_name(owner), now - at) for owner, at in references),
        history=history,
        now=now,
        memory=None if account is None else memory_account(account),
        # Other files of one model, such as an earlier version, may have taken just as much.
        footprints=tuple(dict.fromkeys(map(str, footprints.records(model_id)))),
        shared=_shared_with(ledger, resident),
    )


def _shared_with(ledger: Residency, resident: Resident | None) -> SharedMemoryStatistics | None:
    sharers = None if resident is None else ledger.capacity.shared.of(resident)
    return None if sharers is None else _shared_memory(sharers)


def _present(resident: Resident, ledger: Residency, now: float) -> str:
    state = resident.state
    if state in (State.LOADING, State.WARMING):
        return (
            f"{state} since {duration(now - resident.booked_at)}, "
            f"for {counted(len(resident.waiters), 'caller')}"
        )
    if resident.hanging:
        return (
            "a thread hangs in its load or unload; its memory stays booked and nobody gets it "
            "until that thread ends"
        )
    if state is State.UNLOADING:
        waiting = len(ledger.queue.tickets(resident.model_id))
        wait = "waits" if waiting == 1 else "wait"
        return f"unloading; {counted(waiting, 'caller')} {wait} to load it afresh"
    if resident.in_use:
        speaking = f" and {resident.streams} streams" if resident.streams else ""
        return f"{state}, in use: {resident.refcount} references{speaking}"
    if resident.pinned:
        return "ready and pinned: it stays until it is unpinned or unloaded"
    if resident.ttl < 0:
        return "ready and idle; it never expires"
    return f"ready and idle; it expires in {duration(resident.expires_at - now)}"


def _absent(model_id: str, ledger: Residency, history: tuple[Event, ...], now: float) -> str:
    waiting = ledger.queue.tickets(model_id)
    if waiting:
        wait = "waits" if len(waiting) == 1 else "wait"
        return f"not in memory; {counted(len(waiting), 'caller')} {wait} for room"
    failure = ledger.backoff.get(model_id)
    if failure is not None:
        wait = duration(failure.retry_at - now)
        return (
            f"not in memory; it failed {failure.count} times in a row "
            f"({failure.problem}), next try in {wait}"
        )
    if not history:
        return "not in memory; nobody asked for it"
    last = _latest(Kind.UNLOADING, history) or history[-1]
    if last.reason == Reason.CRASHED:
        last = _latest(Kind.CRASHED, history) or last
    return f"not in memory; {last.kind} {duration(now - last.at)} ago: {last.reason}"


def _latest(kind: Kind, history: tuple[Event, ...]) -> Event | None:
    return next((event for event in reversed(history) if event.kind is kind), None)
