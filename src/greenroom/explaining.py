"""One sentence that says why a model is, or is not, in memory."""

from __future__ import annotations

from greenroom.journal import Event
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Resident, State
from greenroom.memory.footprint_store import FootprintStore
from greenroom.memory.leaks import MemoryAccounts
from greenroom.statistics import Explanation, memory_account, picture
from greenroom.untrusted.owners import name_of


def explain(
    model_id: str,
    ledger: Residency,
    accounts: MemoryAccounts,
    footprints: FootprintStore,
    history: tuple[Event, ...],
    now: float,
) -> Explanation:
    """Return what the ledger, the accounts, the footprints and the journal know of the model."""
    resident = ledger.get(model_id)
    account = accounts.get(model_id)
    holders: list[tuple[str, float]] = []
    if resident is not None:
        for owner, taken in resident.holders.items():
            holders.extend((name_of(owner), now - at) for at in taken)
    return Explanation(
        model_id=model_id,
        summary=_absent(model_id, ledger, history, now)
        if resident is None
        else _present(resident, ledger, now),
        resident=None if resident is None else picture(resident, now),
        holders=tuple(holders),
        history=history,
        now=now,
        memory=None if account is None else memory_account(account),
        footprints=tuple(map(str, footprints.records(model_id))),
    )


def _present(resident: Resident, ledger: Residency, now: float) -> str:
    state = resident.state
    if state in (State.LOADING, State.WARMING):
        return (
            f"{state}, for {len(resident.waiters)} callers, since {now - resident.booked_at:.1f} s"
        )
    if resident.hanging:
        return (
            "a thread hangs in its load or unload; its memory stays booked and nobody gets it "
            "until that thread ends"
        )
    if state is State.UNLOADING:
        waiting = len(ledger.queue.tickets(resident.model_id))
        return f"unloading; {waiting} callers wait to load it afresh"
    if resident.in_use:
        speaking = f" and {resident.streams} streams" if resident.streams else ""
        return f"{state}, in use: {resident.refcount} references{speaking}"
    if resident.pinned:
        return "ready and pinned: it stays until it is unpinned or unloaded"
    if resident.ttl < 0:
        return "ready and idle; it never expires"
    return f"ready and idle; it expires in {max(0.0, resident.expires_at - now):.1f} s"


def _absent(model_id: str, ledger: Residency, history: tuple[Event, ...], now: float) -> str:
    waiting = ledger.queue.tickets(model_id)
    if waiting:
        return f"not in memory; {len(waiting)} callers wait for room"
    failure = ledger.backoff.get(model_id)
    if failure is not None:
        wait = max(0.0, failure.retry_at - now)
        return (
            f"not in memory; it failed {failure.count} times in a row "
            f"({failure.problem}), next try in {wait:.1f} s"
        )
    if not history:
        return "not in memory; nobody asked for it"
    last = next((event for event in reversed(history) if event.kind == "unloading"), history[-1])
    return f"not in memory; {last.kind} {now - last.at:.1f} s ago: {last.reason}"
