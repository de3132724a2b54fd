"""What callers use: models on demand, references, leases, and why things are as they are.

The ledger (`ledger/residency.py`) decides, `effects.py` carries out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import ValidationError

from greenroom.adapter import Isolation, ModelSpec, TTSAdapter
from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import check_ids
from greenroom.config.schema import DEFAULT_WARMUP_TEXT, ManagerSettings, first_problem
from greenroom.effects.effects import Effects
from greenroom.effects.lease import Lease
from greenroom.errors import (
    ConfigError,
    LeaseReleasedError,
    ModelNotResidentError,
)
from greenroom.journal import Journal, Subscription
from greenroom.statistics import (
    Explanation,
    ManagerStatistics,
    ResidentStatistics,
    explain,
    totals,
)
from greenroom.untrusted.arguments import finite_number
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.owners import holder_of

logger = safe_logger(__name__)


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
        turn_after_ms: int = 2_000,
        synthesis_timeout_ms: int = 60_000,
        isolation: Isolation = "none",
        adapter_isolation: Mapping[str, Isolation] | None = None,
        process_linger_ms: int = 0,
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
            turn_after_ms=turn_after_ms,
            synthesis_timeout_ms=synthesis_timeout_ms,
            isolation=isolation,
            adapter_isolation=dict(adapter_isolation or {}),
            process_linger_ms=process_linger_ms,
        )
        self.settings = settings
        self.catalog = catalog
        self._effects = Effects(settings, catalog)
        self._ledger = self._effects.ledger

    @property
    def journal(self) -> Journal:
        """The record of every decision and why."""
        return self._effects.journal

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
        await self._effects.initialize()

    async def shutdown(self, *, drain_timeout_ms: int = 10_000) -> None:
        """Refuse new loads, wait for holders up to the time-out, unload everything.

        Ends within the time-out and 15 s, whatever hangs: a load, a stream, an unload or a source
        of text. What hangs is left behind and named in the log. A second call waits for the first.
        Raises `InvalidInputError` for a time-out that is negative, infinite or no number.
        """
        drain = finite_number(drain_timeout_ms, "drain_timeout_ms", lowest=0) / 1000
        await self._effects.shutdown(drain)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shutdown()

    # References

    async def load(self, model_id: str, *, owner: Hashable = None) -> TTSAdapter:
        """Take one more reference, loading the model first if it is not in memory.

        A ready model is handed over without awaiting anything. Raises `ModelNotFoundError`,
        `ModelLoadError` (and its kinds), `CapacityError`, `ManagerClosedError`, or
        `InvalidInputError` for an owner that is not hashable.
        """
        # Read, then called: CPython 3.11 is slow to call an instance's attribute in one step.
        now = self._effects.now
        holder = owner if owner is None or type(owner) is str else holder_of(owner)
        resident = self._ledger.hit(model_id, holder, now())
        if resident is not None:
            return resident.instance  # type: ignore[no-any-return]
        return await self._effects.load(self.catalog.get(model_id), holder)

    async def release(self, model_id: str, *, owner: Hashable = None) -> None:
        """Give one reference back.

        Raises `LeaseReleasedError` when `owner` holds none and `ModelNotResidentError` when the
        model is not in memory; both change nothing.
        """
        now = self._effects.now
        holder = owner if owner is None or type(owner) is str else holder_of(owner)
        try:
            decisions = self._ledger.release(model_id, holder, now())
        except ModelNotResidentError:
            spec = self.catalog.known(model_id)
            if spec.model_id == model_id:
                raise
            decisions = self._ledger.release(spec.model_id, holder, now())
        if decisions is not None:
            self._effects.carry_out(decisions)

    def lease(self, model_id: str, *, owner: str | None = None) -> Lease:
        """Return a lease, for `async with`: a reference that no other caller can give back."""
        return Lease(self, model_id, owner)

    def reclaim(self, model_id: str, owner: Hashable) -> None:
        """Give back the reference of a lease that was dropped without being released."""
        model_id = self.catalog.known(model_id).model_id
        try:
            decisions = self._ledger.release(model_id, owner, self._effects.time())
        except (LeaseReleasedError, ModelNotResidentError):
            return
        logger.warning("model %s: a lease of %s was leaked; it is given back", model_id, owner)
        self._effects.carry_out(decisions or [])

    def park(self, model_id: str, owner: Hashable) -> None:
        """Let a model leave in its turn though `owner` holds it; see `Lease.park`."""
        effects = self._effects
        model_id = self.catalog.known(model_id).model_id
        effects.carry_out(self._ledger.park(model_id, owner, effects.time()))

    def unpark(self, model_id: str, owner: Hashable) -> bool:
        """Keep a model that `owner` holds again; whether it is there; see `Lease.unpark`."""
        effects = self._effects
        model_id = self.catalog.known(model_id).model_id
        kept, decisions = self._ledger.unpark(model_id, owner, effects.time())
        if decisions:
            effects.carry_out(decisions)
        return kept

    async def prefetch(self, model_id: str, within_s: float = 10.0) -> None:
        """Say that a caller will ask for a model within so many seconds; keeps no reference.

        It is loaded at the lowest priority: when no caller waits and no load is under way, where no
        model has to leave that is in use or within its min residency. Until its first caller it
        yields to all others, and it leaves when none has come in time. Returns without waiting for
        the load. Raises `ModelNotFoundError`, `InvalidInputError` and `ManagerClosedError`.
        """
        within = finite_number(within_s, "within_s", lowest=0)
        await self._effects.prefetch(self.catalog.get(model_id), within)

    # Leaving and staying

    async def evict_idle(self) -> tuple[str, ...]:
        """Let go what is due to leave now; return the ids, once they are unloaded or overdue."""
        return await self._effects.evict_idle()

    async def unload(self, model_id: str, *, drain: bool = False) -> None:
        """Unload a model now, whatever its min residency; with `drain`, after its last holder.

        Raises `ModelNotResidentError`; `ModelInUseError` when it is held, or still held after the
        drain's limit, and then it stays; `UnloadError` when the engine fails or hangs.
        """
        await self._effects.unload(self.catalog.known(model_id).model_id, drain=drain)

    def pin(self, model_id: str) -> None:
        """Exempt a model from eviction and expiry, now or whenever it is loaded."""
        self._effects.pin(self.catalog.get(model_id).model_id)

    def unpin(self, model_id: str) -> None:
        """End the exemption."""
        self._effects.unpin(self.catalog.known(model_id).model_id)

    def keep_alive(self, model_id: str, ttl_s: float) -> None:
        """Give a model in memory a TTL of its own, in seconds, until it leaves.

        Negative: it never expires. Min residency binds all the same. Raises
        `ModelNotResidentError`, also when it is leaving, and `InvalidInputError` for what is no
        number, or infinite.
        """
        ttl_s = finite_number(ttl_s, "ttl_s", fix="; a negative one never expires")
        self._effects.keep_alive(self.catalog.known(model_id).model_id, ttl_s)

    # Looking

    def list_resident(self) -> tuple[ResidentStatistics, ...]:
        """Return every model that is loading, in memory or leaving, oldest first."""
        return tuple(map(self._effects.statistics_of, self._ledger.residents))

    def list_catalog(self) -> tuple[ModelSpec, ...]:
        """Return every model that could be loaded."""
        return tuple(self.catalog)

    def statistics(self) -> ManagerStatistics:
        """Return the totals of this moment."""
        effects = self._effects
        return totals(
            self._ledger,
            effects.accounts,
            effects.time(),
            residents=self.list_resident(),
            processes=effects.processes,
            hanging=effects.hanging(),
            capacity_used=effects.dispatcher.used,
            streams_waiting=effects.dispatcher.waiting,
            process_usage=effects.process_usage,
        )

    def explain(self, model_id: str) -> Explanation:
        """Return why the model is or is not in memory, who holds it, and what happened to it."""
        model_id = self.catalog.known(model_id).model_id
        history = self.journal.events(model_id)
        effects = self._effects
        return explain(
            model_id,
            self._ledger,
            effects.accounts,
            effects.footprints,
            history,
            effects.time(),
            effects.statistics_of,
        )

    def subscribe(self) -> Subscription:
        """Return an asynchronous iterator of the events from now on."""
        return self.journal.subscribe()

    def __repr__(self) -> str:
        return repr(self._ledger).replace("Residency", "ModelManager")


def checked_settings(catalog: Catalog, **given: Any) -> ManagerSettings:
    """Return the settings, or raise `ConfigError` for what cannot work with this catalog."""
    try:
        settings = ManagerSettings(**given)
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None
    check_ids(settings, catalog)
    return settings
