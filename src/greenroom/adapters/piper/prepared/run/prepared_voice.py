"""A prepared voice in memory: weights in a mapped file, run through a graph that voices share."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.prepared.manifest import FLOW
from greenroom.adapters.piper.prepared.run.decoder import Samples, SentenceDecoder
from greenroom.adapters.piper.prepared.run.openvino_stage import OpenvinoStage, UnfitError
from greenroom.adapters.piper.prepared.run.shared_graphs import GRAPHS, Graph
from greenroom.adapters.piper.prepared.run.stage import BoundStage, Feeds, Stage
from greenroom.adapters.piper.prepared.run.thread_pool import DECODE_POOL
from greenroom.adapters.piper.prepared.store.paths import PreparedFiles
from greenroom.concurrency.cores import CORES
from greenroom.speech.pace import current_pace
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

ONNXRUNTIME, OPENVINO = RUNTIMES = ("onnxruntime", "openvino")
"""What may run the waveform."""

Lengths = Callable[[NDArray[np.int64]], object]
"""Takes how many samples each text id has, shape `(ids,)`, before the first of them is there."""

_USUAL_RATE = 22_050
"""Hz of most Piper voices."""

GRAPH_BYTES, VOICE_BYTES = "graph_bytes", "voice_bytes"
"""Facts of a prepared voice: anonymous bytes of its graph while it speaks, and of itself."""


class PreparedVoice:
    """One voice in memory. Any number of threads may speak with it."""

    def __init__(
        self,
        files: PreparedFiles,
        *,
        threads: int,
        linger: float = 0.0,
        sample_rate: int = _USUAL_RATE,
        runtime: str = ONNXRUNTIME,
    ) -> None:
        """Map the weights and take the graph; raises what reading them raises.

        `sample_rate` is the voice's own in Hz, and says how long its listener hears a piece.
        `runtime` is that of the waveform; where it cannot be used, onnxruntime is, with a warning.
        """
        self._threads, self._linger, self._sample_rate = threads, linger, sample_rate
        self._graph: Graph | None = GRAPHS.acquire(files.graph_id, files.graph, threads)
        try:
            manifest = self._graph.manifest
            weights = _values(_mapped(files), (n for s in manifest.stages for n in s.weights))
            self.footprint_bytes = _size(files.facts, VOICE_BYTES)
            """Anonymous bytes of its own, as `build` measured them; `None` before that."""
            self._graph_bytes = _size(files.facts, GRAPH_BYTES)
            self.mapped_bytes = sum(4 * math.prod(tensor.shape) for tensor in files.tensors)
            self._stages: dict[str, Stage] = {
                stage.name: BoundStage(
                    stage,
                    self._graph.sessions[stage.name],
                    weights,
                    wide=self._graph.wide_sessions.get(stage.name),
                )
                for stage in manifest.stages
            }
            self._costs = self._graph.costs
            if runtime == OPENVINO:
                self._take_openvino(files)
            self._graph.shrinker.add(self._shrink_arena)
        except BaseException:
            self.close()
            raise

    def _take_openvino(self, files: PreparedFiles) -> None:
        """Have OpenVINO run the waveform, if it can."""
        assert self._graph is not None
        manifest = self._graph.manifest
        try:
            compiled = self._graph.openvino.get(files.graph, manifest)
            name = manifest.stages[-1].name
            # It takes no memory that cannot be written to, which it does not do.
            weights = _mapped(files, mmap.ACCESS_COPY)
            self._stages[name] = OpenvinoStage(compiled, weights, self._stages[name])
        except (UnfitError, ImportError, OSError, RuntimeError) as error:
            reason = " ".join(f"{error}".split())
            logger.warning("OpenVINO is not used for the waveform, onnxruntime is: %s", reason)
            return
        self._costs = compiled.costs

    @property
    def shared_memory(self) -> tuple[str, int] | None:
        """The name of its graph and the anonymous bytes of that, where they were measured."""
        if self._graph is None or self._graph_bytes is None:
            return None
        name = f"graph {self._graph.graph_id[:12]}"
        name += f" with {self._threads} threads" if self._threads > 1 else ""
        return name, self._graph_bytes + self._graph.openvino.footprint_bytes

    @property
    def looks_ahead(self) -> bool:
        """Whether a core is idle, for the next sentence."""
        return CORES.idle > 0

    @property
    def knows_lengths(self) -> bool:
        """Whether it knows how many samples each text id has."""
        return self._graph is not None and bool(self._graph.manifest.durations)

    def speak(
        self, feeds: Feeds, take_lengths: Lengths | None = None
    ) -> Generator[Samples, None, None]:
        """Yield the samples of one sentence, in pieces; shape `(n,)`, at the voice's own rate.

        `take_lengths` is called before the first piece, if the voice `knows_lengths`.
        """
        assert self._graph is not None
        with self._graph.shrinker.in_use(self._shrink_arena):
            yield from self._pieces(feeds, take_lengths)

    def _pieces(
        self, feeds: Feeds, take_lengths: Lengths | None = None, *, shrink: bool = False
    ) -> Generator[Samples, None, None]:
        assert self._graph is not None
        text, *rest = self._stages.values()
        wanted = text.can_be_wide and not shrink
        with DECODE_POOL.second_core(current_pace(), wanted=wanted) as wide:
            edges = {**feeds, **text.run(feeds, wide=wide, shrink=shrink)}
        durations = self._graph.manifest.durations
        frames = edges[durations].ravel().astype(np.int64) if durations else None
        if not rest:
            samples = edges[text.manifest.leave[0]].ravel()
            if frames is not None and take_lengths is not None:
                take_lengths(frames * (samples.size // max(1, frames.sum())))
            yield samples
            return
        if frames is not None and take_lengths is not None:
            take_lengths(frames * math.prod(stage.manifest.rate for stage in rest))
        flow = rest.pop(0) if rest[0].manifest.name == FLOW else None
        yield from SentenceDecoder(
            flow,
            rest,
            edges,
            costs=self._costs,
            sample_rate=self._sample_rate,
            shrink=shrink,
        ).pieces()

    def _shrink_arena(self) -> None:
        """Run every stage on next to nothing, so that the arenas drop what earlier runs took."""
        for _ in self._pieces(sentence(1), shrink=True):
            pass

    def close(self) -> None:
        """Let go of weights and graph. No thread may be inside `speak`."""
        graph = self._graph
        if graph is not None:
            graph.shrinker.remove(
                self._shrink_arena
            )  # first: it may be running, and needs the graph
            self._graph = None
            self._stages = {}
            GRAPHS.release(graph, self._threads, linger=self._linger)


def sentence(length: int) -> Feeds:
    """Return a sentence of `length` ids that means nothing, without noise."""
    return {
        "input": np.ones((1, length), np.int64),
        "input_lengths": np.array([length], np.int64),
        "scales": np.array([0.0, 1.0, 0.0], np.float32),
        "sid": np.array([0], np.int64),
    }


def _size(facts: Mapping[str, Any], name: str) -> int | None:
    size = facts.get(name)
    return size if isinstance(size, int) else None


def _mapped(files: PreparedFiles, access: int = mmap.ACCESS_READ) -> dict[str, Samples]:
    """Return the weights by name, as arrays over the mapped file, nothing copied."""
    with files.weights.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=access)
    return {
        tensor.name: np.ndarray(tensor.shape, np.float32, whole, tensor.offset)
        for tensor in files.tensors
    }


def _values(arrays: Mapping[str, Samples], names: Iterable[str]) -> dict[str, Any]:
    """Return the arrays of these names as onnxruntime's values; those that are not there are not.

    A stage says which it lacks.
    """
    import onnxruntime

    value = onnxruntime.OrtValue.ortvalue_from_numpy
    return {name: value(arrays[name]) for name in names if name in arrays}
