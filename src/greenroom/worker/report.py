"""A report of what a worker has, for whoever decides where a request goes.

The same value travels as JSON (`GET /api/report`), over gRPC (`GetReport`) and through Ray; what
comes from outside is checked and converted once, by `read_report`. Seconds and bytes.
"""

from __future__ import annotations

import hashlib
import statistics
import uuid
from collections import OrderedDict, deque
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from greenroom.config.schema import MAX_NAME_CHARS, first_problem
from greenroom.errors import InvalidInputError
from greenroom.journal import Kind, Subscription
from greenroom.ledger.state import State
from greenroom.memory.usage import MIB
from greenroom.statistics import ManagerStatistics, ResidentStatistics

if TYPE_CHECKING:
    from greenroom.catalog.catalog import Catalog
    from greenroom.model_manager import ModelManager

UNKNOWN_LOAD_S = 0.5
"""What a load is expected to take while none was measured: a stock Piper voice of 63 MB."""

SPEECH_S = 5.0
"""What a speech is expected to last: one or two sentences."""

_MOST_MODELS = 1_000
"""Models of which load times are kept: those that were loaded last."""

_REPORTED_LOADS = 100
"""Load times in one report, besides those of its residents."""

_LOADS_KEPT = 9
"""Of each model: the median of so many ends an outlier."""

_Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
_Id = Annotated[str, Field(min_length=1, max_length=64)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class ReportedModel:
    """One model in memory, loading or leaving."""

    model_id: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
    state: State
    references: _Count = 0
    streams: _Count = 0
    idle_s: _Seconds = 0.0
    """Since its last use; 0 while in use or not ready."""
    left_s: _Seconds = 0.0
    """Until it is ready, by what its loads took before; 0 when it is."""
    can_leave: bool = False
    """Whether it would make room for another at once."""
    footprint: _Count = 0
    """Bytes booked for it."""

    @property
    def is_home(self) -> bool:
        """Whether a request for it would be served by what is there, or is on its way."""
        return self.state in (State.LOADING, State.WARMING, State.READY)


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What one worker has at one moment."""

    boot_id: _Id
    """Of this life of the worker: another one has another."""
    sequence: _Count
    """Grows from report to report within one life."""
    catalog: _Name
    """A digest of the ids and aliases that it can load: workers with the same have the same."""
    default_model_id: _Name
    places: _Count
    """How many models may be in memory."""
    free_places: _Count
    evictable_places: _Count
    """Models that would make room at once."""
    free_bytes: _Count
    """Of the budgets of all devices."""
    evictable_bytes: _Count
    room_in_s: _Seconds | None
    """Until there is a place for another model, as expected: 0 at once, `None` never."""
    in_flight: _Count
    """Speeches that run or wait, for a model or to be kept up."""
    streams: _Count
    streams_waiting: _Count
    """Streams that wait until they can be kept up."""
    waiting: _Count
    """Callers that wait for room."""
    capacity_used: _Seconds
    """The share of the cores that its streams need; above 1 is too much."""
    ready: bool
    """Whether work should be sent there."""
    draining: bool
    """Whether it is about to end: what runs goes on, nothing else is taken."""
    residents: Annotated[tuple[ReportedModel, ...], Field(max_length=10_000)] = ()
    load_s: Annotated[Mapping[_Name, _Seconds], Field(max_length=11_000)] = Field(
        default_factory=dict
    )
    """The median of a model's last loads, warmup included."""


_REPORT = TypeAdapter(WorkerReport)


def read_report(given: object) -> WorkerReport:
    """Return a report that came from outside as a mapping, checked.

    Raises `InvalidInputError` for one that is none, or that contradicts itself.
    """
    try:
        report = _REPORT.validate_python(given)
    except ValidationError as error:
        raise InvalidInputError(f"a worker's report: {first_problem(error)}") from None
    problem = _contradiction(report)
    if problem:
        raise InvalidInputError(f"a worker's report contradicts itself: {problem}.")
    return report


def written_report(report: WorkerReport) -> dict[str, Any]:
    """Return a report as a mapping of JSON's values, which `read_report` reads."""
    written = asdict(report)
    written["residents"] = [dict(each, state=str(each["state"])) for each in written["residents"]]
    return written


def _contradiction(report: WorkerReport) -> str:
    """Return what cannot be true at once; empty when all can."""
    names = {resident.model_id for resident in report.residents}
    movable = sum(resident.can_leave for resident in report.residents)
    if len(names) < len(report.residents):
        return "a model is in memory twice"
    if report.free_places > report.places:
        return f"{report.free_places} of {report.places} places are free"
    if report.evictable_places != movable:
        return f"{report.evictable_places} models may leave, and {movable} of them are named"
    if report.draining and report.ready:
        return "it is ready and about to end"
    for each in report.residents:
        used = each.references or each.streams
        if each.can_leave and (used or each.state is not State.READY):
            return f"{each.model_id!r} is in use or not ready, and may leave"
        if each.left_s and each.state not in (State.LOADING, State.WARMING):
            return f"{each.model_id!r} is {each.state}, and ready only later"
    return ""


class Reporter:
    """Makes the reports of one worker, in one life of it."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self.boot_id = uuid.uuid4().hex
        """Of this life of the worker: another one has another."""
        self._sequence = 0
        self._catalog = (manager.catalog.version, catalog_digest(manager.catalog))
        self._default = manager.catalog.get(manager.settings.default_model_id).model_id
        self._loads = LoadTimes()

    def follow(self) -> Coroutine[Any, Any, None]:
        """Return a coroutine that times loads until the manager ends; run it as a task."""
        return self._loads.follow(self._manager.subscribe())

    def report(self, *, in_flight: int, ready: bool, draining: bool) -> WorkerReport:
        """Return the report of this moment, numbered; on the manager's event loop."""
        self._sequence += 1
        found = self._manager.statistics()
        least = self._manager.settings.min_residency_ms / 1000
        residents = tuple(self._resident(each, least) for each in found.residents)
        movable = [each for each in residents if each.can_leave]
        free_places = max(0, found.resident_cap - len(residents))
        booked = round(found.footprint_mb * MIB)
        return WorkerReport(
            boot_id=self.boot_id,
            sequence=self._sequence,
            catalog=self._catalog_digest(),
            default_model_id=self._default,
            places=found.resident_cap,
            free_places=free_places,
            evictable_places=len(movable),
            free_bytes=max(0, round(sum(found.budget_mb.values()) * MIB) - booked),
            evictable_bytes=sum(each.footprint for each in movable),
            room_in_s=0.0 if free_places or movable else self._room_in(found, least),
            in_flight=in_flight,
            streams=sum(each.streams for each in residents),
            streams_waiting=found.streams_waiting,
            waiting=found.waiting,
            capacity_used=found.capacity_used,
            ready=ready and not draining,
            draining=draining,
            residents=residents,
            load_s=self._loads.medians(each.model_id for each in residents),
        )

    def _catalog_digest(self) -> str:
        """Return the digest of what can be loaded now: voices come and go while a worker runs."""
        catalog = self._manager.catalog
        if self._catalog[0] != catalog.version:
            self._catalog = (catalog.version, catalog_digest(catalog))
        return self._catalog[1]

    def _resident(self, found: ResidentStatistics, least: float) -> ReportedModel:
        loading = found.state in (State.LOADING, State.WARMING)
        left = self._loads.median(found.model_id) - found.age_s if loading else 0.0
        idle = found.state is State.READY and not (found.refcount or found.streams)
        return ReportedModel(
            found.model_id,
            found.state,
            found.refcount,
            found.streams,
            max(0.0, found.idle_s),
            max(0.0, left),
            idle and not found.pinned and found.age_s >= least,
            round(found.footprint_mb * MIB),
        )

    def _room_in(self, found: ManagerStatistics, least: float) -> float | None:
        """Return when a place is expected to come free, when there is none now."""
        if self._manager.settings.cap_policy == "soft":
            return 0.0  # it loads over the cap as long as memory lasts
        movable = [each for each in found.residents if not each.pinned]
        if not movable:
            return None
        idle = [least - each.age_s for each in movable if not (each.refcount or each.streams)]
        soonest = min([SPEECH_S, *(max(0.0, left) for left in idle)])
        return soonest + found.waiting * SPEECH_S / len(movable)


class LoadTimes:
    """The last load times of the models that were loaded last, warmup included."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[str, deque[float]] = OrderedDict()
        self._begun: dict[str, float] = {}
        """Loads whose warmup is under way."""

    async def follow(self, events: Subscription) -> None:
        """Time loads by the manager's events, until it ends."""
        async for event in events:
            if event.took_s is None:
                continue
            if event.kind is Kind.WARMING:
                self._begun[event.model_id] = event.took_s
            elif event.kind is Kind.READY:
                self.learn(event.model_id, self._begun.pop(event.model_id, 0.0) + event.took_s)
            while len(self._begun) > _MOST_MODELS:  # their warmups failed
                del self._begun[next(iter(self._begun))]

    def learn(self, model_id: str, seconds: float) -> None:
        """Note how long one load took."""
        self._seconds.setdefault(model_id, deque(maxlen=_LOADS_KEPT)).append(seconds)
        self._seconds.move_to_end(model_id)
        if len(self._seconds) > _MOST_MODELS:
            self._seconds.popitem(last=False)

    def median(self, model_id: str) -> float:
        """Return what a load of the model is expected to take."""
        known = self._seconds.get(model_id)
        if known:
            return statistics.median(known)
        latest = next(reversed(self._seconds.values()), None)
        return UNKNOWN_LOAD_S if latest is None else latest[-1]

    def medians(self, residents: Any) -> dict[str, float]:
        """Return the measured times of the residents, and of the models loaded last."""
        names = dict.fromkeys([*residents, *list(self._seconds)[-_REPORTED_LOADS:]])
        return {name: round(self.median(name), 4) for name in names if name in self._seconds}


def catalog_digest(catalog: Catalog) -> str:
    """Return a digest of what a catalog can load, by which name."""
    names = sorted(name for spec in catalog for name in (spec.model_id, *spec.aliases))
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]
