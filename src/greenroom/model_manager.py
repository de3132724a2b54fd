"""The asyncio shell around the ledger: it asks, carries out what is decided, and reports back.

Every change of state is one synchronous call of the ledger followed by `_carry_out`; nothing is
awaited between reading state and changing it. Loads and unloads are tasks of the manager's own,
so a caller that gives up ends only its own wait.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any, Literal, Self

from greenroom.adapter import TTSAdapter
from greenroom.catalog import Catalog
from greenroom.config import DEFAULT_WARMUP_TEXT, ManagerSettings
from greenroom.errors import (
    CapacityError,
    ConfigError,
    ManagerClosedError,
    ModelInUseError,
    ModelLoadError,
    ModelManagerError,
    ModelNotResidentError,
    UnloadError,
)
from greenroom.explaining import explain
from greenroom.footprints import Footprints
from greenroom.hosting import ModelHost
from greenroom.journal import Journal, Kind, Subscription
from greenroom.lease import Lease
from greenroom.lifecycle import Hung, Lifecycle
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
    owners_of,
)
from greenroom.settings import checked_settings, policy_for
from greenroom.speech import ModelSpec
from greenroom.statistics import (
    Explanation,
    ManagerStatistics,
    ResidentStatistics,
    picture,
    totals,
)
from greenroom.threads import Lane

logger = logging.getLogger(__name__)

UNLOAD_LIMIT_S = 10.0
"""An unload that takes longer is overdue: nobody counts on its room until it really ends."""

DRAIN_LIMIT_S = 30.0
"""How long `unload(drain=True)` waits for the holders before it takes the drain back."""


class ModelManager:
    """Keeps models ready to speak: loads on demand, counts references, lets idle ones go.

    All methods are called from one event loop. Times in the constructor are milliseconds.
    Raises `ConfigError` for settings that cannot work.
    """

    def __init__(
        self,
        *,
        adapter_class: type[TTSAdapter] | None = None,
        catalog: Catalog | None = None,
        default_model_id: str,
        preload_model_ids: Sequence[str] = (),
        ttl_ms: int = 600_000,
        min_residency_ms: int = 120_000,
        evict_check_interval_ms: int = 30_000,
        resident_cap: int = 3,
        max_parallel_loads: int = 1,
        cap_policy: Literal["soft", "hard"] = "soft",
        memory_budget_mb: float | None = None,
        pin_default: bool = True,
        warmup_text: str = DEFAULT_WARMUP_TEXT,
        load_timeout_ms: int = 60_000,
        acquire_timeout_ms: int = 30_000,
    ) -> None:
        if catalog is None:
            if adapter_class is None:
                raise ConfigError(
                    "give the manager a `catalog`, or an `adapter_class` to discover with."
                )
            catalog = Catalog.discover(adapters=[adapter_class])
        settings = checked_settings(
            catalog,
            default_model_id=default_model_id,
            preload_model_ids=tuple(preload_model_ids),
            ttl_ms=ttl_ms,
            min_residency_ms=min_residency_ms,
            evict_check_interval_ms=evict_check_interval_ms,
            resident_cap=resident_cap,
            max_parallel_loads=max_parallel_loads,
            cap_policy=cap_policy,
            memory_budget_mb=memory_budget_mb,
            pin_default=pin_default,
            warmup_text=warmup_text,
            load_timeout_ms=load_timeout_ms,
            acquire_timeout_ms=acquire_timeout_ms,
        )
        self.settings = settings
        self.catalog = catalog
        self.journal = Journal()
        self._ledger = Residency(policy_for(settings, catalog))
        self._footprints = Footprints(catalog)
        self._lifecycle = Lifecycle(
            load_limit=settings.load_timeout_ms / 1000,
            unload_limit=UNLOAD_LIMIT_S,
            warmup_text=settings.warmup_text,
        )
        self._speaking = Lane("speak", max(4, os.cpu_count() or 1))
        self._waiters: dict[Ticket, asyncio.Future[TTSAdapter]] = {}
        self._hosts: dict[int, ModelHost] = {}
        self._departures: dict[int, asyncio.Task[str | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._now: Callable[[], float] = _not_running

    @classmethod
    def from_settings(cls, settings: ManagerSettings, catalog: Catalog) -> Self:
        """Return a manager with the settings of a configuration file."""
        return cls(catalog=catalog, **settings.model_dump())

    # Starting and stopping

    async def initialize(self) -> None:
        """Load the default model, then the preload models.

        Fails, and shuts down again, when the default cannot be loaded; a preload that fails is
        reported and does not stop the start. Neither keeps a reference.
        """
        if self._now is not _not_running or self._ending is not None:
            raise ManagerClosedError("this manager was initialized before; make another.")
        self._now = asyncio.get_running_loop().time
        await self._speaking.run(self._footprints.read)
        default = self.catalog.get(self.settings.default_model_id).model_id
        if self.settings.pin_default:
            self.pin(default)
        try:
            await self._preload(default)
        except BaseException:
            await self.shutdown(drain_timeout_ms=0)
            raise
        wanted = {self.catalog.get(name).model_id for name in self.settings.preload_model_ids}
        preloads = [self._preload(name) for name in sorted(wanted - {default})]
        for outcome in await asyncio.gather(*preloads, return_exceptions=True):
            if isinstance(outcome, ModelManagerError):
                logger.error("preload failed: %s", outcome)
            elif outcome is not None:
                raise outcome

    async def _preload(self, model_id: str) -> None:
        await self.load(model_id, owner="preload")
        await self.release(model_id, owner="preload")

    async def shutdown(self, *, drain_timeout_ms: int = 10_000) -> None:
        """Refuse new loads, wait for holders up to the time-out, unload everything.

        Ends in bounded time even if a load, a stream or an unload hangs. A second call waits for
        the first.
        """
        if self._ending is None:
            coroutine = self._shut_down(drain_timeout_ms / 1000)
            self._ending = asyncio.create_task(coroutine, name="greenroom-shutdown")
        await asyncio.shield(self._ending)

    async def _shut_down(self, drain: float) -> None:
        if self._now is _not_running:
            return
        self._carry_out(self._ledger.close())
        await self._until(lambda: not any(r.in_use for r in self._ledger.residents), drain)
        for host in list(self._hosts.values()):
            host.retire()
            host.stop_all()
        await self._until(
            lambda: not any(r.streams for r in self._ledger.residents), UNLOAD_LIMIT_S
        )
        self._lifecycle.close()
        for resident in list(self._ledger.residents):
            if resident.streams:
                logger.error("model %s is left behind: a thread hangs in it", resident.model_id)
            elif resident.state in (State.READY, State.DRAINING):
                self._carry_out(self._ledger.expel(resident.model_id))
        unable = {r.number for r in self._ledger.residents if r.streams}
        await self._until(
            lambda: all(r.number in unable for r in self._ledger.residents), UNLOAD_LIMIT_S
        )
        for resident in self._ledger.residents:
            logger.error("model %s did not leave: it is %s", resident.model_id, resident.state)
        self._now = _not_running
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._speaking.run(self._footprints.write)
        self._speaking.close()
        self.journal.close()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shutdown()

    # References

    async def load(self, model_id: str, *, owner: Hashable = None) -> TTSAdapter:
        """Take one more reference, loading the model first if it is not in memory.

        A ready model is handed over without awaiting anything. Raises `ModelNotFoundError`,
        `ModelLoadError` (and its kinds), `CapacityError` or `ManagerClosedError`.
        """
        resident = self._ledger.hit(model_id, owner, self._now())
        if resident is not None:
            return resident.instance  # type: ignore[no-any-return]
        return await self._load(self.catalog.get(model_id), owner)

    async def _load(self, spec: ModelSpec, owner: Hashable) -> TTSAdapter:
        resident = self._ledger.hit(spec.model_id, owner, self._now())
        if resident is not None:
            return resident.instance  # type: ignore[no-any-return]
        waiter: asyncio.Future[TTSAdapter] = asyncio.get_running_loop().create_future()
        ticket, decisions = self._ledger.request(self._demand(spec), owner, self._now())
        self._waiters[ticket] = waiter
        self._carry_out(decisions)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                waiter.exception()
            self._carry_out(self._ledger.cancel(ticket, self._time()))
            raise
        finally:
            del self._waiters[ticket]

    async def release(self, model_id: str, *, owner: Hashable = None) -> None:
        """Give one reference back.

        Raises `LeaseReleasedError` when `owner` holds none and `ModelNotResidentError` when the
        model is not in memory; both change nothing.
        """
        try:
            decisions = self._ledger.release(model_id, owner, self._now())
        except ModelNotResidentError:
            spec = self.catalog.get(model_id)
            if spec.model_id == model_id:
                raise
            decisions = self._ledger.release(spec.model_id, owner, self._now())
        if decisions is not None:
            self._carry_out(decisions)

    def lease(self, model_id: str, *, owner: str | None = None) -> Lease:
        """Return a lease, for `async with`: a reference that nobody else can give back."""
        return Lease(self, model_id, owner)

    def reclaim(self, model_id: str, owner: Hashable) -> None:
        """Give back the reference of a lease that was dropped without being released."""
        model_id = self.catalog.get(model_id).model_id
        resident = self._ledger.get(model_id)
        if resident is not None and owner in resident.holders:
            logger.warning("model %s: a lease of %s was leaked; it is given back", model_id, owner)
            self._carry_out(self._ledger.release(model_id, owner, self._time()) or [])

    # Leaving and staying

    async def evict_idle(self) -> tuple[str, ...]:
        """Let go what is due to leave now; return the ids, once they are unloaded or overdue."""
        decisions = self._ledger.tick(self._now())
        self._carry_out(decisions)
        leaving = [d.resident for d in decisions if isinstance(d, Unload)]
        departures = [self._departures[resident.number] for resident in leaving]
        if departures:
            await asyncio.wait(departures, timeout=UNLOAD_LIMIT_S)
        return tuple(resident.model_id for resident in leaving)

    async def unload(self, model_id: str, *, drain: bool = False) -> None:
        """Unload a model now, whatever its min residency; with `drain`, after its last holder.

        Raises `ModelNotResidentError`; `ModelInUseError` when it is held, or still held after the
        drain's limit, and then it stays; `UnloadError` when the engine fails or hangs.
        """
        model_id = self.catalog.get(model_id).model_id
        resident = self._ledger.get(model_id)
        if drain and resident is not None:
            await self._until(functools.partial(_has_arrived, resident), DRAIN_LIMIT_S)
        decisions = self._ledger.begin_unload(model_id, self._now(), drain=drain)
        resident = self._ledger.get(model_id)
        if resident is None:
            raise ModelNotResidentError(model_id)
        if resident.state is State.DRAINING:
            self._note(Kind.DRAINING, model_id, f"waiting for {', '.join(owners_of(resident))}")
        self._carry_out(decisions)
        await self._drained(resident)
        departure = self._departures.get(resident.number)
        if departure is None:
            if self._ledger.get(model_id) is resident:
                raise UnloadError(
                    model_id, "its load hangs; its room stays booked until that ends."
                )
            return
        done, _ = await asyncio.wait([departure], timeout=UNLOAD_LIMIT_S)
        problem = departure.result() if done else f"it takes over {UNLOAD_LIMIT_S:g} s."
        if problem is not None:
            raise UnloadError(model_id, problem)

    async def _drained(self, resident: Resident) -> None:
        """Wait for the last holder; when that takes too long, or the wait is cancelled, undo it."""
        drained = False
        try:
            drained = await self._until(lambda: resident.state is not State.DRAINING, DRAIN_LIMIT_S)
        finally:
            if not drained:
                self._carry_out(self._ledger.end_drain(resident.model_id, self._time()))
        if not drained:
            raise ModelInUseError(resident.model_id, owners_of(resident), resident.streams)

    def pin(self, model_id: str) -> None:
        """Exempt a model from eviction and expiry, now or whenever it is loaded."""
        model_id = self.catalog.get(model_id).model_id
        decisions = self._ledger.pin(model_id, self._now())
        self._note(Kind.PINNED, model_id, "exempt from eviction and expiry")
        self._carry_out(decisions)

    def unpin(self, model_id: str) -> None:
        """End the exemption."""
        model_id = self.catalog.get(model_id).model_id
        decisions = self._ledger.unpin(model_id, self._now())
        self._note(Kind.UNPINNED, model_id, "may be evicted and expire again")
        self._carry_out(decisions)

    # Looking

    def list_resident(self) -> tuple[ResidentStatistics, ...]:
        """Return every model that is loading, in memory or leaving, oldest first."""
        return tuple(picture(r, self._time()) for r in self._ledger.residents)

    def list_catalog(self) -> tuple[ModelSpec, ...]:
        """Return every model that could be loaded."""
        return tuple(self.catalog)

    def statistics(self) -> ManagerStatistics:
        """Return the totals of this moment."""
        return totals(self._ledger, self.list_resident())

    def explain(self, model_id: str) -> Explanation:
        """Return why the model is or is not in memory, who holds it, and what happened to it."""
        model_id = self.catalog.get(model_id).model_id
        return explain(model_id, self._ledger, self.journal.events(model_id), self._time())

    def subscribe(self) -> Subscription:
        """Return an asynchronous iterator of the events from now on."""
        return self.journal.subscribe()

    def __repr__(self) -> str:
        return repr(self._ledger).replace("Residency", "ModelManager")

    # Carrying out

    def _carry_out(
        self, decisions: Iterable[Decision], error: ModelLoadError | None = None
    ) -> None:
        """Do what the ledger decided, write it down, and set the timer for what is due next."""
        for decision in decisions:
            match decision:
                case Load(resident):
                    self._note(Kind.LOADING, resident.model_id, Reason.ASKED)
                    self._own(self._bring_in(resident), f"load {resident.model_id}")
                case Unload(resident, reason):
                    self._note(Kind.UNLOADING, resident.model_id, reason)
                    departure = self._own(self._take_out(resident), f"unload {resident.model_id}")
                    self._departures[resident.number] = departure
                case Granted(ticket, resident):
                    self._answer(ticket, resident.instance)
                case Joined(ticket):
                    self._note(Kind.JOINED, ticket.model_id, "shares the load", ticket.owner)
                case Wait(ticket):
                    self._note(Kind.WAITING, ticket.model_id, "for room", ticket.owner)
                case Refused(ticket, reason):
                    self._note(Kind.REFUSED, ticket.model_id, reason, ticket.owner)
                    self._answer(ticket, _refusal(decision, error))
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
        quiet = not any(r.streams for r in self._ledger.residents)
        try:
            arrival = await self._lifecycle.bring_in(
                spec, functools.partial(self._warming, resident), quiet=quiet
            )
        except Hung as hung:
            self._failed(resident, hung.error, gone=False)
            await self._lifecycle.end_of(hung)
            self._note(Kind.GONE, resident.model_id, "the hanging load has ended")
            self._carry_out(self._ledger.gone(resident, self._time()))
            return
        except ModelLoadError as error:
            self._failed(resident, error, gone=True)
            return
        host = self._host(resident, arrival.adapter)
        arrival.adapter._host = self._hosts[resident.number] = host
        footprint = (
            None if arrival.footprint is None else self._footprints.record(spec, arrival.footprint)
        )
        took = f"loaded in {arrival.load_s:.3f} s, warmed up in {arrival.warmup_s:.3f} s"
        logger.info("model %s is ready: %s", resident.model_id, took)
        self._note(Kind.READY, resident.model_id, took)
        self._carry_out(
            self._ledger.loaded(
                resident,
                arrival.adapter,
                self._time(),
                warmup_s=arrival.warmup_s,
                footprint=footprint,
            )
        )

    def _warming(self, resident: Resident, load_s: float) -> None:
        self._ledger.warming(resident, load_s)
        self._note(Kind.WARMING, resident.model_id, f"loaded in {load_s:.3f} s")
        self._changed.set()

    def _failed(self, resident: Resident, error: ModelLoadError, *, gone: bool) -> None:
        logger.error("%s", error)
        self._note(Kind.FAILED, resident.model_id, error.problem)
        self._carry_out(
            self._ledger.failed(resident, error.problem, self._time(), gone=gone), error
        )

    async def _take_out(self, resident: Resident) -> str | None:
        """Unload, report, and return what went wrong, if anything."""
        host = self._hosts.pop(resident.number, None)
        if host is not None:
            host.retire()
        adapter, resident.instance = resident.instance, None
        end = self._lifecycle.take_out(adapter)
        del adapter
        done, _ = await asyncio.wait([end], timeout=UNLOAD_LIMIT_S)
        if not done:
            logger.error(
                "model %s hangs while it unloads; its room stays booked", resident.model_id
            )
            self._note(Kind.OVERDUE, resident.model_id, "the engine hangs; its room stays booked")
            self._carry_out(self._ledger.overdue(resident, self._time()))
            await asyncio.wait([end])
        raised = end.exception()
        problem = None if raised is None else f"{type(raised).__name__}: {raised}"
        if problem is not None:
            logger.error("model %s did not unload cleanly: %s", resident.model_id, problem)
        self._note(Kind.GONE, resident.model_id, problem or "its memory is given back")
        self._departures.pop(resident.number, None)
        self._carry_out(self._ledger.gone(resident, self._time()))
        return problem

    def _host(self, resident: Resident, adapter: TTSAdapter) -> ModelHost:
        def opened() -> None:
            self._lifecycle.disturb()
            self._ledger.open_stream(resident)

        def closed() -> None:
            decisions = self._ledger.close_stream(resident, self._time())
            if decisions is not None:
                self._carry_out(decisions)
            self._changed.set()

        return ModelHost(
            resident.model_id,
            lane=self._speaking,
            concurrency=adapter.concurrency,
            limit=self.settings.load_timeout_ms / 1000,
            opened=opened,
            closed=closed,
        )

    # Small parts

    def _demand(self, spec: ModelSpec) -> Demand:
        ttl = None if spec.ttl_ms is None else spec.ttl_ms / 1000
        return Demand(spec.model_id, spec.device, self._footprints.expected(spec), ttl)

    def _own(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine, name=f"greenroom {name}")
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.critical("%s failed", task.get_name(), exc_info=task.exception())

    async def _until(self, condition: Callable[[], bool], limit: float) -> bool:
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
        if self._now is _not_running:
            return
        now = self._now()
        latest = now + self.settings.evict_check_interval_ms / 1000
        due = min(self._ledger.next_due(), latest)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self._ledger.tick(self._now()))

    def _time(self) -> float:
        """Return the loop's time, also after the end."""
        return asyncio.get_running_loop().time()

    def _note(self, kind: Kind, model_id: str, reason: str, owner: Hashable = None) -> None:
        name = None if owner is None else str(owner)
        self.journal.record(kind, model_id, reason, self._time(), owner=name)


def _has_arrived(resident: Resident) -> bool:
    return resident.state not in (State.LOADING, State.WARMING)


def _not_running() -> float:
    raise ManagerClosedError(
        "the manager is not running; call `await manager.initialize()`, or use `async with`."
    )


def _refusal(decision: Refused, error: ModelLoadError | None) -> ModelManagerError:
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
