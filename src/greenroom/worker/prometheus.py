"""The worker's metrics for Prometheus: those of the manager, and those of speech.

The registry is the worker's own: two workers of one process share nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from greenroom.errors import ModelManagerError, OverloadedError, WorkerBusyError
from greenroom.metrics import ManagerMetrics, RecentModels, Snapshot
from greenroom.model_manager import ModelManager
from greenroom.worker.history import History
from greenroom.worker.speech import Speech
from greenroom.worker.speech_log import SpeechLog

_WAITS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_FIRST = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_FACTORS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5)

OUTCOMES = ("finished", "stopped", "cancelled", "failed")
"""How a stream ends: by itself, on request, because its caller has gone, with an error."""

LIMITS = (
    *("sessions", "streams", "requests", "watches", "followers", "overload"),
    *("key_sessions", "key_streams", "key_requests"),
)
"""What there may be too many of: the worker's own, and those of one key.

Requests (gRPC's calls too), watches and followers are also those of one key or address.
"""


class WorkerMetrics:
    """Counts what `Synthesis` does, and answers scrapes; on the manager's event loop."""

    def __init__(self, manager: ModelManager) -> None:
        self.manager = ManagerMetrics(manager)
        self.log = SpeechLog(time.monotonic())
        """What people look at; the metrics are for programs."""
        self.history = History(manager, self.log)
        """The last ten minutes, step by step."""
        self._registry = registry = CollectorRegistry()
        self._wait = Histogram(
            "greenroom_wait_seconds",
            "Until a caller had its model, or was refused it",
            ["outcome"],
            buckets=_WAITS,
            registry=registry,
        )
        self._first = Histogram(
            "greenroom_first_audio_seconds",
            "From the request to its first frame, loading included",
            ["model"],
            buckets=_FIRST,
            registry=registry,
        )
        self._factor = Histogram(
            "greenroom_real_time_factor",
            "Seconds in the engine for a second of audio",
            ["model"],
            buckets=_FACTORS,
            registry=registry,
        )
        self._audio = Counter(
            "greenroom_audio_seconds", "Audio that callers took", ["model"], registry=registry
        )
        self._gaps = Counter(
            "greenroom_speech_gaps",
            "Silences of more than 20 ms in the midst of speech, for one who plays at real time",
            ["model"],
            registry=registry,
        )
        self._late = Counter(
            "greenroom_speech_late_seconds",
            "Silence in the midst of speech, for one who plays at real time",
            ["model"],
            registry=registry,
        )
        self._running = Gauge("greenroom_streams", "Streams that speak now", registry=registry)
        self._ended = Counter(
            "greenroom_streams_ended", "Streams by how they ended", ["outcome"], registry=registry
        )
        self._busy = Counter(
            "greenroom_busy",
            "Requests refused for a limit of the worker's or of a key's",
            ["reason"],
            registry=registry,
        )
        self._recent = RecentModels(
            manager, self._first, self._factor, self._audio, self._gaps, self._late
        )
        self._encoding = asyncio.Lock()
        self._scrapes: dict[str, asyncio.Task[bytes]] = {}
        """What is being encoded, by its content type."""
        for outcome in OUTCOMES:
            self._ended.labels(outcome)
        for reason in LIMITS:
            self._busy.labels(reason)
        for outcome in ("served", "refused"):
            self._wait.labels(outcome)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time a wait for a model; one that its caller gives up counts as refused."""
        began, outcome = time.monotonic(), "refused"
        try:
            yield
            outcome = "served"
        finally:
            self._wait.labels(outcome).observe(time.monotonic() - began)

    @contextlib.contextmanager
    def speaking(self, model_id: str, speech: Speech) -> Iterator[None]:
        """Count a stream while it speaks inside the block, and by how it ends."""
        outcome, refused = "cancelled", False
        self._running.inc()
        self.history.speech_begins()
        try:
            yield
            outcome = outcome_of(speech)
        except OverloadedError:
            outcome, refused = "failed", True
            self.refused("overload")
            raise
        except ModelManagerError:
            outcome = "failed"
            raise
        finally:
            self._running.dec()
            self.history.speech_ends()
            self._ended.labels(outcome).inc()
            self._time(model_id, speech)
            if not refused:
                self.log.end(model_id, outcome, speech.timing, time.monotonic())

    def _time(self, model_id: str, speech: Speech) -> None:
        timing = speech.timing
        self._recent.used(model_id)
        self._audio.labels(model_id).inc(timing.audio_s)
        self._gaps.labels(model_id).inc(timing.gaps)
        self._late.labels(model_id).inc(timing.late_s)
        if timing.first_audio_s is not None:
            self._first.labels(model_id).observe(timing.first_audio_s)
        if timing.real_time_factor is not None:
            self._factor.labels(model_id).observe(timing.real_time_factor)

    def refused(self, reason: str) -> None:
        """Count a request that was refused for one of `LIMITS`."""
        self._busy.labels(reason).inc()
        self.log.refused[reason] += 1

    @contextlib.contextmanager
    def limited(self, reason: str) -> Iterator[None]:
        """Count what is refused inside the block because the worker is busy."""
        try:
            yield
        except WorkerBusyError:
            self.refused(reason)
            raise

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics, and their content type, in the format that `accept` asks for.

        They are encoded in a thread, one scrape at a time; a scrape that comes while the same is
        encoded gets that.
        """
        encode, content_type = choose_encoder(accept)
        scrape = self._scrapes.get(content_type)
        if scrape is None:
            scrape = asyncio.create_task(self._encoded(encode), name="greenroom metrics")
            self._scrapes[content_type] = scrape
            scrape.add_done_callback(lambda _: self._scrapes.pop(content_type))
        return await asyncio.shield(scrape), content_type

    async def _encoded(self, encode: Callable[[Any], bytes]) -> bytes:
        async with self._encoding:
            scrape = _Scrape(self.manager.snapshot(), self._registry)
            return await asyncio.to_thread(encode, scrape)


class _Scrape(Collector):
    """The manager's metrics of one moment, the worker's own, and those of the process.

    Collecting the last reads files, and the worker's own have locks: in a thread all can be.
    """

    def __init__(self, manager: Snapshot, registry: CollectorRegistry) -> None:
        self._manager = manager
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from self._manager.collect()
        yield from self._registry.collect()
        yield from ProcessCollector(registry=None).collect()


def outcome_of(speech: Speech) -> str:
    """Return how a speech ended that did not fail."""
    if speech.stopped:
        return "stopped"
    return "finished" if speech.timing.over else "cancelled"
