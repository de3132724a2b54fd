"""What each model took of the memory, what it gave back, and whether it leaves more each time.

Pure: measurements come in, figures and a verdict go out. Sizes are bytes of anonymous memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

LEAKING_LIVES = 4
"""So many lives in a row must each have left something behind before a model is reported."""

LEAKING_BYTES = 1024 * 1024
"""What a life must leave behind to count; anything less is noise."""


MAX_ACCOUNTS = 256
"""Accounts of models that are not in memory; the one whose life ended first makes room."""


@dataclass(frozen=True, slots=True)
class Account:
    """The memory of one model; `None` is what could not be measured beside other work."""

    model_id: str
    lives: int = 0
    """How often it was unloaded."""
    taken: int | None = None
    """By its last load, warmup included."""
    returned: int | None = None
    """By its last unload; what speaking had added may be among it."""
    not_returned: int | None = None
    """Of its last life: what the process took more after the unload than before the load."""
    leaking: bool = False
    """Whether each of its last lives left something behind."""


@dataclass(slots=True)
class _Entry:
    lives: int = 0
    alive: bool = False
    """Whether a life has begun and not ended."""
    taken: int | None = None
    returned: int | None = None
    not_returned: int | None = None
    remainders: deque[int] = field(default_factory=lambda: deque(maxlen=LEAKING_LIVES))
    """Of the last lives that the model had to itself."""
    settled: bool = False
    """Whether a life of its own is over: the first leaves the engine's own code behind."""
    leaking: bool = False

    def begins_to_leak(self, remainder: int) -> bool:
        """Count a life of its own; return whether the model leaks, and did not before it."""
        if not self.settled:
            self.settled = True
            return False
        self.remainders.append(remainder)
        full = len(self.remainders) == LEAKING_LIVES
        before = self.leaking
        self.leaking = full and all(each > LEAKING_BYTES for each in self.remainders)
        return self.leaking and not before


class MemoryAccounts:
    """The accounts of one manager's models: those in memory, and the last that were.

    A model leaks when each of its last `LEAKING_LIVES` lives left more than `LEAKING_BYTES`
    behind. Only lives that it had to itself are counted, in which no other model was loaded,
    unloaded or spoke: of any other nobody can tell who left what. Those are passed over, they
    neither help nor clear it. Nor does its first life count, in which the engine itself came into
    memory, to stay. One life that leaves nothing behind clears it.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def loaded(self, model_id: str, taken: int | None) -> None:
        """Book a load; `None` when something else ran beside it."""
        entry = self._used(model_id)
        entry.alive = True
        entry.taken, entry.returned, entry.not_returned = taken, None, None

    def unloaded(self, model_id: str, returned: int | None, remainder: int | None) -> int | None:
        """Book the end of a life; return what its last lives left, if it just began to leak.

        `remainder` is the growth of the process from before the load to after the unload, `None`
        unless the model had that time to itself. Without it, what was taken and not returned is
        shown, and nothing is concluded.
        """
        entry = self._used(model_id)
        entry.alive = False
        entry.lives += 1
        entry.returned = returned
        if remainder is not None:
            entry.not_returned = max(0, remainder)
            return sum(entry.remainders) if entry.begins_to_leak(remainder) else None
        if entry.taken is not None and returned is not None:
            entry.not_returned = max(0, entry.taken - returned)
        return None

    def _used(self, model_id: str) -> _Entry:
        """Return the account of a model whose life begins or ends, as the last one."""
        entry = self._entries.pop(model_id, None) or _Entry()
        self._entries[model_id] = entry
        if len(self._entries) > MAX_ACCOUNTS:
            past = [name for name, each in self._entries.items() if not each.alive]
            for name in past[:-MAX_ACCOUNTS]:
                del self._entries[name]
        return entry

    def get(self, model_id: str) -> Account | None:
        """Return the account of a model that was loaded before, if it is kept."""
        entry = self._entries.get(model_id)
        return None if entry is None else _account(model_id, entry)

    def all(self) -> tuple[Account, ...]:
        """Return every account, the one that changed last at the end."""
        return tuple(_account(model_id, entry) for model_id, entry in self._entries.items())


def _account(model_id: str, entry: _Entry) -> Account:
    return Account(
        model_id, entry.lives, entry.taken, entry.returned, entry.not_returned, entry.leaking
    )
