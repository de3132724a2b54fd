"""Compares what the process really takes with the budget, as long as that may change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from greenroom.concurrency.cores import quota_of_process
from greenroom.concurrency.threads import DaemonExecutor
from greenroom.journal import Kind
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Decision
from greenroom.memory.usage import MIB, ProcessMemory, ProcessUsage
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

_READ_PERIOD_S = 1.0
"""How often the memory of the process is read while it may change."""

_FRESH_S = 4.0
"""How old what was read may be where it is asked for: less than a step of the worker's history."""


class Note(Protocol):
    """Writes down what has happened."""

    def __call__(self, kind: Kind, model_id: str, reason: str, /) -> None:
        """Write it down."""


class MemoryMonitor:
    """Tells the ledger of one manager what the process takes, and writes down an overdraft."""

    def __init__(
        self,
        ledger: Residency,
        executor: DaemonExecutor,
        note: Note,
        carry_out: Callable[[Iterable[Decision]], None],
        time: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._executor = executor
        self._note = note
        self._carry_out = carry_out
        self._time = time
        self._process = ProcessMemory(ledger.policy.budgets)
        self._read: Callable[[], None] = _nothing
        self._read_at = 0.0
        self._woken = asyncio.Event()

    @property
    def children(self) -> set[int]:
        """Ids of processes whose memory counts as this process's own; to be changed."""
        return self._process.children

    @property
    def whole(self) -> ProcessUsage | None:
        """What the process took when it was last read; `None` before that.

        To ask has it read again, in a thread, if that is older than 4 s: also of a process in which
        no model does anything it is current for whoever looks every few seconds.
        """
        if self._time() - self._read_at > _FRESH_S:
            self.wake()
        return self._process.whole

    def count_beside(self, beside: Callable[[], int], read: Callable[[], None]) -> None:
        """Count what `beside` returns as this process's own: bytes of the machine's memory.

        It is called in a thread; `read` in the loop, each time when all has been read.
        """
        self._process.beside = beside
        self._read = read

    def wake(self) -> None:
        """Have the memory read: something was loaded, unloaded or spoke."""
        self._woken.set()

    async def record_baseline(self) -> None:
        """Remember what the process takes before any model is loaded, and what it may compute."""
        await self._executor.run(self._begin)

    def _begin(self) -> None:
        quota_of_process()  # read here, in a thread: the loop needs it for each step of a stream
        self._process.begin()

    async def run(self) -> None:
        """Compare what the process takes with the budget, until it is cancelled."""
        while True:
            self._woken.clear()
            try:
                self._observe(await self._executor.submit(self._process.read, must_run=True))
            except Exception as error:  # noqa: BLE001 - one look that failed ends no watch
                logger.error("the memory of the process cannot be read: %s", describe_error(error))
            self._read_at = self._time()
            await asyncio.sleep(_READ_PERIOD_S)
            ledger = self._ledger
            if not (ledger.capacity.overdrawn or any(r.streams for r in ledger.residents)):
                await self._woken.wait()

    def _observe(self, taken: dict[str, int]) -> None:
        capacity = self._ledger.capacity
        before = set(capacity.overdrawn)
        decisions = self._ledger.observed(taken, self._time())
        for device in sorted(before.symmetric_difference(capacity.overdrawn)):
            self._note_overdraft(device)
        self._carry_out(decisions)  # also without one: who waits for memory looks again
        self._read()

    def _note_overdraft(self, device: str) -> None:
        capacity = self._ledger.capacity
        taken, budget = capacity.taken[device] / MIB, self._ledger.policy.budgets[device] / MIB
        figures = f"{taken:,.0f} MB of {device} for its models, {budget:,.0f} MB are allowed"
        if capacity.is_overdrawn(device):
            said = f"the process takes {figures}; no load begins until it takes less"
            self._note(Kind.OVERDRAWN, "", said)
        else:
            self._note(Kind.RECOVERED, "", f"the process takes {figures}; loads begin again")


def _nothing() -> None:
    pass
