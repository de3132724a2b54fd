"""The books of the ledger: what it keeps, and what everybody may read.

Part of the ledger, as pure as it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import ValuesView

from greenroom.ledger.state import Policy, Reason, Resident


class Books:
    """Who is in memory, who is pinned, and what has happened so far."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.hits = 0
        self.loads = 0
        self.failed_loads = 0
        self.departures: Counter[Reason] = Counter()
        self.refusals: Counter[Reason] = Counter()
        self._residents: dict[str, Resident] = {}
        self._ready: dict[str, Resident] = {}
        """Those that are a hit."""
        self._pins: set[str] = set()

    @property
    def residents(self) -> ValuesView[Resident]:
        """Every model in memory, loading or leaving, in order of booking."""
        return self._residents.values()

    def get(self, model_id: str) -> Resident | None:
        """Return the model's resident, whatever its state."""
        return self._residents.get(model_id)

    @property
    def pins(self) -> tuple[str, ...]:
        """The models that are pinned, in memory or not, in alphabetical order."""
        return tuple(sorted(self._pins))

    def is_pinned(self, model_id: str) -> bool:
        """Return whether the model is pinned, in memory or not."""
        return model_id in self._pins

    def __repr__(self) -> str:
        shown = ", ".join(f"{r.model_id} {r.state} x{r.refcount}" for r in self.residents)
        return f"<Residency {len(self._residents)}/{self.policy.resident_cap} [{shown}]>"
