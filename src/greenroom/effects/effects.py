"""Carries out what the ledger decides, and reports back to it.

Every change of state is one synchronous call of the ledger followed by `carry_out`; nothing is
awaited between reading state and changing it. Loads and unloads are tasks of their own, so a
caller that gives up ends only its own wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.catalog.catalog import Catalog
from greenroom.concurrency.condition import Condition, Timer
from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor, NoThreadError, OverdueError
from greenroom.config.schema import ManagerSettings
from greenroom.effects.loader import Failed, Loaded, Loader, Overdue, Unloaded
from greenroom.effects.preparation import Preparations
from greenroom.effects.shutdown import shut_down
from greenroom.errors import (
    CapacityError,
    LoadTimeoutError,
    ManagerClosedError,
    ModelInUseError,
    ModelLoadError,
    ModelManagerError,
    UnloadError,
    WarmupError,
    first_few,
)
from greenroom.hosts.engine_process import EngineProcess
from greenroom.hosts.hosted_adapter import HostedAdapter
from greenroom.hosts.processes import EngineProcesses
from greenroom.hosts.recycler import Recycler
from greenroom.journal import Journal, Kind
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Drain,
    Forgotten,
    Granted,
    Joined,
    Load,
    ModelRequest,
    Reason,
    Refused,
    Resident,
    SharedPart,
    State,
    Stay,
    Ticket,
    Unload,
    Wait,
    owners_of,
)
from greenroom.memory.budget import policy_for
from greenroom.memory.file_inspection import FileInspections
from greenroom.memory.footprint_store import FootprintStore
from greenroom.memory.leaks import LEAKING_LIVES, MemoryAccounts
from greenroom.memory.measurement import Life, Watch
from greenroom.memory.monitor import MemoryMonitor
from greenroom.memory.usage import MIB, ProcessUsage, Usage
from greenroom.speech.cost import SpeechCost
from greenroom.speech.dispatcher import Dispatcher
from greenroom.speech.host import ModelHost
from greenroom.statistics import ResidentStatistics, snapshot
from greenroom.untrusted.exceptions import describe_error, format_traceback
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

T = TypeVar("T")

DRAIN_LIMIT_S = 30.0
"""How long an unload with `drain` waits for the holders before it takes the drain back."""

UNLOAD_LIMIT_S = 10.0
"""An unload that takes longer is overdue: no load counts on its room until it really ends."""

_READ_LIMIT_S = 5.0
"""A file system that hangs must not keep a manager from starting."""

_RETRY_S = 1.0
"""How soon an unload that could not even begin is tried again."""

_LEAST_SPEAKING = 16
"""Threads inside engines, of which as many compute as there are cores."""

_PRELOAD = "preload"
"""The owner of the references that the start takes and gives back."""

_LOAD_ERRORS = (WarmupError, LoadTimeoutError)


@dataclass(slots=True, eq=False)
class _Record:
    """What belongs to one resident, from the decision to load it until it is gone."""

    spec: ModelSpec
    loaded: Loaded | None = None
    """Set from the end of its load until the ledger has it: whatever goes wrong in between must
    unload it."""
    life: Life | None = None
    """What its unload is compared with; `None` before it is loaded."""
    host: ModelHost | None = None
    """Where its streams are counted; `None` before it is loaded and once its unload began."""
    unload: asyncio.Task[str | None] | None = None
    """Its unload, which returns its problem."""
    drains: int = 0
    """Callers that wait for its last holder; the last of them to give up takes the drain back."""


class Effects:
    """The tasks, threads, timer and journal of one manager."""

    def __init__(self, settings: ManagerSettings, catalog: Catalog) -> None:
        self.settings = settings
        self.catalog = catalog
        self.journal = Journal()
        self.ledger = Residency(policy_for(settings, catalog))
        self.now: Callable[[], float] = not_running
        """The time of the loop; raises `ManagerClosedError` before the start and after the end."""
        self.accounts = MemoryAccounts()
        self.footprints = FootprintStore()
        self.processes = EngineProcesses(
            settings.isolation,
            settings.adapter_isolation,
            load_limit=settings.load_timeout_ms / 1000,
            speech_limit=settings.synthesis_timeout_ms / 1000,
            unload_limit=UNLOAD_LIMIT_S,
            linger=settings.process_linger_ms / 1000,
        )
        self.processes.expect(catalog)
        self.loader = Loader(
            self.footprints,
            self.accounts,
            load_limit=settings.load_timeout_ms / 1000,
            unload_limit=UNLOAD_LIMIT_S,
            warmup_text=settings.warmup_text,
            processes=self.processes,
        )
        # Who computes is decided by the dispatcher, for all models together. There are more threads
        # than cores for the steps that wait elsewhere, as for a network or for a GPU.
        self._speaking = DaemonExecutor("speak", max(_LEAST_SPEAKING, os.cpu_count() or 1))
        self.dispatcher = Dispatcher()
        # One at a time, apart from loads and speech: a file system that hangs holds up only those
        # who wait for it, and each of them has a limit.
        self.files = DaemonExecutor("look", 1)
        # Starting and ending what engines' processes are forked from.
        self.hosting = DaemonExecutor("host", 1)
        self._memory = MemoryMonitor(self.ledger, self.files, self.note, self.carry_out, self.time)
        self.recycler = Recycler(self, self.processes)
        self._memory.count_beside(self.processes.growth_bytes, self.recycler.consider)
        self.preparations = Preparations(self, self._memory.children)
        self._waiters: dict[Ticket, asyncio.Future[TTSAdapter]] = {}
        self._records: dict[Resident, _Record] = {}
        self.tasks = Tasks(self._memory.wake)
        self._inspections = FileInspections(self.footprints, self.files, self.tasks)
        self._timer = Timer(self._tick)
        self._changes = Condition()
        self._shutdown: asyncio.Task[None] | None = None

    # Starting

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.now is not not_running

    async def initialize(self) -> None:
        """Start, load the default model, then the preload models; shut down if that fails."""
        if self.running or self._shutdown is not None:
            raise ManagerClosedError("this manager was initialized before; make another.")
        try:
            await self._start()
            await self._preload_all()
        except BaseException:
            # Cancelled, too: threads and tasks are there already, and no caller could end them.
            await self.shutdown(0.0)
            raise

    async def _start(self) -> None:
        """Take the time from the running loop, and read what earlier runs measured.

        Raises `ModelLoadError` where not even a thread for that can be started.
        """
        self.now = _clock_of(asyncio.get_running_loop())
        try:
            await self._read_footprints()
            # Before the first load: what is taken by now counts for no model.
            await self._memory.record_baseline()
        except NoThreadError as error:
            raise ModelLoadError(self.settings.default_model_id, f"{error}.") from None
        self.tasks.begin(self._memory.run(), "memory")
        if self.processes.are_expected:
            loop = asyncio.get_running_loop()
            self.processes.crashed = lambda process: _call_in(loop, self._crashed, process)
            self.tasks.begin(self._start_processes(), "processes")

    async def _start_processes(self) -> None:
        """Have engines imported while the first model is looked for; its load waits for that."""
        try:
            await self.hosting.run(self.processes.start)
        except Exception as error:  # noqa: BLE001 - adapters', of any kind; each load says it again
            logger.warning("no engine has a process of its own: %s", describe_error(error))

    async def _read_footprints(self) -> None:
        try:
            await self.files.run(self.footprints.read, limit=_READ_LIMIT_S)
        except OverdueError:
            logger.warning("what earlier runs measured is not known: reading it hangs")

    async def _preload_all(self) -> None:
        default = self.catalog.get(self.settings.default_model_id)
        if self.settings.pin_default:
            # Before it is loaded: no preload may evict it.
            self.pin(default.model_id)
        await self._preload(default)
        wanted = {self.catalog.get(name).model_id for name in self.settings.preload_model_ids}
        # No more at once than may load at once: one that stood in the wait queue meanwhile could
        # time out there, though nothing is wrong but that the others take long.
        turns = asyncio.Semaphore(self.settings.max_parallel_loads)

        async def in_turn(model_id: str) -> None:
            async with turns:
                await self._preload(self.catalog.get(model_id))

        preloads = map(in_turn, sorted(wanted - {default.model_id}))
        for outcome in await asyncio.gather(*preloads, return_exceptions=True):
            if isinstance(outcome, ModelManagerError):
                logger.error("preload failed: %s", outcome)
            elif outcome is not None:
                raise outcome

    async def _preload(self, spec: ModelSpec) -> None:
        await self.load(spec, _PRELOAD)
        self.carry_out(self.ledger.release(spec.model_id, _PRELOAD, self.now()) or ())

    # Requests

    async def load(self, spec: ModelSpec, owner: Hashable) -> TTSAdapter:
        """Take a reference for a caller whose model was not ready."""
        # A file that was replaced takes other memory: the ledger must make room for that. But
        # where it hangs, the look is waited for only so long, and the load says what is wrong.
        if not self.footprints.is_current(spec):
            await self._inspections.inspect(spec)
        # Others may have loaded it meanwhile.
        resident = self.ledger.hit(spec.model_id, owner, self.now())
        if resident is not None:
            return resident.instance  # type: ignore[no-any-return]
        return await self.request(spec, owner)

    async def request(self, spec: ModelSpec, owner: Hashable) -> TTSAdapter:
        """Ask the ledger for a model that was no hit, and wait for its answer."""
        waiter: asyncio.Future[TTSAdapter] = asyncio.get_running_loop().create_future()
        ticket, decisions = self.ledger.request(self._model_request(spec), owner, self.now())
        # Before the decisions are carried out: the answer may be among them.
        self._waiters[ticket] = waiter
        self.carry_out(decisions)
        try:
            return await waiter
        except asyncio.CancelledError:
            # Cancelled in the very step that answered: the ledger takes a granted reference back,
            # and an error is asked for, so that asyncio does not report it as never retrieved.
            if waiter.done() and not waiter.cancelled():
                waiter.exception()
            self.carry_out(self.ledger.cancel(ticket, self.time()))
            raise
        finally:
            del self._waiters[ticket]

    def _model_request(self, spec: ModelSpec) -> ModelRequest:
        ttl = None if spec.ttl_ms is None else spec.ttl_ms / 1000
        expected = self.footprints.expected(spec)
        return ModelRequest(
            spec.model_id,
            spec.device,
            expected.footprint,
            ttl,
            expected.least,
            expected.shared,
        )

    async def prefetch(self, spec: ModelSpec, within: float) -> None:
        """Have a model loaded for a caller that is expected, when nobody minds."""
        now = self.now()
        if not self.footprints.is_current(spec):
            await self._inspections.inspect(spec)
            now = self.now()
        self.note(Kind.EXPECTED, spec.model_id, f"a caller is expected within {within:g} s")
        self.carry_out(self.ledger.prefetch(self._model_request(spec), within, now))

    # Settings of one model

    def pin(self, model_id: str) -> None:
        """Exempt a model from eviction and expiry."""
        decisions = self.ledger.pin(model_id, self.now())
        self.note(Kind.PINNED, model_id, "exempt from eviction and expiry")
        self.carry_out(decisions)

    def unpin(self, model_id: str) -> None:
        """End the exemption."""
        decisions = self.ledger.unpin(model_id, self.now())
        self.note(Kind.UNPINNED, model_id, "may be evicted and expire again")
        self.carry_out(decisions)

    def keep_alive(self, model_id: str, ttl_s: float) -> None:
        """Give a model in memory a TTL of its own; one that it has already is not written down."""
        decisions = self.ledger.keep_alive(model_id, ttl_s, self.now())
        if decisions is not None:
            how = "until it is unloaded" if ttl_s < 0 else f"for {ttl_s:g} s after its last use"
            self.note(Kind.KEPT, model_id, how)
            self.carry_out(decisions)

    # Decisions

    def carry_out(self, decisions: Iterable[Decision], error: ModelLoadError | None = None) -> None:
        """Do what the ledger decided, write it down, and set the timer for what is due next.

        To the end of the list, whatever goes wrong: what cannot be done is reported to the ledger
        as failed, and what it decides then is done after the rest. `error` is why a load failed.
        """
        # A queue of its own in the place of recursion: a fault that repeats for every decision
        # must not go deeper with each, and the order in which callers came is kept.
        ahead = deque((decision, error) for decision in decisions)
        while ahead:
            decision, cause = ahead.popleft()
            try:
                self._do(decision, cause)
            # The decision is booked already. If one were dropped here, its caller would wait for
            # ever, or its room would stay booked.
            except Exception as raised:  # noqa: BLE001 - the next must be done
                logger.critical("%s was not carried out: %s", decision, format_traceback(raised))
                ahead.extend(
                    (further, None) for further in self._undone(decision, describe_error(raised))
                )
        self.preparations.give_way()
        self._changes.notify_all()
        # Last: every decision, and what it led to, may have moved the next moment that is due.
        self._set_timer()

    def _do(self, decision: Decision, error: ModelLoadError | None) -> None:
        match decision:
            case Load(resident):
                self.note(Kind.LOADING, resident.model_id, decision.reason)
                # Before the task begins, so that no step of a resident finds it without.
                record = self._records[resident] = _Record(self.catalog.known(resident.model_id))
                self.tasks.begin(self._bring_in(resident, record), f"load {resident.model_id}")
            case Unload(resident):
                for owner in decision.parked:
                    self.note(Kind.PARKED, resident.model_id, decision.why, owner)
                self.note(Kind.UNLOADING, resident.model_id, decision.why)
                record = self._records[resident]
                record.unload = self.tasks.begin(
                    self._take_out(resident, record), f"unload {resident.model_id}"
                )
            case Drain(resident):
                self._note_drain(resident, f"{decision.why}; ")
            case Stay(resident):
                self.note(Kind.READY, resident.model_id, "its turn to leave was taken back")
            case Forgotten(model_id):
                self.note(
                    Kind.FORGOTTEN, model_id, "it is not prefetched: it has no room, or failed"
                )
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
                self._records.pop(resident, None)
                return self.ledger.failed(resident, problem, now)
            case Unload(resident):
                # It is in memory still, and nothing but an unload can end that: it is tried until
                # it works. Its room stays booked, but is promised to no load.
                asyncio.get_running_loop().call_later(_RETRY_S, self.carry_out, [decision])
                return self.ledger.overdue(resident, now)
            case Granted(ticket) | Refused(ticket):
                # A caller who is told of an error gives nothing back: the ledger must take the
                # reference of one who was granted it.
                self._answer(ticket, ModelLoadError(ticket.model_id, problem))
                return self.ledger.cancel(ticket, now)
        return []

    def _answer(self, ticket: Ticket, answer: TTSAdapter | ModelManagerError) -> None:
        waiter = self._waiters.get(ticket)
        # Its caller was cancelled, and gives the reference back in its own next step.
        if waiter is None or waiter.done():
            return
        if isinstance(answer, ModelManagerError):
            waiter.set_exception(answer)
        else:
            waiter.set_result(answer)

    # Loads

    async def _bring_in(self, resident: Resident, record: _Record) -> None:
        """Load, and report to the ledger how that ended, whatever happens."""
        try:
            await self._load(resident, record)
        except Exception as error:  # noqa: BLE001 - the one guard of a load: no load stays loading
            logger.critical(
                "the load of %s broke off: %s", resident.model_id, format_traceback(error)
            )
            broken = ModelLoadError(resident.model_id, describe_error(error))
            await self._break_off(resident, record, broken)

    async def _load(self, resident: Resident, record: _Record) -> None:
        # Both are asked before the load: what others do meanwhile, its watch sees.
        result = await self.loader.load(
            record.spec,
            functools.partial(self._warming, resident),
            quiet=self._is_quiet(),
            alone=self.ledger.capacity.is_alone(resident),
        )
        match result:
            case Loaded():
                self._loaded(resident, record, result)
            case Failed(error):
                self._failed(resident, error, gone=True)
            case Overdue(error):
                # Callers have their error now, but the room stays booked as long as a thread may
                # use memory there.
                try:
                    self._failed(resident, error, gone=False)
                finally:
                    # Whatever went wrong with that: nothing is gone under a thread.
                    await self.loader.end_of(result)
                self.note(Kind.GONE, resident.model_id, "the hanging load has ended")
                self._gone(resident)

    def _warming(self, resident: Resident, load_s: float) -> None:
        self.ledger.warming(resident, load_s)
        self.note(Kind.WARMING, resident.model_id, f"loaded in {load_s:.3f} s", took_s=load_s)
        self._changes.notify_all()

    def _loaded(self, resident: Resident, record: _Record, loaded: Loaded) -> None:
        """Hand a model to the ledger, and so to all who wait for it."""
        record.loaded, record.life = loaded, loaded.life
        record.host = ModelHost(
            resident.model_id,
            executor=self._speaking,
            dispatcher=self.dispatcher,
            voice=loaded.voice,
            cost=SpeechCost(loaded.warmup_s, loaded.audio_s),
            limit=self.settings.synthesis_timeout_ms / 1000,
            opened=functools.partial(self._opened, resident, loaded.life.watch),
            closed=functools.partial(self._closed, resident),
            silent=functools.partial(self.note, Kind.SILENT, resident.model_id),
        )
        # Past the adapter's own class, which may check or refuse what is set on it.
        object.__setattr__(loaded.adapter, "_host", record.host)
        resident.form, resident.mapped = loaded.form, loaded.mapped
        took = f"loaded in {loaded.load_s:.3f} s, warmed up in {loaded.warmup_s:.3f} s"
        self.note(Kind.READY, resident.model_id, took, took_s=loaded.warmup_s)
        decisions = self.ledger.loaded(
            resident,
            loaded.adapter,
            self.time(),
            warmup_s=loaded.warmup_s,
            footprint=loaded.footprint,
            shared=loaded.shared,
        )
        record.loaded = None
        self.carry_out(decisions)
        # After the callers have it: looking for a better form is no reason to keep them waiting.
        self.preparations.consider(resident)

    def _failed(self, resident: Resident, error: ModelLoadError, *, gone: bool) -> None:
        self.note(Kind.FAILED, resident.model_id, error.problem)
        # Perhaps its file was being replaced: it is looked at again before the next try.
        self.footprints.mark_stale(self._records[resident].spec)
        if gone:
            del self._records[resident]
        self.carry_out(self.ledger.failed(resident, error.problem, self.time(), gone=gone), error)

    async def _break_off(self, resident: Resident, record: _Record, error: ModelLoadError) -> None:
        """End a load that something of ours went wrong in, from wherever it has come to."""
        # 1. It has failed and is gone: what went wrong did so after that.
        if self.ledger.get(resident.model_id) is not resident:
            return
        # 2. It is loading for the ledger; where it is in memory already it must leave again.
        if resident.loading:
            loaded, record.loaded = record.loaded, None
            self._failed(resident, error, gone=loaded is None)
            if loaded is not None:
                resident.instance = loaded.adapter
                del loaded  # the unload must have the last reference
                await self._take_out(resident, record)
        # 3. It was overdue, and its thread has left it.
        elif record.life is None:
            self._gone(resident)
        # 4. The ledger has it, and has granted it or lets it leave, which an unload reports
        # itself: nothing is missing but what follows from that.
        else:
            self.carry_out(())

    def _gone(self, resident: Resident) -> None:
        self._records.pop(resident, None)
        self.carry_out(self.ledger.gone(resident, self.time()))

    # Unloads

    async def _take_out(self, resident: Resident, record: _Record) -> str | None:
        """Unload, and report to the ledger that it is gone, whatever happens.

        Returns what went wrong, if anything.
        """
        try:
            unloaded = await self._unload(resident, record)
        except Exception as error:  # noqa: BLE001 - the one guard of an unload: its room comes back
            logger.critical(
                "the unload of %s broke off: %s", resident.model_id, format_traceback(error)
            )
            unloaded = Unloaded(describe_error(error))
        if unloaded.problem is not None:
            self.note(Kind.FAILED, resident.model_id, f"unloading: {unloaded.problem}")
        self.note(Kind.GONE, resident.model_id, "its memory is given back")
        if unloaded.leaked is not None:
            lives = f"{unloaded.leaked / MIB:.1f} MB in its last {LEAKING_LIVES} lives"
            self.note(
                Kind.LEAKING, resident.model_id, f"it leaves memory behind each time: {lives}"
            )
        self._gone(resident)
        return unloaded.problem

    async def _unload(self, resident: Resident, record: _Record) -> Unloaded:
        # Its streams have ended; a caller that kept the adapter must not begin another.
        if record.host is not None:
            record.host.retire()
            record.host = None
        adapter, resident.instance = resident.instance, None
        assert record.life is not None  # only what was loaded is unloaded
        attempt = self.loader.begin_unload(
            adapter, record.spec, resident.form, record.life, quiet=self._is_quiet()
        )
        # The thread must have the last reference: what it frees is measured in it.
        del adapter
        if not await attempt.ends_within(UNLOAD_LIMIT_S):
            self.note(Kind.OVERDUE, resident.model_id, "the engine hangs; its room stays booked")
            self.carry_out(self.ledger.overdue(resident, self.time()))
        return await self.loader.end_of_unload(attempt)

    async def evict_idle(self) -> tuple[str, ...]:
        """Let go what is due to leave now; return the ids, once they are unloaded or overdue."""
        decisions = self.ledger.tick(self.now())
        self.carry_out(decisions)
        leaving = [decision.resident for decision in decisions if isinstance(decision, Unload)]
        records = [record for each in leaving if (record := self._records.get(each)) is not None]
        unloads = [record.unload for record in records if record.unload is not None]
        if unloads:
            # `wait` cancels nothing, neither when it is cancelled nor when its time is over.
            await asyncio.wait(unloads, timeout=UNLOAD_LIMIT_S)
        return tuple(resident.model_id for resident in leaving)

    async def unload(self, model_id: str, *, drain: bool) -> None:
        """Unload a model and wait until it is gone; see `ModelManager.unload`."""
        resident = self.ledger.get(model_id)
        if drain and resident is not None:
            # The callers that wait for a load are holders to come: they are drained like others.
            await self.until(functools.partial(_is_not_loading, resident), DRAIN_LIMIT_S)
        decisions = self.ledger.begin_unload(model_id, self.now(), drain=drain)
        resident = self.ledger.get(model_id)
        assert resident is not None  # else `begin_unload` has raised
        record = self._records[resident]
        if resident.state is State.DRAINING:
            self._note_drain(resident)
        self.carry_out(decisions)
        await self._drained(resident, record)
        if record.unload is None:
            # Nothing but a load that failed, whose thread hangs, leaves without an unload.
            if self.ledger.get(model_id) is resident:
                raise UnloadError(
                    model_id, "its load hangs; its room stays booked until that ends."
                )
            return
        done, _ = await asyncio.wait([record.unload], timeout=UNLOAD_LIMIT_S)
        problem: str | None = f"it takes over {UNLOAD_LIMIT_S:g} s."
        if done:
            cancelled = record.unload.cancelled()
            problem = "the manager shut down." if cancelled else record.unload.result()
        if problem is not None:
            raise UnloadError(model_id, problem)

    def _note_drain(self, resident: Resident, why: str = "") -> None:
        awaited = first_few(owners_of(resident)) or f"{resident.streams} streams"
        self.note(Kind.DRAINING, resident.model_id, f"{why}waiting for {awaited}")

    async def _drained(self, resident: Resident, record: _Record) -> None:
        """Wait for the last holder; when that takes too long, or the wait is cancelled, undo it.

        Of several who wait only the last one to give up takes the drain back: as long as one
        waits, no caller may get the model anew.
        """
        drained = False
        record.drains += 1
        try:
            drained = await self.until(lambda: resident.state is not State.DRAINING, DRAIN_LIMIT_S)
        finally:
            record.drains -= 1
            if not record.drains and not drained:
                self.carry_out(self.ledger.end_drain(resident.model_id, self.time()))
                if resident.state is State.READY:
                    self.note(Kind.READY, resident.model_id, "the drain was taken back")
        if not drained:
            raise ModelInUseError(resident.model_id, owners_of(resident), resident.streams)

    # Streams and memory

    def _opened(self, resident: Resident, watch: Watch) -> None:
        watch.disturb()
        self._memory.wake()
        self.ledger.open_stream(resident)

    def _closed(self, resident: Resident, opened_at: float) -> None:
        self._memory.wake()
        decisions = self.ledger.close_stream(resident, self.time(), opened_at)
        if decisions is not None:
            self.carry_out(decisions)
        # Also without a decision: a shutdown and an upgrade wait for a model that does not speak.
        self._changes.notify_all()

    def _crashed(self, process: EngineProcess) -> None:
        """Let go the models of a process that has ended: what they were is lost."""
        for resident in list(self.ledger.residents):
            instance = resident.instance
            if isinstance(instance, HostedAdapter) and instance.lives_in(process):
                self.note(Kind.CRASHED, resident.model_id, process.ending)
                self.carry_out(self.ledger.crashed(resident, process.ending, self.time()))
                # Then its streams: the ledger must know of the crash when the last of them ends.
                record = self._records.get(resident)
                if record is not None and record.host is not None:
                    record.host.lose_engine(process.ending)

    def _is_quiet(self) -> bool:
        return not any(resident.streams for resident in self.ledger.residents)

    def statistics_of(self, resident: Resident) -> ResidentStatistics:
        """Return what can be seen of a resident at this moment."""
        record = self._records.get(resident)
        host = None if record is None else record.host
        turn = self.ledger.turns.of(resident)
        yields_to = "" if turn is None else turn.makes_room_for
        if host is None:
            return snapshot(resident, self.time(), yields_to=yields_to)
        gaps, late_s = host.gaps, host.late_s
        return snapshot(resident, self.time(), gaps=gaps, late_s=late_s, yields_to=yields_to)

    @property
    def process_usage(self) -> ProcessUsage | None:
        """What the process took when it was last looked at; `None` before that."""
        return self._memory.whole

    def hanging(self) -> tuple[str, ...]:
        """Return the models that a thread is inside of which was abandoned after its limit."""
        return tuple(
            resident.model_id
            for resident, record in self._records.items()
            if resident.hanging or (record.host is not None and record.host.hanging > 0)
        )

    def disturb(self, resident: Resident) -> None:
        """Note that what happens now to a model changes the process's memory."""
        self._memory.wake()
        record = self._records.get(resident)
        if record is not None and record.life is not None:
            record.life.watch.disturb()

    def restate(self, resident: Resident, stated: Usage, shared: SharedPart | None) -> int:
        """Remember what the form takes that is in memory; return what to book of its own."""
        resident.mapped = stated.mapped
        spec = self.catalog.known(resident.model_id)
        # It has become another file, or more of them: the next load looks at it afresh.
        self.footprints.mark_stale(spec)
        return self.footprints.set_stated(spec, resident.form, stated, shared)

    # Time and journal

    async def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until `condition` holds, looking at every change; whether it came in time."""
        return await self._changes.wait_for(condition, limit)

    def _set_timer(self) -> None:
        if self.running:
            # Now and then though nothing is due: an interval that the settings promise, whatever
            # the ledger thinks is due next.
            latest = self.now() + self.settings.evict_check_interval_ms / 1000
            self._timer.set(min(self.ledger.next_due(), latest))

    def _tick(self) -> None:
        decisions: list[Decision] = []
        try:
            decisions = self.ledger.tick(self.now())
        finally:
            self.carry_out(decisions)  # which sets the next timer in any case

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

    # Shutting down

    async def shutdown(self, drain: float) -> None:
        """Wait for holders up to `drain` seconds, then end everything, whatever hangs or fails.

        A second call waits for the first.
        """
        if self._shutdown is None:
            ending = shut_down(self, drain)
            self._shutdown = asyncio.create_task(ending, name="greenroom-shutdown")
        # A caller that gives up ends only its own wait: half a shutdown would leave threads in
        # models that nothing unloads any more.
        await asyncio.shield(self._shutdown)

    def hosts(self) -> list[ModelHost]:
        """Return where the streams of models in memory are counted."""
        return [record.host for record in self._records.values() if record.host is not None]

    def stop_clock(self) -> None:
        """Be no longer running: what is cancelled from now on sets no timer any more."""
        self.now = not_running
        self._timer.cancel()

    def close_threads(self) -> None:
        """Let the threads end that wait for work; what hangs in one is left behind."""
        self.files.close()
        self.hosting.close()
        self._speaking.close()


def _clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return the loop's own time; a call of Python less where that is the system's, for hits."""
    is_monotonic = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
    return time.monotonic if is_monotonic else loop.time


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[T], None], argument: T) -> None:
    """Call in the loop, from another thread; does nothing once the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, argument)


def not_running() -> float:
    """Be the clock of a manager that does not run."""
    raise ManagerClosedError(
        "the manager is not running; call `await manager.initialize()`, or use `async with`."
    )


def _is_not_loading(resident: Resident) -> bool:
    return not resident.loading


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
