"""Reports as a test wants them: an idle worker, unless it says otherwise."""

from __future__ import annotations

from typing import Any

from greenroom.cluster.reports import Reports
from greenroom.ledger.state import State
from greenroom.worker.report import ReportedModel, WorkerReport


def ready(model_id: str, idle_s: float = 0.0, **more: Any) -> ReportedModel:
    """Return a model in memory, which may leave when it is idle."""
    return ReportedModel(model_id, State.READY, idle_s=idle_s, can_leave=idle_s > 0, **more)


def loading(model_id: str, left_s: float) -> ReportedModel:
    """Return a model that is on its way."""
    return ReportedModel(model_id, State.LOADING, left_s=left_s)


def report(*residents: ReportedModel, **more: Any) -> WorkerReport:
    """Return the report of a worker with 3 places that does nothing."""
    given: dict[str, Any] = {
        "boot_id": "first",
        "sequence": 1,
        "catalog": "all",
        "default_model_id": "amy",
        "places": 3,
        "free_places": max(0, more.get("places", 3) - len(residents)),
        "evictable_places": sum(each.can_leave for each in residents),
        "free_bytes": 1_000,
        "evictable_bytes": sum(each.footprint for each in residents if each.can_leave),
        "room_in_s": 0.0,
        "in_flight": 0,
        "streams": 0,
        "streams_waiting": 0,
        "waiting": 0,
        "capacity_used": 0.0,
        "ready": True,
        "draining": False,
        "load_s": {"amy": 0.5, "joe": 0.5},
    }
    return WorkerReport(**(given | more), residents=residents)


def known(now: float = 0.0, /, **replicas: WorkerReport) -> Reports:
    """Return what is known when each replica has reported at `now`."""
    reports = Reports()
    for name, said in replicas.items():
        assert reports.update(name, said, now)
    return reports
