"""How a worker is doing at one moment, for people who look at it: `greenroom top` and others.

The same value travels as JSON (`GET /api/figures`) and over gRPC (`GetFigures`); what comes from
outside is checked and converted once, by `read_figures`. Seconds and bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from greenroom.config.schema import MAX_NAME_CHARS, first_problem
from greenroom.errors import InvalidInputError
from greenroom.memory.usage import MIB
from greenroom.statistics import (
    ProcessMemoryStatistics,
    ProcessStatistics,
    SharedMemoryStatistics,
)
from greenroom.worker.speech_log import (
    Count,
    EndedSpeech,
    Seconds,
    SpeechFigures,
    SpeechLog,
    figures_by_model,
    speech_figures,
)

if TYPE_CHECKING:
    from greenroom.model_manager import ModelManager

_Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
_Counts = Annotated[Mapping[_Name, Count], Field(max_length=1_000)]


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """A process that models of one engine live in, apart from the worker's own."""

    name: _Name
    pid: Count
    age_s: Seconds
    memory: Count | None = None
    """Physical memory, pages that several processes have divided among them; `None` in its first
    second."""
    restarts: Count = 0
    """How many processes of this name have crashed, or were killed, before it."""
    idle: bool = False
    """Whether it has no model, and waits for the next one."""


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """Physical memory of the worker's own process."""

    anonymous: Count
    """What only freeing gives back."""
    mapped: Count
    """Pages of mapped files, each file once, however many models map it."""
    proportional: Count | None = None
    """All of it, pages that several processes have divided among them; `None` where the system
    does not tell."""


@dataclass(frozen=True, slots=True)
class SharedFigures:
    """Memory that several models have in common."""

    name: _Name
    size: Count
    """As booked, once for all of them."""
    device: _Name
    models: Annotated[tuple[_Name, ...], Field(min_length=1, max_length=10_000)]
    """The first carries it: it is part of what is booked for that one."""


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """How one worker is doing at one moment."""

    boot_id: Annotated[str, Field(min_length=1, max_length=64)]
    """Of this life of the worker: another one has another."""
    version: _Name
    up_s: Seconds
    ready: bool
    draining: bool
    sessions: Count
    in_flight: Count
    """Speeches that run or wait, for a model or to be kept up."""
    streams: Count
    streams_waiting: Count
    """Streams that wait until they can be kept up."""
    waiting: Count
    """Callers that wait for room."""
    capacity_used: Seconds
    """The share of the cores that its streams need; above 1 is too much."""
    places: Count
    """How many models may be in memory."""
    residents: Count
    """Models in memory, loading or leaving."""
    footprint: Count
    """Booked for these, of all devices."""
    budget: Count
    window_s: Seconds
    """How long the time is that `recent` and `models` are about."""
    recent: SpeechFigures
    models: Annotated[Mapping[_Name, SpeechFigures], Field(max_length=10_000)]
    """`recent` of each model that was spoken with."""
    ended: _Counts
    """Speeches since the start, by how they ended: `finished`, `stopped`, `cancelled`, `failed`."""
    refused: _Counts
    """Requests since the start that were refused, by why."""
    audio_s: Seconds
    """Taken since the start."""
    gaps: Count
    """Silences in the midst of speech since the start."""
    late_s: Seconds
    crashes: _Counts
    """Engines' processes that ended with models in them since the start, by adapter."""
    memory: MemoryFigures | None = None
    """As of at most a second before a model last did anything, and as metrics and lists of models
    tell it; `None` before the worker is ready."""
    shared: Annotated[tuple[SharedFigures, ...], Field(max_length=10_000)] = ()
    """What models have in common; in `footprint` once each."""
    processes: Annotated[tuple[ProcessFigures, ...], Field(max_length=10_000)] = ()
    """Those of engines."""


_FIGURES = TypeAdapter(WorkerFigures)


def read_figures(given: object) -> WorkerFigures:
    """Return figures that came from outside as a mapping, checked; raises `InvalidInputError`."""
    try:
        return _FIGURES.validate_python(given)
    except ValidationError as error:
        raise InvalidInputError(f"a worker's figures: {first_problem(error)}") from None


def written_figures(figures: WorkerFigures) -> dict[str, Any]:
    """Return figures as a mapping of JSON's values, which `read_figures` reads."""
    written = asdict(figures)
    shared = [{**part, "models": list(part["models"])} for part in written["shared"]]
    return {**written, "shared": shared, "processes": list(written["processes"])}


class FigureSource:
    """Makes the figures of one worker."""

    def __init__(self, manager: ModelManager, log: SpeechLog, boot_id: str, version: str) -> None:
        self._manager = manager
        self._log = log
        self._boot_id = boot_id
        self._version = version

    async def figures(
        self, *, sessions: int, in_flight: int, ready: bool, draining: bool
    ) -> WorkerFigures:
        """Return the figures of this moment; percentiles are found in a thread."""
        found, log, now = self._manager.statistics(), self._log, time.monotonic()
        window_s, latest = log.latest(now)
        totals = log.totals(found.refused)
        crashes: Counter[str] = Counter()
        for (adapter, _), count in found.crashes.items():
            crashes[adapter] += count
        own = found.process_memory
        values = {
            "boot_id": self._boot_id,
            "version": self._version,
            "up_s": now - log.began_at,
            "ready": ready and not draining,
            "draining": draining,
            "sessions": sessions,
            "in_flight": in_flight,
            "streams": sum(each.streams for each in found.residents),
            "streams_waiting": found.streams_waiting,
            "waiting": found.waiting,
            "capacity_used": found.capacity_used,
            "places": found.resident_cap,
            "residents": len(found.residents),
            "footprint": round(found.footprint_mb * MIB),
            "budget": round(sum(found.budget_mb.values()) * MIB),
            "window_s": window_s,
            "ended": dict(log.ended),
            "refused": dict(totals.refused),
            "audio_s": log.audio_s,
            "gaps": totals.gaps,
            "late_s": totals.late_s,
            "crashes": dict(crashes),
            "memory": None if own is None else memory_figures(own),
            "shared": tuple(map(shared_figures, found.shared)),
            "processes": tuple(map(_process, found.processes)),
        }
        return await asyncio.to_thread(_completed, values, latest)


def _completed(values: Mapping[str, Any], latest: Sequence[EndedSpeech]) -> WorkerFigures:
    """Add what takes some milliseconds in a busy minute."""
    return WorkerFigures(**values, recent=speech_figures(latest), models=figures_by_model(latest))


def memory_figures(found: ProcessMemoryStatistics) -> MemoryFigures:
    """Return what a process takes, in bytes."""
    whole = found.proportional_mb
    return MemoryFigures(
        round(found.anonymous_mb * MIB),
        round(found.mapped_mb * MIB),
        None if whole is None else round(whole * MIB),
    )


def shared_figures(found: SharedMemoryStatistics) -> SharedFigures:
    """Return what models have in common, in bytes."""
    return SharedFigures(found.name, round(found.size_mb * MIB), found.device, found.model_ids)


def _process(found: ProcessStatistics) -> ProcessFigures:
    memory = None if found.memory_mb is None else round(found.memory_mb * MIB)
    return ProcessFigures(
        name=found.name,
        pid=found.pid,
        age_s=max(0.0, found.age_s),
        memory=memory,
        restarts=found.restarts,
        idle=found.idle,
    )
