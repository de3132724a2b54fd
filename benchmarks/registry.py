"""Which benchmarks there are: each is a module with `measure(effort)` that returns its figures."""

from __future__ import annotations

import importlib

from benchmarks.apart import apart
from benchmarks.figures import Effort, Figure

BENCHMARKS = {
    "hit": "asking for a model that is ready",
    "stall": "the event loop while a real voice comes, speaks and leaves",
    "beside": "a ready model while another one loads, hangs or leaves",
    "crowd": "many callers, few places",
    "arrival": "a voice that is not in memory, until it speaks",
    "ready": "a voice in memory: first audio, whole paragraphs",
    "servers": "several voices on a server",
    "http": "speech over HTTP, against the manager and against uvicorn",
    "callers": "many callers over HTTP, few places",
    "capacity": "callers over HTTP who play at real time: how many are held, soon and unbroken",
    "isolation": "engines in a process of their own, against threads",
    "growth": "memory over fifty lives of a real voice",
    "catalog": "10,000 voices: found, listed",
    "decision": "the ledger as catalog and residents grow",
    "cluster": "several workers, more voices than fit: which is asked",
    "rank": "where a request goes, among 1,000 replicas with 10,000 voices",
    "simulation": "traces played against the ledger: how near to a real worker, at what cost",
    "speech": "first audio and whole paragraphs; threads inside a model",
    "words": "when words are heard, against the energy of the audio",
    "held": "memory that voices hold, and what they leave behind",
}
"""Names in order of running, and what each is about."""


def measure(name: str, effort: Effort) -> list[Figure]:
    """Run one benchmark here."""
    figures: list[Figure] = importlib.import_module(f"benchmarks.{name}").measure(effort)
    return figures


def measure_apart(name: str, effort: Effort) -> list[Figure]:
    """Run one benchmark in a process of its own, where nothing was done before."""
    return apart(measure, name, effort)
