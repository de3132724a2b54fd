"""Ends a manager in bounded time: holders first, then streams, models, tasks and processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor
from greenroom.effects.loader import Loader
from greenroom.effects.preparation import Preparations
from greenroom.hosts.processes import EngineProcesses
from greenroom.hosts.recycler import Recycler
from greenroom.journal import Journal
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Decision, State
from greenroom.memory.footprint_store import FootprintStore
from greenroom.speech.host import ModelHost
from greenroom.untrusted.exceptions import format_traceback
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

# Each wait has a limit of its own; with the 2 s of preparations, all after the drain take 15 s.
STREAMS_LIMIT_S = 3.0
UNLOADS_LIMIT_S = 6.0
TASKS_LIMIT_S = 1.0
PROCESSES_LIMIT_S = 1.0
WRITE_LIMIT_S = 2.0


class Manager(Protocol):
    """What this module needs of `effects.Effects`."""

    ledger: Residency
    loader: Loader
    processes: EngineProcesses
    preparations: Preparations
    recycler: Recycler
    footprints: FootprintStore
    tasks: Tasks
    journal: Journal
    files: DaemonExecutor
    hosting: DaemonExecutor

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""

    def carry_out(self, decisions: Iterable[Decision]) -> None:
        """Do what the ledger decided."""

    def hosts(self) -> list[ModelHost]:
        """Return where the streams of models in memory are counted."""

    async def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until `condition` holds; whether it came in time."""

    def stop_clock(self) -> None:
        """Be no longer running: what is cancelled from now on sets no timer any more."""

    def close_threads(self) -> None:
        """Let the threads end that wait for work."""


async def shut_down(manager: Manager, drain: float) -> None:
    """Wait for holders up to `drain` seconds, then end everything, whatever hangs or fails."""
    if not manager.running:
        return
    ledger = manager.ledger
    # Requests are refused first: no caller may come while the holders are waited for.
    manager.carry_out(ledger.close())
    manager.preparations.close()
    manager.recycler.close()
    await manager.until(lambda: not any(r.in_use for r in ledger.residents), drain)
    # Streams before models: nothing is unloaded under a thread that speaks. The tasks after
    # the unloads, which are tasks. What was measured last, as unloads measure.
    for step in (_stop_streams, _unload_all, _end_tasks, _write_footprints):
        try:
            await step(manager)
        except Exception as error:  # noqa: BLE001 - the next step must be taken all the same
            logger.critical("the shutdown is incomplete: %s", format_traceback(error))
    manager.close_threads()
    manager.journal.close()


async def _stop_streams(manager: Manager) -> None:
    """Let no stream begin and end those that run; wait until no thread speaks, or hangs."""
    hosts = manager.hosts()
    for host in hosts:
        host.retire()
        host.stop_all()
    residents = manager.ledger.residents
    await manager.until(lambda: not any(r.occupied for r in residents), STREAMS_LIMIT_S)
    for host in hosts:
        host.abandon()


async def _unload_all(manager: Manager) -> None:
    """Unload everything but what a thread hangs in; wait until it is gone, or hangs itself."""
    ledger = manager.ledger
    # A load that runs still is undone by its own thread, as soon as the engine lets it.
    manager.loader.close()
    for resident in list(ledger.residents):
        if resident.occupied:
            logger.error("model %s is left behind: a thread hangs in it", resident.model_id)
        elif resident.state in (State.READY, State.DRAINING):
            manager.carry_out(ledger.force_unload(resident.model_id))
    await manager.until(lambda: all(r.occupied for r in ledger.residents), UNLOADS_LIMIT_S)
    for resident in ledger.residents:
        logger.error("model %s did not leave: it is %s", resident.model_id, resident.state)


async def _end_tasks(manager: Manager) -> None:
    # The clock first: what a cancelled task leads to sets no timer any more.
    manager.stop_clock()
    # Begun first: what hangs in a process hangs no longer when that ends.
    ending = _begin_to_end_processes(manager)
    await manager.tasks.end(TASKS_LIMIT_S)
    await manager.preparations.closed()
    if ending is not None:
        await asyncio.gather(
            manager.recycler.closed(), asyncio.wait([ending], timeout=PROCESSES_LIMIT_S)
        )


def _begin_to_end_processes(manager: Manager) -> asyncio.Future[None] | None:
    """Begin to end the processes, if there may be any; what is left ends with this process."""
    if not manager.processes.are_expected:
        return None
    return manager.hosting.submit(manager.processes.close, must_run=True)


async def _write_footprints(manager: Manager) -> None:
    """Write down what was measured; the file system may hang."""
    # Past the executor's limit of one at a time, which a reading that hangs may have used up.
    write = manager.files.submit(manager.footprints.write, must_run=True)
    done, _ = await asyncio.wait([write], timeout=WRITE_LIMIT_S)
    if not done:
        logger.error("what was measured is not remembered: writing it down hangs")
