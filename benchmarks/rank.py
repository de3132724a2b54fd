"""What it costs to decide where a request goes, as a router of a large cluster does.

1,000 replicas with 10 models each, of 10,000 voices that are asked for by Zipf's law. Pure, with no
network; processor time. And what it is good for, as a play in virtual time: how often four workers
with 3 places each load voices, of 16. One worker with all places is what cannot be bettered.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

from benchmarks.figures import Effort, Figure
from benchmarks.virtual_cluster import played, requests_by_zipf
from greenroom.cluster.rank import rank
from greenroom.cluster.reports import Reports
from greenroom.ledger.state import State
from greenroom.worker.report import ReportedModel, WorkerReport, read_report, written_report

_REPLICAS = 1_000
_VOICES = 10_000
_PLACES = 10
_STEPS = 5_000
_REQUESTS = 2_000
_MOST_S_A_PICK = 100e-6
_MOST_S_A_REPORT = 1e-3


def measure(effort: Effort) -> list[Figure]:
    """Time picks that find their voice, picks that do not, and reports."""
    steps = effort.count(_STEPS)
    hits, misses, updates, reads = [], [], [], []
    for number in range(effort.rounds):
        cluster = _Cluster(random.Random(number))
        hits.append(cluster.time_picks(steps, cluster.asked(steps)))
        misses.append(cluster.time_picks(steps, [f"unheard-{n}" for n in range(steps)]))
        updates.append(cluster.time_updates(steps))
        reads.append(cluster.time_reads(effort.count(200)))
    return [
        Figure("a pick, of voices by Zipf's law", tuple(hits), at_most=_MOST_S_A_PICK),
        Figure("a pick, the voice is nowhere", tuple(misses), at_most=_MOST_S_A_PICK),
        Figure("a report is taken", tuple(updates), at_most=_MOST_S_A_REPORT),
        Figure("a report is checked and converted", tuple(reads)),
        *_plays(effort),
    ]


def _plays(effort: Effort) -> list[Figure]:
    """Return how often voices were loaded, each way with the same requests in each round."""
    count = effort.count(_REQUESTS, least=50)
    rounds = [requests_by_zipf(16, count, 3.0, seed) for seed in range(min(3, effort.rounds))]

    def loads(way: str, workers: int = 4, **more: float) -> tuple[float, ...]:
        found = (
            played(each, way, workers=workers, places=12 // workers, **more)  # type: ignore[arg-type]
            for each in rounds
        )
        return tuple(float(each.loads) for each in found)

    ours = loads("by rank")
    limits = (None, None) if effort.short else (1.15, 0.5)
    whole, turn = loads("in turn", 1), loads("in turn")
    name = "4 workers: loads"
    return [
        Figure(name, ours, "", "one worker with all places", whole, limits[0], "ratio"),
        Figure("…", ours, "", "workers in turn", turn, limits[1], "ratio"),
        Figure("…", ours, "", "a hash of the voice", loads("by hash")),
        Figure("… three routers", loads("by rank", routers=3), "", "one router", ours),
        Figure("… a report every 3 s", loads("by rank", report_every=3.0), "", "0.5 s", ours),
    ]


class _Cluster:
    """A router's view of 1,000 replicas."""

    def __init__(self, choice: random.Random) -> None:
        self._choice = choice
        self._weights = [1 / (rank_of + 1) for rank_of in range(_VOICES)]
        self._reports = [self._report(n) for n in range(_REPLICAS)]
        self.view = Reports()
        for number, report in enumerate(self._reports):
            self.view.update(f"worker-{number}", report, 0.0)

    def asked(self, count: int) -> list[str]:
        """Return voices by Zipf's law."""
        found = self._choice.choices(range(_VOICES), self._weights, k=count)
        return [f"voice-{number}" for number in found]

    def _report(self, number: int) -> WorkerReport:
        names = list(dict.fromkeys(self.asked(2 * _PLACES)))[:_PLACES]
        residents = tuple(
            ReportedModel(name, State.READY, idle_s=n, can_leave=n > 0, footprint=10**7)
            for n, name in enumerate(names)
        )
        return WorkerReport(
            boot_id=f"life of {number}",
            sequence=1,
            catalog="all",
            default_model_id="voice-0",
            places=_PLACES,
            free_places=_PLACES - len(names),
            evictable_places=len(names) - 1,
            free_bytes=10**9,
            evictable_bytes=10**8,
            room_in_s=0.0,
            in_flight=self._choice.randrange(8),
            streams=1,
            streams_waiting=0,
            waiting=0,
            capacity_used=self._choice.random() / 10,
            ready=True,
            draining=False,
            residents=residents,
            load_s=dict.fromkeys(names, 0.3),
        )

    def time_picks(self, steps: int, voices: list[str]) -> float:
        """Return the seconds of one pick that is noted."""
        began = time.process_time()
        for voice in voices:
            best = rank(self.view, voice, 0.0, 1)[0]
            self.view.picked(best, voice, 0.0)
        return (time.process_time() - began) / steps

    def time_updates(self, steps: int) -> float:
        """Return the seconds of one report, with what was sent since the last."""
        told = [
            (f"worker-{n % _REPLICAS}", replace(self._reports[n % _REPLICAS], sequence=2 + n))
            for n in range(steps)
        ]
        began = time.process_time()
        for name, report in told:
            self.view.update(name, report, 1.0)
        return (time.process_time() - began) / steps

    def time_reads(self, steps: int) -> float:
        """Return the seconds of one report that comes as JSON's values."""
        written = [written_report(self._reports[n % _REPLICAS]) for n in range(steps)]
        began = time.process_time()
        for each in written:
            read_report(each)
        return (time.process_time() - began) / steps
