"""Whether work should be sent here, and why not: one verdict for every protocol's health.

A worker whose event loop answers may be stuck all the same: a thread that hangs in an engine, a
load or a caller that waits for longer than the settings allow. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.model_manager import ModelManager
from greenroom.residents import State
from greenroom.statistics import ManagerStatistics

_SLACK_S = 5.0
"""Timers may be late on a busy machine; what is late by more is stuck."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found at one moment."""

    problems: tuple[str, ...]
    """Why no work should be sent here, a sentence each; empty when it should."""
    oldest_wait_s: float
    """How long the caller has waited that waits longest for a model."""
    oldest_load_s: float
    """The age of the oldest load under way."""
    hanging: tuple[str, ...]
    """Models that a thread hangs in."""

    @property
    def ready(self) -> bool:
        """Whether work should be sent here."""
        return not self.problems


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
        problems = [self._phase] if self._phase else [*self._of_default(found), *self._stuck(found)]
        return Verdict(tuple(problems), found.oldest_wait_s, found.oldest_load_s, found.hanging)

    def _of_default(self, found: ManagerStatistics) -> list[str]:
        """Return what speaks against the default model.

        One that is not pinned may leave like any other; the next caller brings it back.
        """
        settings = self._manager.settings
        name = self._manager.catalog.get(settings.default_model_id).model_id
        state = next((r.state for r in found.residents if r.model_id == name), None)
        if state is State.READY or (state is None and not settings.pin_default):
            return []
        how = "not in memory" if state is None else str(state)
        return [f"the default model {name!r} is {how}"]

    def _stuck(self, found: ManagerStatistics) -> list[str]:
        problems = [f"a thread hangs in model {name!r}" for name in found.hanging]
        if found.oldest_load_s > self._longest_load:
            problems.append(f"a load has not ended for {found.oldest_load_s:.0f} s")
        if found.oldest_wait_s > self._longest_wait:
            problems.append(f"a caller has waited for {found.oldest_wait_s:.0f} s")
        return problems
