"""Metrics of a manager for Prometheus, read at the moment of the scrape.

Counts come from `statistics()` and are exact; the histograms of loads and warmups follow the
manager's events while `follow` runs. Sizes are bytes, times are seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from greenroom.hosts.engine_process import ENDINGS
from greenroom.journal import Kind, Subscription
from greenroom.ledger.state import Reason, State
from greenroom.memory.usage import MIB
from greenroom.model_manager import ModelManager
from greenroom.statistics import ManagerStatistics, ProcessStatistics, ResidentStatistics

LOAD_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""Seconds: from a prepared voice on a shared graph up to the default `load_timeout_ms`."""

_DEPARTURES = (
    Reason.EXPIRED,
    Reason.FORGOTTEN,
    Reason.EVICTED,
    Reason.SURPLUS,
    Reason.TURN,
    Reason.UNLOADED,
    Reason.CRASHED,
    Reason.SHUTDOWN,
)
_REFUSALS = (
    Reason.SHUTDOWN,
    Reason.BACKING_OFF,
    Reason.LOAD_FAILED,
    Reason.TOO_BIG,
    Reason.NO_ROOM,
    Reason.LINE_FULL,
    Reason.TIMED_OUT,
    Reason.OVERDRAWN,
)


RECENT_MODELS = 100
"""How many models besides the residents keep series of their own: the last that were used. A series
that was removed begins at zero when its model is used again; totals without a model are exact."""


class RecentModels:
    """A limit of the models that have series in some metrics: those used longest ago go."""

    def __init__(self, manager: ModelManager, *metrics: MetricWrapperBase) -> None:
        self._manager = manager
        self._metrics = metrics
        self._models: dict[str, None] = {}
        """In the order of their last use."""

    def used(self, model_id: str) -> None:
        """Keep the series of a model, and remove those of models that were used longest ago."""
        self._models.pop(model_id, None)
        self._models[model_id] = None
        if len(self._models) <= RECENT_MODELS:
            return
        residents = {r.model_id for r in self._manager.list_resident()}
        past = [name for name in self._models if name not in residents]
        for name in past[:-RECENT_MODELS]:
            del self._models[name]
            for metric in self._metrics:
                with contextlib.suppress(KeyError):
                    metric.remove(name)


class ManagerMetrics(Collector):
    """The metrics of one manager, for any registry: `registry.register(ManagerMetrics(manager))`.

    Scrape such a registry on the manager's event loop. Where encoding would hold up speech, take
    a `snapshot` there, and encode that in a thread: `generate_latest(snapshot)`.
    """

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self._load = _histogram("greenroom_load_seconds", "Loading a model, without its warmup")
        self._warmup = _histogram("greenroom_warmup_seconds", "Speaking the first words of a model")
        self._recent = RecentModels(manager, self._load, self._warmup)

    def follow(self) -> Coroutine[Any, Any, None]:
        """Return a coroutine that times loads until the manager ends; run it as a task."""
        return self._follow(self._manager.subscribe())

    async def _follow(self, events: Subscription) -> None:
        async for event in events:
            if event.took_s is not None:
                histogram = self._load if event.kind is Kind.WARMING else self._warmup
                histogram.labels(event.model_id).observe(event.took_s)
                self._recent.used(event.model_id)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are not checked before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of this moment."""
        yield from self.snapshot().collect()

    def snapshot(self) -> Snapshot:
        """Return the metrics of this moment, to be collected later in any thread.

        Call it on the manager's event loop."""
        return Snapshot(self._manager.statistics(), (self._load, self._warmup))


class Snapshot(Collector):
    """The metrics of one moment; only the histograms go on, with locks of their own."""

    def __init__(self, statistics: ManagerStatistics, histograms: tuple[Histogram, ...]) -> None:
        self._statistics = statistics
        self._histograms = histograms
        self._at = time.time()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from _residents(self._statistics.residents)
        yield from _memory(self._statistics)
        yield from _processes(self._statistics)
        yield from _waiting(self._statistics)
        yield from _scheduler(self._statistics, self._at)
        yield from _counts(self._statistics)
        for histogram in self._histograms:
            yield from histogram.collect()


def _residents(residents: tuple[ResidentStatistics, ...]) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "greenroom_residents", "Models in memory, loading or leaving", labels=["state"]
    )
    for state in State:
        states.add_metric([state], sum(r.state is state for r in residents))
    yield states
    for name, text, field in (
        ("greenroom_model_references", "References held to the model", "refcount"),
        ("greenroom_model_streams", "Streams the model speaks", "streams"),
        ("greenroom_model_pinned", "1 if the model is pinned", "pinned"),
        ("greenroom_model_idle_seconds", "Since the last use; 0 while in use", "idle_s"),
    ):
        figures = GaugeMetricFamily(name, text, labels=["model"])
        for r in residents:
            figures.add_metric([r.model_id], float(getattr(r, field)))
        yield figures
    for name, text, field in (
        ("greenroom_model_footprint_bytes", "Anonymous memory booked", "footprint_mb"),
        ("greenroom_model_mapped_bytes", "Pages of mapped files", "mapped_mb"),
    ):
        sizes = GaugeMetricFamily(name, text, labels=["model", "device"])
        for r in residents:
            sizes.add_metric([r.model_id, r.device], getattr(r, field) * MIB)
        yield sizes


def _memory(statistics: ManagerStatistics) -> Iterator[Metric]:
    booked = GaugeMetricFamily(
        "greenroom_footprint_bytes", "Booked of the device's memory", labels=["device"]
    )
    budget = GaugeMetricFamily(
        "greenroom_budget_bytes", "What all models of a device may take", labels=["device"]
    )
    for device, megabytes in statistics.budget_mb.items():
        size = sum(r.footprint_mb for r in statistics.residents if r.device == device)
        booked.add_metric([device], size * MIB)
        budget.add_metric([device], megabytes * MIB)
    taken = GaugeMetricFamily(
        "greenroom_taken_bytes",
        "What the process took for models when looked at",
        labels=["device"],
    )
    overdrawn = GaugeMetricFamily(
        "greenroom_overdrawn", "1 if that is over the budget: no load begins", labels=["device"]
    )
    for device, megabytes in statistics.taken_mb.items():
        taken.add_metric([device], megabytes * MIB)
        overdrawn.add_metric([device], float(device in statistics.overdrawn))
    yield from (booked, budget, taken, overdrawn)
    shared = GaugeMetricFamily(
        "greenroom_shared_memory_bytes",
        "Booked once for several models, in the footprint of one of them",
        labels=["name", "device"],
    )
    for part in statistics.shared:
        shared.add_metric([part.name, part.device], part.size_mb * MIB)
    process = GaugeMetricFamily(
        "greenroom_process_memory_bytes",
        "Physical memory of the worker's own process: anonymous, of mapped files, and all of it "
        "in proportion to the processes that have it",
        labels=["kind"],
    )
    if (own := statistics.process_memory) is not None:
        process.add_metric(["anonymous"], own.anonymous_mb * MIB)
        process.add_metric(["mapped"], own.mapped_mb * MIB)
        if own.proportional_mb is not None:
            process.add_metric(["proportional"], own.proportional_mb * MIB)
    yield from (shared, process)
    not_returned = GaugeMetricFamily(
        "greenroom_memory_not_returned_bytes",
        "What the model's last life left behind in the process",
        labels=["model"],
    )
    leaking = GaugeMetricFamily(
        "greenroom_model_leaking", "1 if the model leaves more behind each time", labels=["model"]
    )
    residents = {r.model_id for r in statistics.residents}
    recent = {account.model_id for account in statistics.memory[-RECENT_MODELS:]} | residents
    for account in statistics.memory:
        if account.model_id not in recent:
            continue
        leaking.add_metric([account.model_id], float(account.leaking))
        if account.not_returned_mb is not None:
            not_returned.add_metric([account.model_id], account.not_returned_mb * MIB)
    yield from (not_returned, leaking)


def _processes(statistics: ManagerStatistics) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "greenroom_engine_processes",
        "Processes that engines have of their own",
        value=len(statistics.processes),
    )
    yield GaugeMetricFamily(
        "greenroom_engine_processes_idle",
        "Those of them without a model, which wait a while for the next one",
        value=sum(process.idle for process in statistics.processes),
    )
    memory = GaugeMetricFamily(
        "greenroom_engine_process_memory_bytes",
        "Physical memory, pages that several processes have divided among them",
        labels=["process"],
    )
    age = GaugeMetricFamily(
        "greenroom_engine_process_age_seconds", "Of the oldest of this name", labels=["process"]
    )
    restarts = GaugeMetricFamily(
        "greenroom_engine_process_restarts",
        "How many processes of this name have crashed before it",
        labels=["process"],
    )
    by_name: dict[str, list[ProcessStatistics]] = {}
    for process in statistics.processes:
        by_name.setdefault(process.name, []).append(process)
    for name, same in by_name.items():
        memory.add_metric([name], sum(each.memory_mb or 0.0 for each in same) * MIB)
        age.add_metric([name], max(each.age_s for each in same))
        restarts.add_metric([name], max(each.restarts for each in same))
    yield from (memory, age, restarts)
    crashes = CounterMetricFamily(
        "greenroom_engine_crashes",
        "Processes with models that ended, or were killed as they answered too late (time_limit)",
        labels=["adapter", "how"],
    )
    adapters = {adapter for adapter, _ in statistics.crashes}
    for adapter in sorted(adapters):
        for how in ENDINGS:
            crashes.add_metric([adapter, how], statistics.crashes.get((adapter, how), 0))
    yield crashes


def _waiting(statistics: ManagerStatistics) -> Iterator[Metric]:
    for name, text, value in (
        ("resident_cap", "How many models may be in memory", statistics.resident_cap),
        ("waiting_callers", "Callers that wait for room", statistics.waiting),
        ("oldest_wait_seconds", "The longest present wait for a model", statistics.oldest_wait_s),
        ("oldest_load_seconds", "The age of the oldest load under way", statistics.oldest_load_s),
        ("hanging_models", "Models a thread hangs in", len(statistics.hanging)),
        (
            "capacity_used_ratio",
            "The share of the cores that all streams need to be kept up",
            statistics.capacity_used,
        ),
        ("waiting_streams", "Streams that wait to be kept up", statistics.streams_waiting),
    ):
        yield GaugeMetricFamily(f"greenroom_{name}", text, value=value)


def _scheduler(statistics: ManagerStatistics, at: float) -> Iterator[Metric]:
    """Yield what schedulers of inference requests read, in the shape that they read.

    The model server protocol of the Gateway API's inference extension, which llm-d's scheduler
    follows: requests that wait and run, the share of memory that is taken, and the models that are
    in memory and on their way as two lists in labels, with the time as the value. The labels'
    names are the protocol's; the metrics' names are given to the scheduler in its configuration.
    """
    waiting = statistics.waiting + statistics.streams_waiting
    running = sum(r.streams for r in statistics.residents)
    shares = [
        sum(r.footprint_mb for r in statistics.residents if r.device == device) / budget
        for device, budget in statistics.budget_mb.items()
        if budget
    ]
    for name, text, value in (
        ("requests_waiting", "Callers and streams that wait", waiting),
        ("requests_running", "Streams that speak", running),
        (
            "memory_used_ratio",
            "Booked of the budget, of the fullest device",
            max(shares, default=0),
        ),
    ):
        yield GaugeMetricFamily(f"greenroom_{name}", text, value=value)
    family = GaugeMetricFamily(
        "greenroom_models",
        "When this was seen, with the models in memory and those on their way",
        labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    )
    ready = [r.model_id for r in statistics.residents if r.state is State.READY]
    coming = [r.model_id for r in statistics.residents if r.state in (State.LOADING, State.WARMING)]
    labels = [str(statistics.resident_cap), ",".join(ready), ",".join(coming)]
    family.add_metric(labels, at)
    yield family


def _counts(statistics: ManagerStatistics) -> Iterator[Metric]:
    yield CounterMetricFamily("greenroom_hits", "Requests for a ready model", value=statistics.hits)
    loads = CounterMetricFamily("greenroom_loads", "Loads that ended", labels=["outcome"])
    loads.add_metric(["ready"], statistics.loads)
    loads.add_metric(["failed"], statistics.failed_loads)
    yield loads
    yield _by_reason(
        "greenroom_departures", "Unloads by what caused them", _DEPARTURES, statistics.departures
    )
    yield _by_reason(
        "greenroom_refusals",
        "Requests for a model that were refused",
        _REFUSALS,
        statistics.refused,
    )


def _by_reason(
    name: str, text: str, reasons: tuple[Reason, ...], counts: Mapping[str, int]
) -> Metric:
    """Return a counter with every reason, also those that have not occurred."""
    family = CounterMetricFamily(name, text, labels=["reason"])
    all_counts = {reason.name.lower(): 0 for reason in reasons} | dict(counts)
    for label, count in all_counts.items():
        family.add_metric([label], count)
    return family


def _histogram(name: str, text: str) -> Histogram:
    return Histogram(name, text, ["model"], buckets=LOAD_BUCKETS, registry=None)
