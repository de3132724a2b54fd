"""Prepares models beside the work, one at a time, and moves those in memory over to the new form.

A preparation is a process of lowest priority. The memory it takes is booked in the ledger before
it starts; as soon as a caller waits for that memory, the preparation is ended and tried again
later. A model moves over at a moment when it does not speak.
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
from greenroom.concurrency.threads import Lane, OverdueError, to_end
from greenroom.journal import Kind
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Decision, Resident
from greenroom.memory import heap
from greenroom.memory.usage import MIB, Usage
from greenroom.untrusted.exceptions import told
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

LIMIT_S = 300.0
"""Preparing takes two to ten seconds of an idle core; whatever takes this long is stuck."""

PATIENCE_S = 1.0
"""How long a preparation that is ended may clean up."""

_LOOK_LIMIT_S = 60.0
_IDLE_LIMIT_S = 60.0
"""A model that speaks without a pause moves over all the same after this long."""

_UPGRADE_LIMIT_S = 60.0
_END_LIMIT_S = 2.0
_MOST = 1_000
"""Models that may wait; more are prepared when they are next loaded."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 300.0
"""Before a preparation that gave way to callers is tried again, twice as long each time."""


class Manager(Protocol):
    """What is needed of the manager's effects."""

    ledger: Residency

    def note(self, kind: Kind, model_id: str, reason: str) -> None:
        """Write down what has happened."""

    def carry_out(self, decisions: Iterable[Decision]) -> None:
        """Do what the ledger decided."""

    def time(self) -> float:
        """Return the time of the loop."""

    def disturb(self, resident: Resident) -> None:
        """Note that what happens now to a model changes the process's memory."""

    def restate(self, resident: Resident, stated: Usage) -> int:
        """Remember what the form takes that is in memory; return what to book."""

    async def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until `condition` holds; whether it came in time."""


@dataclass(frozen=True, slots=True)
class Order:
    """A preparation that a model in memory could use."""

    command: tuple[str, ...]
    """Equal for all models of one voice."""
    size: int
    """Bytes that it takes."""
    done: bool
    """Whether the better form is there already."""


class Preparations:
    """Those of one manager. All methods are called from its event loop."""

    def __init__(self, manager: Manager, children: set[int]) -> None:
        """`children` are the processes whose memory counts as this one's; ours are added."""
        self._manager = manager
        self._children = children
        self._lane = Lane("prepare", 2)
        self._queue: dict[int, Resident] = {}
        self._failed: set[tuple[str, ...]] = set()
        self._refused: set[str] = set()
        """Models of which was said that they never can be prepared here."""
        self._tasks = Tasks()
        self._working = False
        self._closed = False
        self._child: Child | None = None
        self._giving_way = False
        self._pause = _FIRST_PAUSE_S

    def consider(self, resident: Resident) -> None:
        """Have a model that was just loaded prepared, if it can be and is not."""
        asked = type(resident.instance).is_prepared
        if getattr(asked, "__func__", None) is TTSAdapter.is_prepared.__func__:  # type: ignore[attr-defined]
            return  # it has no other form
        if self._closed or len(self._queue) >= _MOST:
            return
        self._queue[resident.number] = resident
        if not self._working:
            self._working = True
            self._tasks.begin(self._work(), "preparations")

    def give_way(self) -> None:
        """End what runs if a caller waits for the memory that is booked for it."""
        if self._giving_way or not self._manager.ledger.reservation_blocks_callers:
            return
        self._giving_way = True
        if self._child is not None:
            self._end(self._child)

    def close(self) -> None:
        """Begin nothing more, and end what runs."""
        self._closed = True
        self._queue.clear()
        if self._child is not None:
            self._end(self._child)

    async def closed(self) -> None:
        """Wait until what ran has ended, for a second or two."""
        await self._tasks.end(_END_LIMIT_S)
        if self._child is not None:
            self._child.kill()
        self._lane.close()

    async def _work(self) -> None:
        try:
            while self._queue and not self._closed:
                resident = self._queue.pop(next(iter(self._queue)))
                try:
                    await self._serve(resident)
                except Exception as error:  # noqa: BLE001 - the one guard: the next has its turn
                    logger.warning("%s is not prepared: %s", resident.model_id, told(error))
        finally:
            self._working = False

    async def _serve(self, resident: Resident) -> None:
        adapter = resident.instance
        if adapter is None:
            return
        order = await self._lane.run(functools.partial(_look, adapter), limit=_LOOK_LIMIT_S)
        del adapter
        if order is None or order.command in self._failed:
            return
        if order.done or await self._prepare(resident, order):
            self._tasks.begin(self._upgrade(resident), f"upgrade {resident.model_id}")

    async def _prepare(self, resident: Resident, order: Order) -> bool:
        """Prepare a voice when there is room; whether it is prepared now."""
        manager, model_id = self._manager, resident.model_id
        if not await self._room(model_id, order.size):
            return False
        try:
            manager.note(Kind.PREPARING, model_id, f"{order.size / MIB:.0f} MB are booked for that")
            problem = await self._run(order)
        finally:
            gave_way, self._giving_way = self._giving_way, False
            manager.carry_out(manager.ledger.unreserve(manager.time()))
        if gave_way and problem:
            await self._put_back(resident)
            return False
        if problem:
            self._failed.add(order.command)
            manager.note(Kind.UNPREPARED, model_id, f"{problem}; its own file serves")
            return False
        self._pause = _FIRST_PAUSE_S
        manager.note(Kind.PREPARED, model_id, "its next load is fast")
        return True

    async def _room(self, model_id: str, size: int) -> bool:
        """Wait until the memory is booked; false if it never can be."""
        ledger, booked = self._manager.ledger, False

        def settled() -> bool:
            nonlocal booked
            booked = booked or ledger.reserve(size)
            return booked or not ledger.can_ever_reserve(size)

        while not await self._manager.until(settled, LIMIT_S):
            pass
        if not booked and model_id not in self._refused:
            self._refused.add(model_id)
            why = f"that takes {size / MIB:.0f} MB, which never are free beside the pinned models"
            fix = "raise memory_budget_mb, or run `greenroom prepare` on a larger machine"
            self._manager.note(Kind.UNPREPARED, model_id, f"{why}; {fix}")
        return booked

    async def _run(self, order: Order) -> str:
        """Run the command to its end; return what went wrong, or nothing."""
        try:
            call = functools.partial(self._carry_through, order.command)
            return await to_end(self._lane.submit(call), limit_when_cancelled=_END_LIMIT_S)
        except OverdueError:  # cancelled, and the child runs on: `closed` kills it
            raise asyncio.CancelledError from None
        except (OSError, ValueError) as error:
            return f"it cannot be started: {error}"
        finally:
            self._child = None

    def _carry_through(self, command: tuple[str, ...]) -> str:
        """Start the process and wait for its end; runs in a thread."""
        self._child = child = Child(command)
        if self._closed or self._giving_way:  # decided while it was being started
            child.ask_to_end()
        self._children.add(child.pid)
        try:
            return child.wait(LIMIT_S, patience=PATIENCE_S)
        finally:
            self._children.discard(child.pid)

    def _end(self, child: Child) -> None:
        child.ask_to_end()
        asyncio.get_running_loop().call_later(PATIENCE_S, child.kill)

    async def _put_back(self, resident: Resident) -> None:
        """Try again later, in peace."""
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE_S)
        reason = f"it gave way to callers; again in {pause:g} s at the earliest"
        self._manager.note(Kind.UNPREPARED, resident.model_id, reason)
        await asyncio.sleep(pause)
        self._queue.setdefault(resident.number, resident)

    async def _upgrade(self, resident: Resident) -> None:
        """Move a model over to the form that is there now."""
        manager = self._manager
        await manager.until(lambda: not resident.streams, _IDLE_LIMIT_S)
        if self._closed or not manager.ledger.begin_upgrade(resident):
            return
        footprint: int | None = None
        manager.disturb(resident)
        try:
            footprint = await self._moved(resident)
        except OverdueError as late:  # it stays until the thread has left the engine
            with contextlib.suppress(Exception):
                await late.call
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises, the old form serves
            logger.warning("%s stays in its form: %s", resident.model_id, told(error))
        finally:
            manager.carry_out(manager.ledger.end_upgrade(resident, manager.time(), footprint))

    async def _moved(self, resident: Resident) -> int | None:
        """Have the adapter do it; return what to book from now on, `None` if that is not known."""
        move = functools.partial(_upgraded, resident.instance)
        moved = await self._lane.run(move, limit=_UPGRADE_LIMIT_S)
        if moved is None:
            return None
        resident.form, stated = moved
        footprint = None
        booked = ""
        if stated is not None:
            footprint = self._manager.restate(resident, stated)
            before = f"{resident.footprint / MIB:.0f} MB"
            booked = f"; {footprint / MIB:.0f} MB are booked in the place of {before}"
        self._manager.note(Kind.UPGRADED, resident.model_id, f"to its {resident.form} form{booked}")
        return footprint


def _look(adapter: TTSAdapter) -> Order | None:
    """Return the preparation that an adapter could use, if any; runs in a thread."""
    kind, spec = type(adapter), adapter.spec
    prepared = kind.is_prepared(spec)
    if prepared is None or (prepared and form_of(adapter) == kind.next_form(spec)):
        return None
    command = tuple(map(str, kind.preparation(spec)))
    return Order(command, max(0, int(kind.preparation_bytes(spec))), bool(prepared))


def _upgraded(adapter: TTSAdapter) -> tuple[str, Usage | None] | None:
    """Move over; return the form and what is stated of it, `None` if nothing was to be done."""
    if not adapter.upgrade():
        return None
    heap.trim()
    stated = memory_of(adapter, adapter.spec.model_id)
    taken = None if stated.anonymous is None else Usage(stated.anonymous, stated.mapped or 0)
    return stated.form, taken
