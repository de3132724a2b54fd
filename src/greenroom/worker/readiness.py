"""Readiness: whether work should be sent here, and why not; one verdict for every protocol.

A worker whose event loop answers may be stuck all the same: a load or a caller that waits for
longer than the settings allow, threads that hang wherever a model may be. One voice that hangs
is a problem to report, and no reason to send the work for all others elsewhere. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.errors import duration
from greenroom.ledger.state import State
from greenroom.model_manager import ModelManager
from greenroom.statistics import ManagerStatistics

_SLACK_S = 5.0
"""Timers may be late on a busy machine; what is late by more is stuck."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found at one moment."""

    ready: bool
    """Whether work should be sent here."""
    problems: tuple[str, ...]
    """What is wrong, a sentence each; there may be some though most voices can be spoken with."""
    oldest_wait_s: float
    """How long the caller has waited that waits longest for a model."""
    oldest_load_s: float
    """The age of the oldest load under way."""
    hanging: tuple[str, ...]
    """Models that a thread hangs in."""


class Readiness:
    """Judges one worker; `open` at the end of its start, `close` at the beginning of its end."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self._phase = "the worker is starting: its first models are being loaded"
        settings = manager.settings
        load, wait = settings.load_timeout_ms / 1000, settings.acquire_timeout_ms / 1000
        self._longest_load = 2 * load + _SLACK_S  # a load, then a warmup
        self._longest_wait = wait + self._longest_load

    def open(self) -> None:
        """Say from here on that the worker takes work, as far as nothing speaks against it."""
        self._phase = ""

    def close(self) -> None:
        """Say to the end that it takes none."""
        self._phase = "the worker is shutting down"

    def verdict(self) -> Verdict:
        """Look at everything now."""
        found = self._manager.statistics()
        if self._phase:
            grave, others = [self._phase], []
        else:
            grave = [*self._of_default(found), *self._stuck(found)]
            others = [f"a thread hangs in model {name!r}" for name in found.hanging]
            others += [_overdraft(found, device) for device in found.overdrawn]
        return Verdict(
            not grave,
            (*grave, *others),
            found.oldest_wait_s,
            found.oldest_load_s,
            found.hanging,
        )

    def _of_default(self, found: ManagerStatistics) -> list[str]:
        """Return what speaks against the default model.

        One that is not pinned comes and goes like any other; the next caller brings it back.
        """
        name = self._manager.catalog.get(self._manager.settings.default_model_id).model_id
        if name not in found.pinned:
            return []
        if name in found.hanging:
            return [f"the default model {name!r} hangs"]
        state = next((r.state for r in found.residents if r.model_id == name), None)
        if state is State.READY:
            return []
        how = "not in memory" if state is None else str(state)
        return [f"the default model {name!r} is {how}"]

    def _stuck(self, found: ManagerStatistics) -> list[str]:
        """Return what keeps every model from being spoken with.

        One in which a thread hangs keeps its room, but no other model from loading or speaking,
        unless such models are all that may be in memory.
        """
        problems = []
        if self._is_full_of_hanging(found):
            problems.append("threads hang in all models that may be in memory")
        if found.oldest_load_s > self._longest_load:
            problems.append(f"a load has not ended for {duration(found.oldest_load_s)}")
        if found.oldest_wait_s > self._longest_wait:
            problems.append(f"a caller has waited for {duration(found.oldest_wait_s)}")
        return problems

    def _is_full_of_hanging(self, found: ManagerStatistics) -> bool:
        if self._manager.settings.cap_policy == "soft":
            return False
        stuck = [r for r in found.residents if r.model_id in found.hanging]
        return len(stuck) >= found.resident_cap


def _overdraft(found: ManagerStatistics, device: str) -> str:
    return (
        f"the process takes {found.taken_mb[device]:,.0f} MB of {device} for its models, "
        f"{found.budget_mb[device]:,.0f} MB are allowed: no load begins"
    )
