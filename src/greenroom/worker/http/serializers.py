"""From Greenroom's values to JSON: residents, events, explanations, lists of the whole catalog.

Sizes are bytes, times seconds or ISO 8601.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fastapi import Response

from greenroom.adapter import ModelSpec
from greenroom.catalog import on_disk
from greenroom.catalog.catalog import Catalog
from greenroom.catalog.devices import CPU
from greenroom.concurrency.cores import cores
from greenroom.journal import Event, Spoken
from greenroom.memory.usage import MIB
from greenroom.statistics import (
    Explanation,
    ProcessMemoryStatistics,
    ProcessStatistics,
    ResidentStatistics,
)
from greenroom.worker.figures import memory_figures, shared_figures
from greenroom.worker.history import Step
from greenroom.worker.speech import RunningSpeech
from greenroom.worker.synthesis import Synthesis

_MOST_STREAMS = 200
"""Running streams in one answer: those that were asked for first."""


def resident(found: ResidentStatistics) -> dict[str, Any]:
    """Return one resident as Ollama's `ps` shows a model, with what only Greenroom knows."""
    footprint, mapped = round(found.footprint_mb * MIB), round(found.mapped_mb * MIB)
    expires = None if found.expires_in_s is None else time.time() + found.expires_in_s
    return {
        "name": found.model_id,
        "model": found.model_id,
        "size": footprint + mapped,
        "size_vram": 0 if found.device == CPU else footprint,
        "digest": "",
        "details": {"family": "text-to-speech", "format": ""},
        "expires_at": None if expires is None else iso(expires),
        "state": str(found.state),
        "references": found.refcount,
        "owners": list(found.owners),
        "streams": found.streams,
        "gaps": found.gaps,
        "late_s": round(found.late_s, 3),
        "pinned": found.pinned,
        "age_s": round(found.age_s, 3),
        "idle_s": round(found.idle_s, 3),
        "expires_in_s": None if found.expires_in_s is None else round(found.expires_in_s, 3),
        "footprint": footprint,
        "shared": round(found.shared_mb * MIB),
        "mapped": mapped,
        "device": found.device,
        "load_s": round(found.load_s, 4),
        "warmup_s": round(found.warmup_s, 4),
        "process": None if found.process is None else process(found.process),
        "yields_to": found.yields_to or None,
    }


def process(found: ProcessStatistics) -> dict[str, Any]:
    """Return the process that a model lives in; `memory` is `null` before it was looked at."""
    memory = found.memory_mb
    return {
        "name": found.name,
        "pid": found.pid,
        "memory": None if memory is None else round(memory * MIB),
        "age_s": round(found.age_s, 3),
        "restarts": found.restarts,
    }


def memory(found: ProcessMemoryStatistics | None) -> dict[str, Any] | None:
    """Return what the worker's own process takes of physical memory, in bytes.

    `None` before it was looked at.
    """
    return None if found is None else asdict(memory_figures(found))


def state(synthesis: Synthesis) -> dict[str, Any]:
    """Return what is in memory now and how the worker is."""
    found = synthesis.manager.statistics()
    verdict = synthesis.readiness.verdict()
    return {
        "models": [resident(each) for each in found.residents],
        "resident_cap": found.resident_cap,
        "footprint": {
            device: round(sum(r.footprint_mb for r in found.residents if r.device == device) * MIB)
            for device in found.budget_mb
        },
        "budget": {device: round(size * MIB) for device, size in found.budget_mb.items()},
        "taken": {device: round(size * MIB) for device, size in found.taken_mb.items()},
        "overdrawn": list(found.overdrawn),
        "shared": [asdict(shared_figures(part)) for part in found.shared],
        "memory": memory(found.process_memory),
        "crashes": [
            {"adapter": adapter, "how": how, "count": count}
            for (adapter, how), count in sorted(found.crashes.items())
        ],
        "idle_processes": [process(each) for each in found.processes if each.idle],
        "pinned": list(found.pinned),
        "catalog_version": synthesis.manager.catalog.version,
        "waiting": found.waiting,
        "capacity_used": round(found.capacity_used, 2),
        "cores": cores(),
        "streams_waiting": found.streams_waiting,
        "oldest_wait_s": round(verdict.oldest_wait_s, 3),
        "oldest_load_s": round(verdict.oldest_load_s, 3),
        "ready": verdict.ready,
        "problems": list(verdict.problems),
    }


def unchanging(snapshot: dict[str, Any]) -> Any:
    """Return of a `state` what does not change by the mere passing of time, for comparing."""
    passing = ("age_s", "idle_s", "expires_in_s", "expires_at")
    models = []

    def still_of(process: dict[str, Any]) -> tuple[int, int]:
        return process["pid"], (process["memory"] or 0) // (16 * MIB)

    for each in snapshot["models"]:
        still = {key: value for key, value in each.items() if key not in passing}
        left = each["expires_in_s"]
        if each["process"] is not None:
            still["process"] = still_of(each["process"])
        models.append((still, left is None, each["idle_s"] == 0))
    apart = ("models", "idle_processes", "oldest_wait_s", "oldest_load_s", "memory")
    rest = {key: value for key, value in snapshot.items() if key not in apart}
    own = snapshot["memory"]
    memory = None if own is None else own["anonymous"] // (16 * MIB)
    return models, list(map(still_of, snapshot["idle_processes"])), rest, memory


def catalog_entry(spec: ModelSpec, *, default: bool) -> dict[str, Any]:
    """Return a model of the catalog as Ollama's `tags` shows one; looks at the disk.

    `prepared` is `null` for a model that has one form only.
    """
    adapter = spec.adapter if isinstance(spec.adapter, str) else spec.adapter.__name__
    return {
        "name": spec.model_id,
        "model": spec.model_id,
        "digest": "",
        "size": on_disk.size_of(spec),
        "prepared": on_disk.is_prepared(spec),
        "details": {"family": adapter, "families": [adapter], "format": ""},
        "device": spec.device,
        "languages": list(spec.languages),
        "tags": list(spec.tags),
        "aliases": list(spec.aliases),
        "default": default,
    }


def generated(model: str, reason: str) -> dict[str, Any]:
    """Return what Ollama answers to a request without a prompt."""
    now = iso(time.time())
    return {
        "model": model,
        "created_at": now,
        "response": "",
        "done": True,
        "done_reason": reason,
    }


def event(found: Event) -> dict[str, Any]:
    """Return one entry of the journal."""
    return {
        "kind": str(found.kind),
        "model": found.model_id,
        "reason": found.reason,
        "time": round(found.wall, 6),
        "owner": found.owner,
        "took_s": found.took_s,
    }


def speech(found: Event, spoken: Spoken) -> dict[str, Any]:
    """Return how one request for speech went; `time` is when it ended."""
    first = spoken.first_audio_s
    return {
        "model": found.model_id,
        "owner": found.owner,
        "time": round(found.wall, 6),
        "outcome": spoken.outcome,
        "waited_s": round(spoken.waited_s, 6),
        "first_audio_s": None if first is None else round(first, 6),
        "audio_s": round(spoken.audio_s, 3),
        "took_s": round(spoken.took_s, 6),
    }


def step(found: Step) -> dict[str, Any]:
    """Return one step of the worker's history."""
    times = (found.first_audio_p50_s, found.first_audio_p95_s)
    median, slow = (None if seconds is None else round(seconds, 4) for seconds in times)
    return {
        "number": found.number,
        "time": round(found.time, 3),
        "streams": found.streams,
        "speeches": found.speeches,
        "first_audio_p50_s": median,
        "first_audio_p95_s": slow,
        "gaps": found.gaps,
        "late_s": round(found.late_s, 3),
        "refused": dict(found.refused),
        "capacity_used": round(found.capacity_used, 3),
        "cores_busy": round(found.cores_busy, 3),
        "memory": memory(found.memory),
        "engines": round(found.engines_mb * MIB),
    }


def streams(running: list[RunningSpeech]) -> dict[str, Any]:
    """Return the streams that run or wait: how many, and the first of them."""
    return {"count": len(running), "streams": [_stream(each) for each in running[:_MOST_STREAMS]]}


def _stream(found: RunningSpeech) -> dict[str, Any]:
    first, ahead = found.first_audio_s, found.ahead_s
    return {
        "number": found.number,
        "model": found.model_id,
        "owner": found.owner,
        "state": found.state,
        "age_s": round(found.age_s, 3),
        "first_audio_s": None if first is None else round(first, 4),
        "audio_s": round(found.audio_s, 2),
        "ahead_s": None if ahead is None else round(ahead, 2),
        "gaps": found.gaps,
        "late_s": round(found.late_s, 3),
    }


def explanation(found: Explanation) -> dict[str, Any]:
    """Return why a model is or is not in memory."""
    return {
        "model": found.model_id,
        "summary": found.summary,
        "text": str(found),
        "resident": None if found.resident is None else resident(found.resident),
        "holders": [{"owner": owner, "held_s": round(held, 3)} for owner, held in found.holders],
        "history": [event(each) for each in found.history],
        "memory": None if found.memory is None else asdict(found.memory),
    }


def iso(wall: float) -> str:
    """Return a moment, in seconds since the epoch, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


class CatalogList:
    """`{…, "key": [an entry for each model]}`."""

    def __init__(
        self,
        key: str,
        catalog: Catalog,
        entries: Callable[[], Iterable[dict[str, Any]]],
        *,
        kept_s: float = math.inf,
        **rest: Any,
    ) -> None:
        """`kept_s` is how long a list may be used that also says what the catalog does not know."""
        self._key = key
        self._catalog = catalog
        self._entries = entries
        self._rest = rest
        self._body: bytes | None = None
        self._version = -1
        self._kept_s = kept_s
        self._made_at = -math.inf

    async def answer(self) -> Response:
        """Return the list, encoded at the first question after a change of the catalog."""
        version, now = self._catalog.version, time.monotonic()
        is_old = now - self._made_at > self._kept_s
        if self._body is None or self._version != version or is_old:
            body = await asyncio.to_thread(self._encoded)
            # Of two that were encoded at once the newer stays; an older one is asked for anew.
            if version >= self._version:
                self._body, self._version, self._made_at = body, version, now
            return Response(body, media_type="application/json")
        return Response(self._body, media_type="application/json")

    def _encoded(self) -> bytes:
        """Encode entry by entry: one call for all would keep the loop's thread from running."""
        head = "".join(f"{_text(key)}:{_text(value)}," for key, value in self._rest.items())
        entries = ",".join(map(_text, self._entries()))
        return f"{{{head}{_text(self._key)}:[{entries}]}}".encode()


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
