"""A ledger for tests: its own verbs with the time filled in, a line for each decision."""

from __future__ import annotations

from typing import Any

from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Drain,
    Forgotten,
    Granted,
    Joined,
    Load,
    ModelRequest,
    Policy,
    Refused,
    Resident,
    Stay,
    Ticket,
    Unload,
    Wait,
)


def describe(decision: Decision) -> str:
    """Write a decision down in a line, every value of it that matters."""
    match decision:
        case Load(resident):
            return f"load {resident.model_id}"
        case Unload(resident, reason):
            return f"unload {resident.model_id} {reason.name}"
        case Drain(resident, makes_room_for):
            return f"drain {resident.model_id} for {makes_room_for}"
        case Forgotten(model_id):
            return f"forget {model_id}"
        case Stay(resident):
            return f"stay {resident.model_id}"
        case Granted(ticket, resident):
            assert ticket.granted
            return f"grant {resident.model_id} to {ticket.owner}"
        case Joined(ticket):
            return f"join {ticket.model_id}"
        case Wait(ticket, until):
            return f"wait for {ticket.model_id} until {until:g}"
        case Refused(ticket, reason, retry_after, problem):
            again = "never" if retry_after is None else f"{retry_after:g}"
            because = f": {problem}" if problem else ""
            return f"refuse {ticket.model_id} to {ticket.owner} {reason.name} {again}{because}"


class LedgerDriver:
    """A ledger and a clock; it reports only what a test tells it to.

    Models are named by their ids, decisions come back as lines, and `None` stays `None`.
    """

    def __init__(
        self, *, min_residency: float = 0.0, turn_after: float = -1.0, **policy: Any
    ) -> None:
        self.ledger = Residency(
            Policy(min_residency=min_residency, turn_after=turn_after, **policy)
        )
        self.now = 0.0
        self.tickets: dict[tuple[str, str], Ticket] = {}

    def __getitem__(self, model_id: str) -> Resident:
        resident = self.ledger.get(model_id)
        assert resident is not None, f"{model_id} is not in memory"
        return resident

    def at(self, now: float) -> LedgerDriver:
        """Set the clock."""
        self.now = now
        return self

    # Callers

    def request(self, model_id: str, owner: str = "ann", **request: Any) -> list[str]:
        ticket, out = self.ledger.request(ModelRequest(model_id, **request), owner, self.now)
        self.tickets[model_id, owner] = ticket
        return lines(out)

    def prefetch(self, model_id: str, within: float = 10.0, **request: Any) -> list[str]:
        return lines(self.ledger.prefetch(ModelRequest(model_id, **request), within, self.now))

    def hit(self, model_id: str, owner: str = "ann") -> bool:
        return self.ledger.hit(model_id, owner, self.now) is not None

    def release(self, model_id: str, owner: str = "ann") -> list[str] | None:
        out = self.ledger.release(model_id, owner, self.now)
        return None if out is None else lines(out)

    def cancel(self, model_id: str, owner: str = "ann") -> list[str]:
        return lines(self.ledger.cancel(self.tickets[model_id, owner], self.now))

    def park(self, model_id: str, owner: str = "ann") -> list[str]:
        return lines(self.ledger.park(model_id, owner, self.now))

    def unpark(self, model_id: str, owner: str = "ann") -> tuple[bool, list[str]]:
        kept, out = self.ledger.unpark(model_id, owner, self.now)
        return kept, lines(out)

    def open_stream(self, model_id: str) -> Resident:
        self.ledger.open_stream(self[model_id])
        return self[model_id]

    def close_stream(self, resident: Resident, opened_at: float | None = None) -> list[str] | None:
        out = self.ledger.close_stream(resident, self.now, opened_at)
        return None if out is None else lines(out)

    # Operators

    def pin(self, model_id: str) -> list[str]:
        return lines(self.ledger.pin(model_id, self.now))

    def unpin(self, model_id: str) -> list[str]:
        return lines(self.ledger.unpin(model_id, self.now))

    def keep_alive(self, model_id: str, ttl: float) -> list[str] | None:
        out = self.ledger.keep_alive(model_id, ttl, self.now)
        return None if out is None else lines(out)

    def begin_unload(self, model_id: str, *, drain: bool = False) -> list[str]:
        return lines(self.ledger.begin_unload(model_id, self.now, drain=drain))

    def end_drain(self, model_id: str) -> list[str]:
        return lines(self.ledger.end_drain(model_id, self.now))

    def close(self) -> list[str]:
        return lines(self.ledger.close())

    def force_unload(self, model_id: str) -> list[str]:
        return lines(self.ledger.force_unload(model_id))

    # Reports

    def warming(self, model_id: str, load_s: float = 0.0) -> None:
        self.ledger.warming(self[model_id], load_s)

    def loaded(self, model_id: str, **facts: Any) -> list[str]:
        return lines(self.ledger.loaded(self[model_id], object(), self.now, **facts))

    def failed(self, model_id: str, *, gone: bool = True) -> list[str]:
        return lines(self.ledger.failed(self[model_id], "boom", self.now, gone=gone))

    def crashed(self, model_id: str) -> list[str]:
        return lines(self.ledger.crashed(self[model_id], "boom", self.now))

    def overdue(self, model_id: str) -> list[str]:
        return lines(self.ledger.overdue(self[model_id], self.now))

    def gone(self, model_id: str) -> list[str]:
        return lines(self.ledger.gone(self[model_id], self.now))

    def observed(self, **taken: int) -> list[str]:
        return lines(self.ledger.observed(taken, self.now))

    def begin_upgrade(self, model_id: str) -> bool:
        return self.ledger.begin_upgrade(self[model_id])

    def end_upgrade(self, model_id: str, footprint: int | None = None, **facts: Any) -> list[str]:
        return lines(self.ledger.end_upgrade(self[model_id], self.now, footprint, **facts))

    def unreserve(self) -> list[str]:
        return lines(self.ledger.unreserve(self.now))

    # Time

    def tick(self) -> list[str]:
        return lines(self.ledger.tick(self.now))

    def next_due(self) -> float:
        return self.ledger.next_due()

    # Where a test begins

    def hold(self, model_id: str, owner: str = "ann", **request: Any) -> None:
        """Have `owner` hold a model that there is room for."""
        assert self.request(model_id, owner, **request) == [f"load {model_id}"]
        assert self.loaded(model_id) == [f"grant {model_id} to {owner}"]

    def idle(self, model_id: str, **request: Any) -> None:
        """Have a model in memory, last used now."""
        self.hold(model_id, **request)
        assert not self.release(model_id)

    def states(self) -> dict[str, str]:
        """Return the state of every model in memory."""
        return {resident.model_id: str(resident.state) for resident in self.ledger.residents}


def lines(out: list[Decision]) -> list[str]:
    """Write decisions down, each in a line."""
    return [describe(decision) for decision in out]
