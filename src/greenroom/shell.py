"""Carries out what the ledger decides, and reports back to it.

Every change of state is one synchronous call of the ledger followed by `carry_out`; nothing is
awaited between reading state and changing it. Loads and unloads are tasks of the shell's own, so a
caller that gives up ends only its own wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any

from greenroom.accounts import LEAKING_LIVES, Accounts
from greenroom.adapter import TTSAdapter
from greenroom.catalog import Catalog
from greenroom.config import ManagerSettings
from greenroom.errors import (
    CapacityError,
    ManagerClosedError,
    ModelLoadError,
    ModelManagerError,
)
from greenroom.footprints import Footprints
from greenroom.hosting import ModelHost
from greenroom.journal import Journal, Kind
from greenroom.lifecycle import Arrival, Departure, Hung, Lifecycle
from greenroom.measuring import Life
from greenroom.memory import MIB, Usage
from greenroom.process_memory import ProcessMemory
from greenroom.residency import Residency
from greenroom.residents import (
    Decision,
    Demand,
    Granted,
    Joined,
    Load,
    Reason,
    Refused,
    Resident,
    State,
    Ticket,
    Unload,
    Wait,
)
from greenroom.settings import policy_for
from greenroom.speech import ModelSpec
from greenroom.threads import Lane

logger = logging.getLogger(__name__)

_LOOK_LIMIT_S = 2.0
"""How long a caller waits for a look at its model's file."""

_LOOK_PERIOD_S = 1.0
"""How often the memory of the process is looked at while it may change."""

UNLOAD_LIMIT_S = 10.0
"""An unload that takes longer is overdue: nobody counts on its room until it really ends."""


class Shell:
    """The ledger's hands: tasks, threads, timer and journal of one manager."""

    def __init__(self, settings: ManagerSettings, catalog: Catalog) -> None:
        self.settings = settings
        self.catalog = catalog
        self.journal = Journal()
        self.ledger = Residency(policy_for(settings, catalog))
        self.departures: dict[int, asyncio.Task[str | None]] = {}
        """The unloads under way, by the number of the resident; each returns its problem."""
        self.now: Callable[[], float] = not_running
        """The time of the loop; raises `ManagerClosedError` before the start and after the end."""
        self.accounts = Accounts()
        self.footprints = Footprints()
        self._process = ProcessMemory(self.ledger.policy.budgets)
        self._lifecycle = Lifecycle(
            load_limit=settings.load_timeout_ms / 1000,
            unload_limit=UNLOAD_LIMIT_S,
            warmup_text=settings.warmup_text,
        )
        self._speaking = Lane("speak", max(4, os.cpu_count() or 1))
        self._looking = Lane("look", 1)
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._waiters: dict[Ticket, asyncio.Future[TTSAdapter]] = {}
        self._hosts: dict[int, ModelHost] = {}
        self._lives: dict[int, Life] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._stirred = asyncio.Event()
        """Set when memory may have changed: something was loaded, unloaded or spoke."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.now is not not_running

    async def start(self) -> None:
        """Take the time from the running loop, and read what earlier runs measured."""
        self.now = asyncio.get_running_loop().time
        await self._looking.run(self.footprints.read)
        await self._looking.run(self._process.begin)
        self._own(self._watch_memory(), "memory")

    async def stop_streams(self) -> None:
        """Let no stream begin and end those that run; wait until no thread speaks, or hangs."""
        for host in list(self._hosts.values()):
            host.retire()
            host.stop_all()
        await self.until(lambda: not any(r.streams for r in self.ledger.residents), UNLOAD_LIMIT_S)

    async def expel_all(self) -> None:
        """Unload everything but what a thread hangs in; wait until it is gone, or hangs itself."""
        self._lifecycle.close()
        for resident in list(self.ledger.residents):
            if resident.streams:
                logger.error("model %s is left behind: a thread hangs in it", resident.model_id)
            elif resident.state in (State.READY, State.DRAINING):
                self.carry_out(self.ledger.expel(resident.model_id))
        await self.until(lambda: all(r.streams for r in self.ledger.residents), UNLOAD_LIMIT_S)
        for resident in self.ledger.residents:
            logger.error("model %s did not leave: it is %s", resident.model_id, resident.state)

    async def end(self) -> None:
        """End every task, whatever it waits for, and remember what was measured."""
        self.now = not_running
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._looking.run(self.footprints.write)
        self._looking.close()
        self._speaking.close()
        self.journal.close()

    async def look_at(self, spec: ModelSpec) -> None:
        """Look at the model's file before room is made for it.

        One look for all who ask, and one at a time, so that callers keep the order in which they
        came and share the load that follows. A file system that hangs holds them up for a moment
        only: the load itself has its own limit.
        """
        if self.footprints.knows(spec):
            return
        look = self._looks.get(spec.model_id)
        if look is None:
            look = self._looks[spec.model_id] = self._own(self._look_at(spec), "look")
            look.add_done_callback(lambda _: self._looks.pop(spec.model_id))
        await asyncio.wait([look])

    async def _look_at(self, spec: ModelSpec) -> None:
        look = functools.partial(self.footprints.look_at, spec)
        with contextlib.suppress(TimeoutError):
            await self._looking.run(look, limit=_LOOK_LIMIT_S)

    async def _watch_memory(self) -> None:
        """Compare what the process takes with the budget, as long as that may change."""
        while True:
            self._stirred.clear()
            self._observe(await self._looking.submit(self._process.read))
            await asyncio.sleep(_LOOK_PERIOD_S)
            if not (self.ledger.room.overdrawn or any(r.streams for r in self.ledger.residents)):
                await self._stirred.wait()

    def _observe(self, taken: dict[str, int]) -> None:
        room = self.ledger.room
        before = set(room.overdrawn)
        decisions = self.ledger.observed(taken, self.time())
        for device in sorted(before.symmetric_difference(room.overdrawn)):
            self._note_overdraft(device)
        if decisions:
            self.carry_out(decisions)

    def _note_overdraft(self, device: str) -> None:
        room = self.ledger.room
        taken, budget = room.taken[device] / MIB, self.ledger.policy.budgets[device] / MIB
        figures = f"{taken:,.0f} MB of {device} for its models, {budget:,.0f} MB are allowed"
        if room.is_overdrawn(device):
            said = f"the process takes {figures}; no load begins until it takes less"
            self.note(Kind.OVERDRAWN, "", said)
        else:
            self.note(Kind.RECOVERED, "", f"the process takes {figures}; loads begin again")

    async def request(self, spec: ModelSpec, owner: Hashable) -> TTSAdapter:
        """Ask the ledger for a model that was no hit, and wait for its answer."""
        waiter: asyncio.Future[TTSAdapter] = asyncio.get_running_loop().create_future()
        ticket, decisions = self.ledger.request(self._demand(spec), owner, self.now())
        self._waiters[ticket] = waiter
        self.carry_out(decisions)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                waiter.exception()
            self.carry_out(self.ledger.cancel(ticket, self.time()))
            raise
        finally:
            del self._waiters[ticket]

    def carry_out(self, decisions: Iterable[Decision], error: ModelLoadError | None = None) -> None:
        """Do what the ledger decided, write it down, and set the timer for what is due next."""
        for decision in decisions:
            match decision:
                case Load(resident):
                    self.note(Kind.LOADING, resident.model_id, Reason.ASKED)
                    self._own(self._bring_in(resident), f"load {resident.model_id}")
                case Unload(resident, reason):
                    self.note(Kind.UNLOADING, resident.model_id, reason)
                    departure = self._own(self._take_out(resident), f"unload {resident.model_id}")
                    self.departures[resident.number] = departure
                case Granted(ticket, resident):
                    self._answer(ticket, resident.instance)
                case Joined(ticket):
                    self.note(Kind.JOINED, ticket.model_id, "shares the load", ticket.owner)
                case Wait(ticket):
                    self.note(Kind.WAITING, ticket.model_id, "for room", ticket.owner)
                case Refused(ticket, reason):
                    self.note(Kind.REFUSED, ticket.model_id, reason, ticket.owner)
                    self._answer(ticket, refusal(decision, error))
        self._changed.set()
        self._set_timer()

    def _answer(self, ticket: Ticket, answer: TTSAdapter | ModelManagerError) -> None:
        waiter = self._waiters.get(ticket)
        if waiter is None or waiter.done():
            return
        if isinstance(answer, ModelManagerError):
            waiter.set_exception(answer)
        else:
            waiter.set_result(answer)

    async def _bring_in(self, resident: Resident) -> None:
        spec = self.catalog.get(resident.model_id)
        alone = self.ledger.room.is_alone(resident)
        try:
            arrival = await self._lifecycle.bring_in(
                spec, functools.partial(self._warming, resident), quiet=self._quiet()
            )
        except Hung as hung:
            self._failed(resident, hung.error, gone=False)
            await self._lifecycle.end_of(hung)
            self.note(Kind.GONE, resident.model_id, "the hanging load has ended")
            self.carry_out(self.ledger.gone(resident, self.time()))
            return
        except ModelLoadError as error:
            self._failed(resident, error, gone=True)
            return
        self._lives[resident.number] = arrival.life
        host = self._host(resident, arrival.adapter, arrival.life)
        arrival.adapter._host = self._hosts[resident.number] = host
        footprint = self._learn(spec, arrival, alone=alone)
        resident.mapped = self.footprints.mapped(spec, arrival.adapter.form)
        took = f"loaded in {arrival.load_s:.3f} s, warmed up in {arrival.warmup_s:.3f} s"
        self.note(Kind.READY, resident.model_id, took, took_s=arrival.warmup_s)
        self.carry_out(
            self.ledger.loaded(
                resident,
                arrival.adapter,
                self.time(),
                warmup_s=arrival.warmup_s,
                footprint=footprint,
            )
        )

    def _quiet(self) -> bool:
        return not any(resident.streams for resident in self.ledger.residents)

    def _learn(self, spec: ModelSpec, arrival: Arrival, *, alone: bool) -> int | None:
        """Remember what the model takes; return what to book, `None` if nothing is known anew."""
        taken, stated, form = arrival.taken, arrival.stated, arrival.adapter.form
        self.accounts.took(spec.model_id, None if taken is None else taken.anonymous)
        booked = None
        if taken is not None:
            mapped = taken.mapped if arrival.stated_mapped is None else arrival.stated_mapped
            grown = Usage(taken.anonymous, mapped)
            booked = self.footprints.measured(spec, form, grown, alone=alone)
        if stated is not None:
            known = self.footprints.mapped(spec, form)
            said = arrival.stated_mapped
            booked = self.footprints.stated(
                spec, form, Usage(stated, known if said is None else said)
            )
        return booked

    def _warming(self, resident: Resident, load_s: float) -> None:
        self.ledger.warming(resident, load_s)
        self.note(Kind.WARMING, resident.model_id, f"loaded in {load_s:.3f} s", took_s=load_s)
        self._changed.set()

    def _failed(self, resident: Resident, error: ModelLoadError, *, gone: bool) -> None:
        self.note(Kind.FAILED, resident.model_id, error.problem)
        self.footprints.look_again(self.catalog.get(resident.model_id))
        self.carry_out(self.ledger.failed(resident, error.problem, self.time(), gone=gone), error)

    async def _take_out(self, resident: Resident) -> str | None:
        """Unload, report, and return what went wrong, if anything."""
        host = self._hosts.pop(resident.number, None)
        if host is not None:
            host.retire()
        adapter, resident.instance = resident.instance, None
        form = adapter.form
        life = self._lives.pop(resident.number)
        departure, end = self._lifecycle.take_out(
            adapter, resident.device, life, quiet=self._quiet()
        )
        del adapter
        done, _ = await asyncio.wait([end], timeout=UNLOAD_LIMIT_S)
        if not done:
            self.note(Kind.OVERDUE, resident.model_id, "the engine hangs; its room stays booked")
            self.carry_out(self.ledger.overdue(resident, self.time()))
            await asyncio.wait([end])
        raised = end.exception()
        problem = None if raised is None else f"{type(raised).__name__}: {raised}"
        if problem is not None:
            self.note(Kind.FAILED, resident.model_id, f"unloading: {problem}")
        self.note(Kind.GONE, resident.model_id, "its memory is given back")
        self._settle(resident.model_id, form, departure)
        self.departures.pop(resident.number, None)
        self.carry_out(self.ledger.gone(resident, self.time()))
        return problem

    def _settle(self, model_id: str, form: str, departure: Departure) -> None:
        """Write down what came back, and report a model that leaves more behind each time."""
        spec, returned, remainder = (
            self.catalog.get(model_id),
            departure.returned,
            departure.remainder,
        )
        if returned is not None and remainder is not None:
            self.footprints.returned(spec, form, returned)
        self.footprints.look_again(spec)
        left = self.accounts.gave_back(model_id, returned, remainder)
        if left is not None:
            lives = f"{left / MIB:.1f} MB in its last {LEAKING_LIVES} lives"
            self.note(Kind.LEAKING, model_id, f"it leaves memory behind each time: {lives}")

    def hanging(self) -> tuple[str, ...]:
        """Return the models that a thread is inside of which was written off."""
        hosts = self._hosts
        return tuple(
            resident.model_id
            for resident in self.ledger.residents
            if resident.hanging or (resident.number in hosts and hosts[resident.number].hanging)
        )

    def _host(self, resident: Resident, adapter: TTSAdapter, life: Life) -> ModelHost:
        def opened() -> None:
            life.watch.disturb()
            self._stirred.set()
            self.ledger.open_stream(resident)

        def closed() -> None:
            self._stirred.set()
            decisions = self.ledger.close_stream(resident, self.time())
            if decisions is not None:
                self.carry_out(decisions)
            self._changed.set()

        return ModelHost(
            resident.model_id,
            lane=self._speaking,
            concurrency=adapter.concurrency,
            limit=self.settings.load_timeout_ms / 1000,
            opened=opened,
            closed=closed,
        )

    def _demand(self, spec: ModelSpec) -> Demand:
        ttl = None if spec.ttl_ms is None else spec.ttl_ms / 1000
        expected = self.footprints.expected(spec)
        return Demand(spec.model_id, spec.device, expected.footprint, ttl, expected.least)

    def _own(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine, name=f"greenroom {name}")
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        self._stirred.set()
        return task

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._stirred.set()
        if not task.cancelled() and task.exception() is not None:
            logger.critical("%s failed", task.get_name(), exc_info=task.exception())

    async def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until `condition` holds, looking at every change; whether it came in time."""
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    def _set_timer(self) -> None:
        if not self.running:
            return
        now = self.now()
        latest = now + self.settings.evict_check_interval_ms / 1000
        due = min(self.ledger.next_due(), latest)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.carry_out(self.ledger.tick(self.now()))

    def time(self) -> float:
        """Return the loop's time, also after the end."""
        return asyncio.get_running_loop().time()

    def note(
        self,
        kind: Kind,
        model_id: str,
        reason: str,
        owner: Hashable = None,
        *,
        took_s: float | None = None,
    ) -> None:
        """Write down what was decided or has happened: in the journal, and as one log line."""
        name = None if owner is None else str(owner)
        self.journal.record(kind, model_id, reason, self.time(), owner=name, took_s=took_s)
        extra = {"greenroom_kind": str(kind), "greenroom_model_id": model_id}
        logger.log(
            _LEVELS.get(kind, logging.INFO), "%s %s: %s", model_id, kind, reason, extra=extra
        )


_LEVELS = {
    Kind.JOINED: logging.DEBUG,
    Kind.WAITING: logging.DEBUG,
    Kind.LEAKING: logging.WARNING,
    Kind.REFUSED: logging.WARNING,
    Kind.FAILED: logging.ERROR,
    Kind.OVERDUE: logging.ERROR,
    Kind.OVERDRAWN: logging.WARNING,
}


def not_running() -> float:
    """Be the clock of a manager that does not run."""
    raise ManagerClosedError(
        "the manager is not running; call `await manager.initialize()`, or use `async with`."
    )


def refusal(decision: Refused, error: ModelLoadError | None) -> ModelManagerError:
    """Return the error for one caller; callers share the cause, not the error."""
    model_id, wait = decision.ticket.model_id, decision.retry_after
    match decision.reason:
        case Reason.SHUTDOWN:
            return ManagerClosedError("the manager is shutting down; ask another worker.")
        case Reason.LOAD_FAILED if error is not None:
            own = type(error)(model_id, error.problem, wait)
            own.__cause__ = error.__cause__
            return own
        case Reason.BACKING_OFF | Reason.LOAD_FAILED:
            return ModelLoadError(model_id, decision.problem, wait)
    return CapacityError(model_id, decision.reason, wait)
