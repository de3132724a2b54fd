"""Carries out what the ledger decides, and reports back to it.

Every change of state is one synchronous call of the ledger followed by `carry_out`; nothing is
awaited between reading state and changing it. Loads and unloads are tasks of their own, so a
caller that gives up ends only its own wait.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.catalog.catalog import Catalog
from greenroom.concurrency.condition import Changes, Timer
from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import Lane, NoThreadError, OverdueError
from greenroom.config.schema import ManagerSettings
from greenroom.errors import (
    CapacityError,
    LoadTimeoutError,
    ManagerClosedError,
    ModelLoadError,
    ModelManagerError,
    WarmupError,
)
from greenroom.journal import Journal, Kind
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Granted,
    Joined,
    Load,
    ModelRequest,
    Reason,
    Refused,
    Resident,
    State,
    Ticket,
    Unload,
    Wait,
)
from greenroom.loader import Arrival, Departure, Hung, Lifecycle
from greenroom.memory.budget import policy_for
from greenroom.memory.file_lookup import Looks
from greenroom.memory.footprint_store import FootprintStore
from greenroom.memory.leaks import LEAKING_LIVES, MemoryAccounts
from greenroom.memory.measurement import Life, Watch
from greenroom.memory.pressure import MemoryWatch
from greenroom.memory.usage import MIB, Usage
from greenroom.preparation import Preparations
from greenroom.speech.host import Hosts
from greenroom.untrusted.exceptions import told, trace
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

UNLOAD_LIMIT_S = 10.0
"""An unload that takes longer is overdue: nobody counts on its room until it really ends."""

_READ_LIMIT_S = 5.0
"""A file system that hangs must not keep a manager from starting."""

_RETRY_S = 1.0
"""How soon an unload that could not even begin is tried again."""

# Each wait has a limit of its own; with the 2 s of preparations, all after the drain take 14 s.
STREAMS_LIMIT_S = 3.0
UNLOADS_LIMIT_S = 6.0
TASKS_LIMIT_S = 1.0
WRITE_LIMIT_S = 2.0

_LOAD_ERRORS = (WarmupError, LoadTimeoutError)


class Effects:
    """The tasks, threads, timer and journal of one manager."""

    def __init__(self, settings: ManagerSettings, catalog: Catalog) -> None:
        self.settings = settings
        self.catalog = catalog
        self.journal = Journal()
        self.ledger = Residency(policy_for(settings, catalog))
        self.departures: dict[int, asyncio.Task[str | None]] = {}
        """The unloads under way, by the number of the resident; each returns its problem."""
        self.now: Callable[[], float] = not_running
        """The time of the loop; raises `ManagerClosedError` before the start and after the end."""
        self.accounts = MemoryAccounts()
        self.footprints = FootprintStore()
        self.lifecycle = Lifecycle(
            load_limit=settings.load_timeout_ms / 1000,
            unload_limit=UNLOAD_LIMIT_S,
            warmup_text=settings.warmup_text,
        )
        self._speaking = Lane("speak", max(4, os.cpu_count() or 1))
        self.looking = Lane("look", 1)
        self._memory = MemoryWatch(self.ledger, self.looking, self.note, self.carry_out, self.time)
        self.preparations = Preparations(self, self._memory.children)
        self._waiters: dict[Ticket, asyncio.Future[TTSAdapter]] = {}
        self.hosts = Hosts(self._speaking, settings.load_timeout_ms / 1000)
        self._lives: dict[int, Life] = {}
        self._arrived: dict[int, Arrival] = {}
        """Those that are loaded and not handed to the ledger yet."""
        self.tasks = Tasks(self._memory.stir)
        self._looks = Looks(self.footprints, self.looking, self.tasks)
        self._timer = Timer(self._tick)
        self._changes = Changes()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.now is not not_running

    async def start(self) -> None:
        """Take the time from the running loop, and read what earlier runs measured.

        Raises `ModelLoadError` where not even a thread for that can be started.
        """
        self.now = asyncio.get_running_loop().time
        try:
            await self._read_footprints()
            await self._memory.begin()
        except NoThreadError as error:
            raise ModelLoadError(self.settings.default_model_id, f"{error}.") from None
        self.tasks.begin(self._memory.watch(), "memory")

    async def _read_footprints(self) -> None:
        try:
            await self.looking.run(self.footprints.read, limit=_READ_LIMIT_S)
        except OverdueError:
            logger.warning("what earlier runs measured is not known: reading it hangs")

    def stop(self) -> None:
        """Stop the clock: nothing is due any more, and nobody is let in."""
        self.now = not_running
        self._timer.cancel()

    def close(self) -> None:
        """Let the threads end, and end every subscription."""
        self.looking.close()
        self._speaking.close()
        self.journal.close()

    async def look_at(self, spec: ModelSpec) -> None:
        """Look at the model's file before room is made for it; see `Looks`."""
        if not self.footprints.is_current(spec):
            await self._looks.at(spec)

    async def request(self, spec: ModelSpec, owner: Hashable) -> TTSAdapter:
        """Ask the ledger for a model that was no hit, and wait for its answer."""
        waiter: asyncio.Future[TTSAdapter] = asyncio.get_running_loop().create_future()
        ticket, decisions = self.ledger.request(self._model_request(spec), owner, self.now())
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
        """Do what the ledger decided, write it down, and set the timer for what is due next.

        To the end of the list, whatever goes wrong: what cannot be done is reported to the ledger
        as failed, and what it decides then is done after the rest.
        """
        ahead = deque((decision, error) for decision in decisions)
        while ahead:
            decision, cause = ahead.popleft()
            try:
                self._do(decision, cause)
            except Exception as raised:  # noqa: BLE001 - the next must be done
                logger.critical("%s was not carried out: %s", decision, trace(raised))
                ahead.extend((further, None) for further in self._undone(decision, told(raised)))
        self.preparations.give_way()
        self._changes.happened()
        self._set_timer()

    def _do(self, decision: Decision, error: ModelLoadError | None) -> None:
        match decision:
            case Load(resident):
                self.note(Kind.LOADING, resident.model_id, Reason.ASKED)
                self.tasks.begin(self._bring_in(resident), f"load {resident.model_id}")
            case Unload(resident):
                self.note(Kind.UNLOADING, resident.model_id, decision.why)
                departure = self.tasks.begin(
                    self._take_out(resident), f"unload {resident.model_id}"
                )
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

    def _undone(self, decision: Decision, problem: str) -> list[Decision]:
        """Report a decision that could not be carried out; return what the ledger decides now."""
        now = self.time()
        match decision:
            case Load(resident):
                return self.ledger.failed(resident, problem, now)
            case Unload(resident):  # it is in memory still, and stays booked until it has left
                asyncio.get_running_loop().call_later(_RETRY_S, self.carry_out, [decision])
                return self.ledger.overdue(resident, now)
            case Granted(ticket):
                self._answer(ticket, ModelLoadError(ticket.model_id, problem))
                return self.ledger.cancel(ticket, now)
            case Refused(ticket):
                self._answer(ticket, ModelLoadError(ticket.model_id, problem))
        return []

    def _answer(self, ticket: Ticket, answer: TTSAdapter | ModelManagerError) -> None:
        waiter = self._waiters.get(ticket)
        if waiter is None or waiter.done():
            return
        if isinstance(answer, ModelManagerError):
            waiter.set_exception(answer)
        else:
            waiter.set_result(answer)

    async def _bring_in(self, resident: Resident) -> None:
        """Load, and report to the ledger how that ended, whatever happens."""
        try:
            await self._load(resident)
        except Exception as error:  # noqa: BLE001 - the one guard of a load: no load stays loading
            logger.critical("the load of %s broke off: %s", resident.model_id, trace(error))
            await self._break_off(resident, ModelLoadError(resident.model_id, told(error)))

    async def _break_off(self, resident: Resident, error: ModelLoadError) -> None:
        """End a load that something of ours went wrong in, from wherever it has come to."""
        if self.ledger.get(resident.model_id) is not resident:
            return
        if resident.state is State.READY:  # booked and granted: nothing is missing but the rest
            self.carry_out([])
        elif resident.loading:
            arrived = self._arrived.pop(resident.number, None)
            self._failed(resident, error, gone=arrived is None)
            if arrived is not None:
                resident.instance = arrived.adapter
                del arrived
                await self._take_out(resident)
        else:
            self.carry_out(self.ledger.gone(resident, self.time()))

    async def _load(self, resident: Resident) -> None:
        spec = self.catalog.get(resident.model_id)
        alone = self.ledger.capacity.is_alone(resident)
        try:
            arrival = await self.lifecycle.bring_in(
                spec, functools.partial(self._warming, resident), quiet=self._quiet()
            )
        except Hung as hung:
            self._failed(resident, hung.error, gone=False)
            await self.lifecycle.end_of(hung)
            self.note(Kind.GONE, resident.model_id, "the hanging load has ended")
            self.carry_out(self.ledger.gone(resident, self.time()))
            return
        except ModelLoadError as error:
            self._failed(resident, error, gone=True)
            return
        self._arrived[resident.number] = arrival
        self._lives[resident.number] = arrival.life
        host = self.hosts.add(
            resident.number,
            resident.model_id,
            arrival.voice,
            opened=functools.partial(self._opened, resident, arrival.life.watch),
            closed=functools.partial(self._closed, resident),
        )
        object.__setattr__(arrival.adapter, "_host", host)  # past what its class does with that
        footprint = self._learn(spec, arrival, alone=alone)
        resident.form = arrival.stated.form
        resident.mapped = self.footprints.mapped(spec, resident.form)
        took = f"loaded in {arrival.load_s:.3f} s, warmed up in {arrival.warmup_s:.3f} s"
        self.note(Kind.READY, resident.model_id, took, took_s=arrival.warmup_s)
        decisions = self.ledger.loaded(
            resident,
            arrival.adapter,
            self.time(),
            warmup_s=arrival.warmup_s,
            footprint=footprint,
        )
        del self._arrived[resident.number]
        self.carry_out(decisions)
        self.preparations.consider(resident)

    def _quiet(self) -> bool:
        return not any(resident.streams for resident in self.ledger.residents)

    def _learn(self, spec: ModelSpec, arrival: Arrival, *, alone: bool) -> int | None:
        """Remember what the model takes; return what to book, `None` if nothing is known anew."""
        taken, stated, form = arrival.taken, arrival.stated, arrival.stated.form
        self.accounts.loaded(spec.model_id, None if taken is None else taken.anonymous)
        booked = None
        if taken is not None:
            mapped = taken.mapped if stated.mapped is None else stated.mapped
            grown = Usage(taken.anonymous, mapped)
            booked = self.footprints.add_measurement(spec, form, grown, alone=alone)
        if stated.anonymous is not None:
            known = self.footprints.mapped(spec, form)
            said = Usage(stated.anonymous, known if stated.mapped is None else stated.mapped)
            booked = self.footprints.set_stated(spec, form, said)
        return booked

    def disturb(self, resident: Resident) -> None:
        """Note that what happens now to a model changes the process's memory."""
        self._memory.stir()
        if (life := self._lives.get(resident.number)) is not None:
            life.watch.disturb()

    def restate(self, resident: Resident, stated: Usage) -> int:
        """Remember what the form takes that is in memory; return what to book."""
        resident.mapped = stated.mapped
        spec = self.catalog.get(resident.model_id)
        self.footprints.mark_stale(spec)
        return self.footprints.set_stated(spec, resident.form, stated)

    def _warming(self, resident: Resident, load_s: float) -> None:
        self.ledger.warming(resident, load_s)
        self.note(Kind.WARMING, resident.model_id, f"loaded in {load_s:.3f} s", took_s=load_s)
        self._changes.happened()

    def _failed(self, resident: Resident, error: ModelLoadError, *, gone: bool) -> None:
        self.note(Kind.FAILED, resident.model_id, error.problem)
        self.footprints.mark_stale(self.catalog.get(resident.model_id))
        self.carry_out(self.ledger.failed(resident, error.problem, self.time(), gone=gone), error)

    async def _take_out(self, resident: Resident) -> str | None:
        """Unload, and report to the ledger that it is gone, whatever happens.

        Returns what went wrong, if anything.
        """
        try:
            problem = await self._unload(resident)
        except Exception as error:  # noqa: BLE001 - the one guard of an unload: its room comes back
            logger.critical("the unload of %s broke off: %s", resident.model_id, trace(error))
            problem = told(error)
        self.departures.pop(resident.number, None)
        self.carry_out(self.ledger.gone(resident, self.time()))
        return problem

    async def _unload(self, resident: Resident) -> str | None:
        self.hosts.retire(resident.number)
        adapter, resident.instance = resident.instance, None
        life = self._lives.pop(resident.number)
        departure, end = self.lifecycle.take_out(
            adapter, resident.device, life, quiet=self._quiet()
        )
        del adapter
        done, _ = await asyncio.wait([end], timeout=UNLOAD_LIMIT_S)
        if not done:
            self.note(Kind.OVERDUE, resident.model_id, "the engine hangs; its room stays booked")
            self.carry_out(self.ledger.overdue(resident, self.time()))
            await asyncio.wait([end])
        raised = end.exception()
        problem = departure.problem if raised is None else told(raised)
        if problem is not None:
            self.note(Kind.FAILED, resident.model_id, f"unloading: {problem}")
        self.note(Kind.GONE, resident.model_id, "its memory is given back")
        self._settle(resident.model_id, resident.form, departure)
        return problem

    def _settle(self, model_id: str, form: str, departure: Departure) -> None:
        """Write down what came back, and report a model that leaves more behind each time."""
        spec, returned, remainder = (
            self.catalog.get(model_id),
            departure.returned,
            departure.remainder,
        )
        if returned is not None and remainder is not None:
            self.footprints.correct_last(spec, form, returned)
        self.footprints.mark_stale(spec)
        left = self.accounts.unloaded(model_id, returned, remainder)
        if left is not None:
            lives = f"{left / MIB:.1f} MB in its last {LEAKING_LIVES} lives"
            self.note(Kind.LEAKING, model_id, f"it leaves memory behind each time: {lives}")

    def hanging(self) -> tuple[str, ...]:
        """Return the models that a thread is inside of which was written off."""
        return tuple(
            resident.model_id
            for resident in self.ledger.residents
            if resident.hanging or self.hosts.hanging(resident.number)
        )

    def _opened(self, resident: Resident, watch: Watch) -> None:
        watch.disturb()
        self._memory.stir()
        self.ledger.open_stream(resident)

    def _closed(self, resident: Resident) -> None:
        self._memory.stir()
        decisions = self.ledger.close_stream(resident, self.time())
        if decisions is not None:
            self.carry_out(decisions)
        self._changes.happened()

    def _model_request(self, spec: ModelSpec) -> ModelRequest:
        ttl = None if spec.ttl_ms is None else spec.ttl_ms / 1000
        expected = self.footprints.expected(spec)
        return ModelRequest(spec.model_id, spec.device, expected.footprint, ttl, expected.least)

    async def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until `condition` holds, looking at every change; whether it came in time."""
        return await self._changes.until(condition, limit)

    def _set_timer(self) -> None:
        if self.running:
            latest = self.now() + self.settings.evict_check_interval_ms / 1000
            self._timer.set(min(self.ledger.next_due(), latest))

    def _tick(self) -> None:
        decisions: list[Decision] = []
        try:
            decisions = self.ledger.tick(self.now())
        finally:
            self.carry_out(decisions)  # which sets the next timer in any case

    async def shut_down(self, drain: float) -> None:
        """Wait for holders up to `drain` seconds, then end everything, whatever hangs or fails.

        A step that raises keeps no later one from being taken.
        """
        self.carry_out(self.ledger.close())
        self.preparations.close()
        await self.until(lambda: not any(r.in_use for r in self.ledger.residents), drain)
        steps = (self._stop_streams, self._unload_all, self._end_tasks, self._write_footprints)
        for step in steps:
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - the next step must be taken all the same
                logger.critical("the shutdown is incomplete: %s", trace(error))
        self.close()

    async def _stop_streams(self) -> None:
        """Let no stream begin and end those that run; wait until no thread speaks, or hangs."""
        self.hosts.stop_all()
        await self.until(
            lambda: not any(r.occupied for r in self.ledger.residents), STREAMS_LIMIT_S
        )
        self.hosts.give_up()

    async def _unload_all(self) -> None:
        """Unload everything but what a thread hangs in; wait until it is gone, or hangs itself."""
        ledger = self.ledger
        self.lifecycle.close()
        for resident in list(ledger.residents):
            if resident.occupied:
                logger.error("model %s is left behind: a thread hangs in it", resident.model_id)
            elif resident.state in (State.READY, State.DRAINING):
                self.carry_out(ledger.force_unload(resident.model_id))
        await self.until(lambda: all(r.occupied for r in ledger.residents), UNLOADS_LIMIT_S)
        for resident in ledger.residents:
            logger.error("model %s did not leave: it is %s", resident.model_id, resident.state)

    async def _end_tasks(self) -> None:
        self.stop()
        await self.tasks.end(TASKS_LIMIT_S)
        await self.preparations.closed()

    async def _write_footprints(self) -> None:
        """Write down what was measured, on a thread of its own: others may hang."""
        write = self.looking.submit_surely(self.footprints.write)
        done, _ = await asyncio.wait([write], timeout=WRITE_LIMIT_S)
        if not done:
            logger.error("what was measured is not remembered: writing it down hangs")

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
        """Write down what was decided or has happened; raises nothing."""
        self.journal.note(kind, model_id, reason, self.time(), owner=owner, took_s=took_s)


def not_running() -> float:
    """Be the clock of a manager that does not run."""
    raise ManagerClosedError(
        "the manager is not running; call `await manager.initialize()`, or use `async with`."
    )


def refusal(decision: Refused, error: ModelLoadError | None = None) -> ModelManagerError:
    """Return the error for one caller; callers share the cause, not the error."""
    model_id, wait = decision.ticket.model_id, decision.retry_after
    match decision.reason:
        case Reason.SHUTDOWN:
            return ManagerClosedError("the manager is shutting down; ask another worker.")
        case Reason.LOAD_FAILED if error is not None:
            kind = next((kind for kind in _LOAD_ERRORS if isinstance(error, kind)), ModelLoadError)
            own = kind(model_id, error.problem, wait)
            own.__cause__ = error.__cause__
            return own
        case Reason.BACKING_OFF | Reason.LOAD_FAILED:
            return ModelLoadError(model_id, decision.problem, wait)
    return CapacityError(model_id, decision.reason, wait)
