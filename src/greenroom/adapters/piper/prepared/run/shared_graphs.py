"""The graphs in memory: each is one set of sessions, shared by all voices that have it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from greenroom.adapters.piper.prepared.manifest import FILE_NAME, FLOW, Manifest
from greenroom.adapters.piper.prepared.run.arena import ArenaShrinker
from greenroom.adapters.piper.prepared.run.openvino_stage import CompiledOnce
from greenroom.adapters.piper.prepared.run.stage_cost import Costs
from greenroom.adapters.piper.prepared.run.timer import TIMER, Due
from greenroom.concurrency.cores import cores
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

_WIDE = 2
"""Threads of a run that has a second core to itself: more gain little on so few columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Sessions without weights, by the name of their stage. Any number of threads may run them."""

    graph_id: str
    manifest: Manifest
    sessions: Mapping[str, Any]
    wide_sessions: Mapping[str, Any] = field(default_factory=dict)
    """Those that compute with two threads, of the stages that a lone listener waits for first."""
    shrinker: ArenaShrinker = field(default_factory=ArenaShrinker)
    costs: Costs = field(default_factory=Costs)
    folder: Path = Path()
    openvino: CompiledOnce = field(default_factory=CompiledOnce)

    @classmethod
    def read(cls, graph_id: str, folder: Path, threads: int) -> Graph:
        """Build the sessions; raises what onnxruntime, pydantic or the file system raise.

        `threads` work on the text stage. The others are run in pieces, several at once, so one
        thread each is enough for them. Where there are cores for it, text and flow have a session
        more, with two threads: nothing can be decoded beside them for who hears nothing yet.
        """
        manifest = Manifest.model_validate_json((folder / FILE_NAME).read_bytes())
        files = {stage: (folder / stage.file_name).read_bytes() for stage in manifest.stages}
        sessions = {
            stage.name: cpu_session(file, 1 if stage.timed else threads)
            for stage, file in files.items()
        }
        wide_sessions = {
            stage.name: cpu_session(file, _WIDE)
            for stage, file in files.items()
            if cores() >= _WIDE and (stage.name == FLOW if stage.timed else threads < _WIDE)
        }
        return cls(graph_id, manifest, sessions, wide_sessions, folder=folder)


def cpu_session(model: bytes | Path, threads: int, *, optimise: bool = False) -> Any:
    """Return an onnxruntime session that takes no more memory than its runs need.

    Threads do not spin while they wait: other models need the cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    provider = ("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})
    read = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(read, options, providers=[provider])


class Graphs:
    """Graphs by id and number of threads, counted: each stays while a voice has it, or lingers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, int], _Slot] = {}

    def acquire(self, graph_id: str, folder: Path, threads: int) -> Graph:
        """Return the graph and count one more user; reads it if it is not in memory.

        Concurrent first users share one reading. Raises what `Graph.read` raises.
        """
        with self._lock:
            slot = self._slots.setdefault((graph_id, threads), _Slot())
            slot.users += 1  # before it is read, so that no `release` drops it meanwhile
        try:
            with slot.reading:  # not `_lock`: reading takes 50 ms, and other graphs need not wait
                if slot.graph is None:
                    slot.graph = Graph.read(graph_id, folder, threads)
                return slot.graph
        except BaseException:
            self._leave((graph_id, threads), slot)
            raise

    def release(self, graph: Graph, threads: int, *, linger: float = 0.0) -> None:
        """Count one user fewer; the last one's graph leaves, `linger` seconds later."""
        key = (graph.graph_id, threads)
        with self._lock:
            slot = self._slots[key]
            leaves = linger <= 0 or self._lingers_already(key, slot, linger)
        if leaves:
            self._leave(key, slot)

    def _lingers_already(self, key: tuple[str, int], slot: _Slot, linger: float) -> bool:
        """Let one user stay until the latest time, and not one for every voice that left."""
        earlier = slot.lingering
        if earlier is not None and earlier.when >= time.monotonic() + linger:
            return True
        slot.lingering = TIMER.call_later(linger, partial(self._leave, key, slot))
        return earlier is not None and TIMER.cancel(earlier)

    def _leave(self, key: tuple[str, int], slot: _Slot) -> None:
        with self._lock:
            slot.users -= 1
            if not slot.users and self._slots.get(key) is slot:
                del self._slots[key]

    def __contains__(self, graph_id: str) -> bool:
        return any(key[0] == graph_id for key in list(self._slots))

    def __len__(self) -> int:
        return len(self._slots)


class _Slot:
    """The place of one graph, which may still be being read."""

    def __init__(self) -> None:
        self.users = 0
        self.graph: Graph | None = None
        self.reading = threading.Lock()
        self.lingering: Due | None = None
        """The timer of the user that lingers; it may be over."""


GRAPHS = Graphs()
"""The ones of this process."""
