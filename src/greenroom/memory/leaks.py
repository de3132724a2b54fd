"""Leak detection: the memory each model took, gave back, and whether it leaves more each time.

A *life* of a model goes from its load to its unload; what it *leaves behind* is the memory that
the process takes more after the unload than before the load.

Pure: it is given measurements, and measures nothing. Sizes are bytes of anonymous memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

LEAKING_LIVES = 4
"""How many lives in a row must each have left memory behind before a model is reported."""

LEAKING_BYTES = 1024 * 1024
"""How much a life must leave behind to count; anything less is noise."""


MAX_ACCOUNTS = 256
"""How many accounts of models that are not in memory are kept; the oldest is dropped."""


@dataclass(frozen=True, slots=True)
class Account:
    """The memory account of one model; `None` is what could not be measured beside other work."""

    model_id: str
    lives: int = 0
    """How often it was unloaded."""
    taken: int | None = None
    """Memory taken by its last load, warmup included."""
    returned: int | None = None
    """Memory given back by its last unload; what speaking had added may be among it."""
    not_returned: int | None = None
    """What its last life left behind."""
    leaking: bool = False
    """Whether each of its last lives left memory behind."""


@dataclass(slots=True)
class _Entry:
    lives: int = 0
    alive: bool = False
    """Whether a life has begun and not ended."""
    taken: int | None = None
    returned: int | None = None
    not_returned: int | None = None
    remainders: deque[int] = field(default_factory=lambda: deque(maxlen=LEAKING_LIVES))
    """What each of the last lives that ran alone left behind."""
    settled: bool = False
    """Whether a life that ran alone has ended: the first leaves the engine's own code behind."""
    leaking: bool = False

    def begins_to_leak(self, remainder: int) -> bool:
        """Count a life that ran alone; return whether the model leaks now and did not before."""
        if not self.settled:
            self.settled = True
            return False
        # The deque holds LEAKING_LIVES: one life that left nothing behind clears the model.
        self.remainders.append(remainder)
        full = len(self.remainders) == LEAKING_LIVES
        before = self.leaking
        self.leaking = full and all(each > LEAKING_BYTES for each in self.remainders)
        return self.leaking and not before


class MemoryAccounts:
    """The accounts of one manager's models: of those in memory, and of the last that were.

    A model leaks when each of its last `LEAKING_LIVES` lives left more than `LEAKING_BYTES`
    behind:

    1. Only lives that ran alone count, in which no other model was loaded, unloaded or spoke: of
       any other it cannot be told which model left what. Others neither prove nor clear a leak.
    2. The first life does not count: the engine's own code came into memory with it, to stay.
    3. One life that leaves nothing behind clears the model.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def loaded(self, model_id: str, taken: int | None) -> None:
        """Record a load, and the memory that it took; `None` when something else ran beside it."""
        entry = self._used(model_id)
        entry.alive = True
        entry.taken, entry.returned, entry.not_returned = taken, None, None

    def unloaded(self, model_id: str, returned: int | None, remainder: int | None) -> int | None:
        """Record an unload; return what the last lives left behind, if a leak just began.

        `remainder` is the growth of the process from before the load to after the unload, `None`
        unless the model had that time to itself. Without it, what was taken and not returned is
        kept to be shown, and nothing is concluded.
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
        """Return the account of a model that is loaded or unloaded now; it becomes the last one."""
        # Taken out and put in again: the dictionary is in the order of the last change.
        entry = self._entries.pop(model_id, None) or _Entry()
        self._entries[model_id] = entry
        past = [name for name, each in self._entries.items() if not each.alive]
        for name in past[:-MAX_ACCOUNTS]:
            del self._entries[name]
        return entry

    def get(self, model_id: str) -> Account | None:
        """Return the account of a model; `None` if it was never loaded, or long ago."""
        entry = self._entries.get(model_id)
        return None if entry is None else _account(model_id, entry)

    def all(self) -> tuple[Account, ...]:
        """Return every account, in the order of their last change."""
        return tuple(_account(model_id, entry) for model_id, entry in self._entries.items())


def _account(model_id: str, entry: _Entry) -> Account:
    return Account(
        model_id, entry.lives, entry.taken, entry.returned, entry.not_returned, entry.leaking
    )
