"""Moves models out of a process that keeps more and more memory, without a caller noticing.

What an engine leaks in its process comes back when that ends. So when a process has grown far
beyond what is booked for its models, each of them is loaded in a fresh one, which the next
sentence is spoken in; sentences that run go on where they are, and the old process ends with the
last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor
from greenroom.hosts.engine_process import EngineProcess
from greenroom.hosts.hosted_adapter import HostedAdapter
from greenroom.hosts.processes import EngineProcesses
from greenroom.journal import Kind
from greenroom.ledger.capacity import RESERVED_ON
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Decision, Resident, State
from greenroom.memory.usage import MIB
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

KEPT_BYTES = 128 * MIB
KEPT_SHARE = 0.5
"""A process may take so much more than is booked for its models, whichever is more: what is booked
is an expectation, and allocators keep some of what they had."""

PAUSE_S = 600.0
"""How long after one the next may come: where it did not help, it would not help again soon."""

ROOM_LIMIT_S = 10.0
"""How long a move waits for the memory of the second copy to be free. Then it happens all the same:
what the process keeps too much is taken from all others until it does."""

_END_LIMIT_S = 1.0


class Manager(Protocol):
    """What this module needs of `effects.Effects`."""

    ledger: Residency

    def note(self, kind: Kind, model_id: str, reason: str) -> None:
        """Write down what has happened."""

    def carry_out(self, decisions: Iterable[Decision]) -> None:
        """Do what the ledger decided."""

    def time(self) -> float:
        """Return the time of the loop."""

    async def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until `condition` holds; whether it came in time."""


class Recycler:
    """Watches the processes of one manager. All methods are called from its event loop."""

    def __init__(self, manager: Manager, processes: EngineProcesses) -> None:
        self._manager = manager
        self._processes = processes
        self._executor = DaemonExecutor("recycle", 1)
        self._tasks = Tasks()
        self._not_before = 0.0
        self._closed = False
        processes.spare_bytes = self._spare_bytes

    def _spare_bytes(self) -> int:
        """Return what of the budget is neither booked nor taken; counts alone, from any thread."""
        ledger, device = self._manager.ledger, RESERVED_ON
        capacity = ledger.capacity
        booked = capacity.booked[device] + capacity.reserved
        return ledger.policy.budgets[device] - max(booked, capacity.taken[device])

    def consider(self) -> None:
        """Recycle a process that keeps too much; `EngineProcess.growth_bytes` was just asked.

        And have those that linger end, where their memory is needed.
        """
        self._processes.give_way()
        now = self._manager.time()
        if self._closed or now < self._not_before:
            return
        for process in self._processes.all:
            residents = self._residents_of(process)
            booked = sum(resident.footprint for resident in residents)
            if residents and keeps_too_much(process.growth, booked):
                self._not_before = now + PAUSE_S
                self._tasks.begin(self._recycle(process, residents, booked), "recycle")
                return

    def _residents_of(self, process: EngineProcess) -> list[Resident]:
        return [
            resident
            for resident in self._manager.ledger.residents
            if isinstance(resident.instance, HostedAdapter) and resident.instance.lives_in(process)
        ]

    async def _recycle(
        self, process: EngineProcess, residents: list[Resident], booked: int
    ) -> None:
        kept = f"its process took {process.growth / MIB:.0f} MB, {booked / MIB:.0f} MB are booked"
        manager = self._manager
        self._processes.retire(process)
        for resident in residents:
            # One after another: meanwhile one model is there twice.
            has_room = await self._reserve(resident)
            try:
                if await self._move(resident):
                    manager.note(Kind.RECYCLED, resident.model_id, f"{kept}; it has another")
            except Exception as error:  # noqa: BLE001 - the engine's, of any kind: it stays where it is
                logger.warning(
                    "%s stays in its process: %s", resident.model_id, describe_error(error)
                )
            finally:
                if has_room:
                    manager.carry_out(manager.ledger.unreserve(manager.time()))

    async def _reserve(self, resident: Resident) -> bool:
        """Wait until the memory of a second copy is booked, and return whether it is.

        Nobody leaves for it, and callers go first. On another device there is nothing to reserve.
        """
        ledger, booked = self._manager.ledger, False

        def settled() -> bool:
            nonlocal booked
            booked = booked or ledger.reserve(resident.footprint)
            return booked

        return resident.device == RESERVED_ON and await self._manager.until(settled, ROOM_LIMIT_S)

    async def _move(self, resident: Resident) -> bool:
        manager = self._manager
        # It must not be unloaded meanwhile, nor be in the midst of moving to another form.
        if resident.state is not State.READY or not manager.ledger.begin_upgrade(resident):
            return False
        try:
            await self._executor.run(resident.instance.move)
        finally:
            manager.carry_out(manager.ledger.end_upgrade(resident, manager.time()))
        return True

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True

    async def closed(self) -> None:
        """Wait until everything has ended, at most a second."""
        await self._tasks.end(_END_LIMIT_S)
        self._executor.close()


def keeps_too_much(growth: int, booked: int) -> bool:
    """Whether a process has grown far beyond what is booked for its models; sizes in bytes."""
    return growth > booked + max(KEPT_BYTES, KEPT_SHARE * booked)
