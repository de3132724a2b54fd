"""A ledger on a desk: what tests say to it, and what it answers, a line for each decision."""

from __future__ import annotations

from typing import Any

from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Granted,
    Joined,
    Load,
    ModelRequest,
    Policy,
    Refused,
    Resident,
    Ticket,
    Unload,
    Wait,
)


def told(decision: Decision) -> str:
    """Write a decision down in a line, every value of it that matters."""
    match decision:
        case Load(resident):
            return f"load {resident.model_id}"
        case Unload(resident, reason):
            return f"unload {resident.model_id} {reason.name}"
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


class Desk:
    """A ledger, a clock, and a shell that reports only what a test tells it to."""

    def __init__(self, *, min_residency: float = 0.0, **policy: Any) -> None:
        self.ledger = Residency(Policy(min_residency=min_residency, **policy))
        self.now = 0.0
        self.tickets: dict[tuple[str, str], Ticket] = {}

    def __getitem__(self, model_id: str) -> Resident:
        resident = self.ledger.get(model_id)
        assert resident is not None, f"{model_id} is not in memory"
        return resident

    def at(self, now: float) -> Desk:
        self.now = now
        return self

    def ask(self, model_id: str, owner: str = "ann", **request: Any) -> list[str]:
        ticket, out = self.ledger.request(ModelRequest(model_id, **request), owner, self.now)
        self.tickets[model_id, owner] = ticket
        return self._told(out)

    def hit(self, model_id: str, owner: str = "ann") -> bool:
        return self.ledger.hit(model_id, owner, self.now) is not None

    def give(self, model_id: str, owner: str = "ann") -> list[str] | None:
        out = self.ledger.release(model_id, owner, self.now)
        return None if out is None else self._told(out)

    def cancel(self, model_id: str, owner: str = "ann") -> list[str]:
        return self._told(self.ledger.cancel(self.tickets[model_id, owner], self.now))

    def speak(self, model_id: str) -> Resident:
        self.ledger.open_stream(self[model_id])
        return self[model_id]

    def hush(self, resident: Resident) -> list[str] | None:
        out = self.ledger.close_stream(resident, self.now)
        return None if out is None else self._told(out)

    def warming(self, model_id: str, load_s: float = 0.0) -> None:
        self.ledger.warming(self[model_id], load_s)

    def land(self, model_id: str, **facts: Any) -> list[str]:
        return self._told(self.ledger.loaded(self[model_id], object(), self.now, **facts))

    def fail(self, model_id: str, *, gone: bool = True) -> list[str]:
        return self._told(self.ledger.failed(self[model_id], "boom", self.now, gone=gone))

    def gone(self, model_id: str) -> list[str]:
        return self._told(self.ledger.gone(self[model_id], self.now))

    def overdue(self, model_id: str) -> list[str]:
        return self._told(self.ledger.overdue(self[model_id], self.now))

    def pin(self, model_id: str) -> list[str]:
        return self._told(self.ledger.pin(model_id, self.now))

    def keep_alive(self, model_id: str, ttl: float) -> list[str] | None:
        out = self.ledger.keep_alive(model_id, ttl, self.now)
        return None if out is None else self._told(out)

    def unpin(self, model_id: str) -> list[str]:
        return self._told(self.ledger.unpin(model_id, self.now))

    def unload(self, model_id: str) -> list[str]:
        return self._told(self.ledger.begin_unload(model_id, self.now, drain=False))

    def drain(self, model_id: str) -> list[str]:
        return self._told(self.ledger.begin_unload(model_id, self.now, drain=True))

    def end_drain(self, model_id: str) -> list[str]:
        return self._told(self.ledger.end_drain(model_id, self.now))

    def close(self) -> list[str]:
        return self._told(self.ledger.close())

    def force_unload(self, model_id: str) -> list[str]:
        return self._told(self.ledger.force_unload(model_id))

    def tick(self) -> list[str]:
        return self._told(self.ledger.tick(self.now))

    def look(self, **taken: int) -> list[str]:
        """Tell the ledger what the process takes of each device."""
        return self._told(self.ledger.observed(taken, self.now))

    def due(self) -> float:
        return self.ledger.next_due()

    def hold(self, model_id: str, owner: str = "ann", **request: Any) -> None:
        """Have `owner` hold a model that there is room for."""
        assert self.ask(model_id, owner, **request) == [f"load {model_id}"]
        assert self.land(model_id) == [f"grant {model_id} to {owner}"]

    def idle(self, model_id: str, **request: Any) -> None:
        """Have a model in memory, last used now."""
        self.hold(model_id, **request)
        assert not self.give(model_id)

    def shown(self) -> dict[str, str]:
        """Return the state of every model in memory."""
        return {resident.model_id: str(resident.state) for resident in self.ledger.residents}

    def _told(self, out: list[Decision]) -> list[str]:
        return [told(decision) for decision in out]
