"""Prepare models in the background, one at a time, and move those in memory over to the new form.

For each model that was loaded, in this order:

1. Its adapter's `preparation` says whether there is a better form, and the command that makes it.
2. The memory that the command takes is reserved in the ledger. Nothing is evicted for it.
3. The command runs as a process of lowest priority. As soon as a caller waits for the memory that
   is reserved, the process is ended, and tried again later.
4. The model moves over (`TTSAdapter.upgrade`) at a moment when it does not speak.

No failure here fails a caller: the model goes on in the form that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from greenroom.adapter import TTSAdapter
from greenroom.adapters.stated import form_of, memory_of
from greenroom.concurrency.child_process import Child
from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor, OverdueError, to_end
from greenroom.journal import Kind
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Decision, Resident, SharedPart
from greenroom.memory import heap
from greenroom.memory.usage import MIB, Usage
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

LIMIT_S = 300.0
"""Of a command: it takes two to ten seconds of an idle core, so one that takes this long hangs."""

PATIENCE_S = 1.0
"""How long a process that is asked to end may clean up before it is killed."""

_ASK_LIMIT_S = 60.0
"""Of asking an adapter what there is to prepare: its own code, which looks at the disk."""

_IDLE_LIMIT_S = 60.0
"""A model that speaks without a pause moves over all the same after this long."""

_UPGRADE_LIMIT_S = 60.0
"""Of moving a model over: it takes a fraction of a second, so one that takes this long hangs."""

_END_LIMIT_S = 2.0
"""Of all that runs, when the manager shuts down: callers of `shutdown` wait for it."""

_MOST_QUEUED = 1_000
"""More models are not queued, but prepared when they are next loaded."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 300.0
"""Before a preparation that gave way to callers is tried again, twice as long each time."""


class Manager(Protocol):
    """What this module needs of `effects.Effects`."""

    ledger: Residency

    def note(self, kind: Kind, model_id: str, reason: str) -> None:
        """Write down what has happened."""

    def carry_out(self, decisions: Iterable[Decision]) -> None:
        """Do what the ledger decided."""

    def time(self) -> float:
        """Return the time of the loop."""

    def disturb(self, resident: Resident) -> None:
        """Note that what happens now to a model changes the process's memory."""

    def restate(self, resident: Resident, stated: Usage, shared: SharedPart | None) -> int:
        """Remember what the form takes that is in memory; return what to book of its own."""

    async def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until `condition` holds; whether it came in time."""


@dataclass(frozen=True, slots=True)
class Job:
    """How a better form of a model in memory comes about."""

    command: tuple[str, ...]
    """Equal for all models that it prepares."""
    memory_bytes: int
    """What the command takes."""
    is_done: bool
    """Whether the better form is kept already, so that the model need only move over."""


class Preparations:
    """The background preparations of one manager. All methods are called from its event loop."""

    def __init__(self, manager: Manager, children: set[int]) -> None:
        """`children` are process ids whose memory counts as this process's; ours are added."""
        self._manager = manager
        self._children = children
        self._executor = DaemonExecutor("prepare", 2)
        self._queue: dict[int, Resident] = {}
        self._failed: set[tuple[str, ...]] = set()
        """Commands that are not run again: they would fail again, and take seconds of a core."""
        self._never_fits: set[str] = set()
        """Models whose preparation never fits the budget, so that this is reported once."""
        self._tasks = Tasks()
        self._working = False
        self._closed = False
        self._child: Child | None = None
        self._reserves = False
        """Whether the ledger's reservation is for a command."""
        self._giving_way = False
        self._pause = _FIRST_PAUSE_S

    def consider(self, resident: Resident) -> None:
        """Queue a model that was just loaded, if its engine prepares models at all.

        What there is to do for it is found out later in a thread: the adapter may look at the disk.
        """
        if getattr(resident.instance, "preparation", None) is None:
            return
        if self._closed or len(self._queue) >= _MOST_QUEUED:
            return
        self._queue[resident.number] = resident
        if not self._working:
            self._working = True
            self._tasks.begin(self._work(), "preparations")

    def give_way(self) -> None:
        """End the running command if a caller waits for the memory that is reserved for it."""
        # It may be reserved for something else, as for a model that moves to a fresh process.
        if self._giving_way or not self._reserves:
            return
        if not self._manager.ledger.reservation_blocks_callers:
            return
        self._giving_way = True
        if self._child is not None:
            self._end(self._child)

    def close(self) -> None:
        """Begin nothing more, and ask the running command to end."""
        self._closed = True
        self._queue.clear()
        if self._child is not None:
            self._end(self._child)

    async def closed(self) -> None:
        """Wait until everything has ended, at most two seconds; then kill the command."""
        await self._tasks.end(_END_LIMIT_S)
        if self._child is not None:
            self._child.kill()
        self._executor.close()

    async def _work(self) -> None:
        try:
            while self._queue and not self._closed:
                resident = self._queue.pop(next(iter(self._queue)))
                try:
                    await self._prepare_and_upgrade(resident)
                except Exception as error:  # noqa: BLE001 - the adapter's: the next has its turn
                    logger.warning(
                        "%s is not prepared: %s", resident.model_id, describe_error(error)
                    )
        finally:
            self._working = False

    async def _prepare_and_upgrade(self, resident: Resident) -> None:
        adapter = resident.instance
        if adapter is None:  # it left while it was queued
            return
        job = await self._executor.run(functools.partial(_job_of, adapter), limit=_ASK_LIMIT_S)
        del adapter  # the model may leave while its form is made: nothing here keeps it in memory
        if job is None or job.command in self._failed:
            return
        if job.is_done or await self._prepare(resident, job):
            # A task of its own: it waits for a pause in the speech, and the next model need not.
            self._tasks.begin(self._upgrade(resident), f"upgrade {resident.model_id}")

    async def _prepare(self, resident: Resident, job: Job) -> bool:
        """Run the command when its memory is free; return whether the model is prepared now."""
        manager, model_id = self._manager, resident.model_id
        if not await self._reserve(model_id, job.memory_bytes):
            return False
        self._reserves = True
        try:
            booked = f"{job.memory_bytes / MIB:.0f} MB are booked for that"
            manager.note(Kind.PREPARING, model_id, booked)
            problem = await self._run(job)
        finally:
            # Before anything else is awaited: callers may wait for this very memory.
            gave_way, self._giving_way = self._giving_way, False
            self._reserves = False
            manager.carry_out(manager.ledger.unreserve(manager.time()))
        if gave_way and problem:
            await self._retry_later(resident)
            return False
        if problem:
            self._failed.add(job.command)
            manager.note(Kind.UNPREPARED, model_id, f"{problem}; its own file serves")
            return False
        self._pause = _FIRST_PAUSE_S
        manager.note(Kind.PREPARED, model_id, "its next load is fast")
        return True

    async def _reserve(self, model_id: str, size: int) -> bool:
        """Wait until the memory is reserved; return false if it never can be."""
        ledger, booked = self._manager.ledger, False

        def settled() -> bool:
            nonlocal booked
            booked = booked or ledger.reserve(size)
            return booked or not ledger.can_ever_reserve(size)

        while not await self._manager.until(settled, LIMIT_S):
            pass  # there is no limit: models may be busy for hours, and nothing is lost by waiting
        if not booked and model_id not in self._never_fits:
            self._never_fits.add(model_id)
            why = f"that takes {size / MIB:.0f} MB, which never are free beside the pinned models"
            fix = "raise memory_budget_mb, or run `greenroom prepare` on a larger machine"
            self._manager.note(Kind.UNPREPARED, model_id, f"{why}; {fix}")
        return booked

    async def _run(self, job: Job) -> str:
        """Run the command to its end; return what went wrong, or nothing."""
        try:
            call = functools.partial(self._run_child, job.command)
            return await to_end(self._executor.submit(call), limit_when_cancelled=_END_LIMIT_S)
        except OverdueError:  # cancelled, and the child runs on: `closed` kills it
            raise asyncio.CancelledError from None
        except (OSError, ValueError) as error:
            return f"it cannot be started: {error}"
        finally:
            self._child = None

    def _run_child(self, command: tuple[str, ...]) -> str:
        """Start the process and wait for its end; runs in a thread, as both of them block."""
        self._child = child = Child(command)
        # `close` and `give_way` end `_child`, which they did not find while it was being started.
        if self._closed or self._giving_way:
            child.ask_to_end()
        self._children.add(child.pid)
        try:
            return child.wait(LIMIT_S, patience=PATIENCE_S)
        finally:
            self._children.discard(child.pid)

    def _end(self, child: Child) -> None:
        child.ask_to_end()
        asyncio.get_running_loop().call_later(PATIENCE_S, child.kill)

    async def _retry_later(self, resident: Resident) -> None:
        """Queue the model again after a pause, in which no other preparation runs either."""
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE_S)
        reason = f"it gave way to callers; again in {pause:g} s at the earliest"
        self._manager.note(Kind.UNPREPARED, resident.model_id, reason)
        await asyncio.sleep(pause)
        self._queue.setdefault(resident.number, resident)

    async def _upgrade(self, resident: Resident) -> None:
        """Move a model over to the better form, which is kept now."""
        manager = self._manager
        await manager.until(lambda: not resident.streams, _IDLE_LIMIT_S)
        if self._closed or not manager.ledger.begin_upgrade(resident):
            return
        footprint: int | None = None
        shared: SharedPart | None = None
        manager.disturb(resident)
        try:
            footprint, shared = await self._call_upgrade(resident)
        except OverdueError as late:  # it must not be unloaded while the thread is in the engine
            with contextlib.suppress(Exception):
                await late.call
        except Exception as error:  # noqa: BLE001 - the adapter's, of any kind: the old form serves
            logger.warning("%s stays in its form: %s", resident.model_id, describe_error(error))
        finally:
            now = manager.time()
            manager.carry_out(manager.ledger.end_upgrade(resident, now, footprint, shared))

    async def _call_upgrade(self, resident: Resident) -> tuple[int | None, SharedPart | None]:
        """Call the adapter; return what to book from now on, of its own and shared with others.

        Nothing where that is not known.
        """
        call = functools.partial(_upgrade_adapter, resident.instance)
        upgraded = await self._executor.run(call, limit=_UPGRADE_LIMIT_S)
        if upgraded is None:
            return None, None
        resident.form, stated, shared = upgraded
        footprint = None
        booked = ""
        if stated is not None:
            footprint = self._manager.restate(resident, stated, shared)
            before = f"{resident.footprint / MIB:.0f} MB"
            booked = f"; {footprint / MIB:.0f} MB are booked in the place of {before}"
            if shared is not None:
                booked += f", beside {shared.size / MIB:.0f} MB of {shared.name}"
        self._manager.note(Kind.UPGRADED, resident.model_id, f"to its {resident.form} form{booked}")
        return footprint, shared


def _job_of(adapter: TTSAdapter) -> Job | None:
    """Return how a better form of the model comes about, if there is one; runs in a thread."""
    preparation, spec = adapter.preparation, adapter.spec
    prepared = preparation.is_prepared(spec) if preparation is not None else None
    if preparation is None or prepared is None:
        return None
    if prepared and form_of(adapter) == preparation.next_form(spec):  # it has the best form
        return None
    command = tuple(map(str, preparation.command(spec)))
    return Job(command, max(0, int(preparation.memory_bytes(spec))), bool(prepared))


def _upgrade_adapter(adapter: TTSAdapter) -> tuple[str, Usage | None, SharedPart | None] | None:
    """Move over; return the form and what is stated of it, `None` if there was nothing to do."""
    if not adapter.upgrade():
        return None
    heap.trim()
    stated = memory_of(adapter, adapter.spec.model_id)
    taken = None if stated.anonymous is None else Usage(stated.anonymous, stated.mapped or 0)
    return stated.form, taken, stated.shared
