"""The waveform stage in bfloat16, by OpenVINO, with weights as inputs as all stages have them.

On a processor with instructions for bfloat16 (AMX, AVX-512 BF16) it takes less than half the time,
and samples differ from those of float32 by a noise that is some 44 dB below the speech. In float32
OpenVINO is slower than onnxruntime with blocks of channels, and text or flow in bfloat16 change
durations and what is said, so this is the one stage that it gets.

Machine code is made for each length of the input, which takes 0.1 to 0.3 s and 15 to 30 MB. So the
stage is run in tiles of two lengths, whatever the length of a piece; what is shorter than either is
left to onnxruntime.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.prepared.manifest import Manifest, StageManifest
from greenroom.adapters.piper.prepared.run.stage import Feeds, Stage
from greenroom.adapters.piper.prepared.run.stage_cost import Costs
from greenroom.adapters.piper.prepared.tiles import tiles
from greenroom.concurrency.cores import CORES
from greenroom.memory.usage import MIB

TILE_FRAMES = (16, 32)
"""Frames of a tile without its overlap: the smallest piece, and a quarter of the largest."""

FOOTPRINT_BYTES = 96 * MIB
"""Of the library and the code for both lengths."""

_MOST_STREAMS = 16
"""Runs at once; each further one takes 2 MB. The stage is a third of the work, so more cores than
this are kept busy."""

_TELEMETRY = "openvino_telemetry"


class UnfitError(Exception):
    """The graph or the processor is not one for which this is of use."""


class CompiledOnce:
    """The place of a graph's compiled stage: the first who asks compiles it, and all share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._graph: OpenvinoGraph | None = None

    @property
    def footprint_bytes(self) -> int:
        """Anonymous memory; 0 before it is compiled."""
        return 0 if self._graph is None else FOOTPRINT_BYTES

    def get(self, folder: Path, manifest: Manifest) -> OpenvinoGraph:
        """Return it, compiled by now.

        `folder` has the graph's files. Raises `OSError`, and what `OpenvinoGraph.read` raises.
        """
        with self._lock:
            if self._graph is None:
                self._graph = OpenvinoGraph.read(folder, manifest)
            return self._graph


@dataclass(frozen=True, slots=True, eq=False)
class OpenvinoGraph:
    """The stage without weights, compiled for each length of a tile; voices share it."""

    manifest: StageManifest
    compiled: Mapping[int, Any]
    """By the columns of a tile."""
    costs: Costs = field(default_factory=Costs)

    @classmethod
    def read(cls, folder: Path, whole: Manifest) -> OpenvinoGraph:
        """Compile the stage of a graph in `folder`; takes about half a second.

        Raises `UnfitError`, `OSError`, `ImportError`, or `RuntimeError` for all that OpenVINO does
        not like.
        """
        manifest = whole.portable
        if manifest is None:
            raise UnfitError("the graph has no waveform of its own")
        core = _openvino().Core()
        if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UnfitError("the processor has no instructions for bfloat16")
        model = (folder / manifest.file_name).read_bytes()
        columns = math.prod(stage.rate for stage in whole.stages[:-1])
        (entering,) = manifest.timed
        streams = min(CORES.count, _MOST_STREAMS)
        compiled = {}
        for frames in TILE_FRAMES:
            length = frames * columns + manifest.left + manifest.right
            graph = core.read_model(model)
            shape = graph.input(entering).partial_shape
            shape[0], shape[len(shape) - 1] = 1, length
            graph.reshape({entering: shape})
            compiled[length] = core.compile_model(graph, "CPU", _settings(streams))
        return cls(manifest, compiled)


def _settings(streams: int) -> dict[str, Any]:
    """Return the settings of a model of which so many runs, of one thread each, go on at once."""
    return {
        "INFERENCE_PRECISION_HINT": "bf16",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,
    }


def _openvino() -> Any:
    """Import OpenVINO, which else would report the import to its vendor."""
    absent = _TELEMETRY not in sys.modules
    if absent:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # not found, says the import
    try:
        import openvino
    finally:
        if absent:
            del sys.modules[_TELEMETRY]
    return openvino


class OpenvinoStage:
    """The stage with one voice's weights. Any number of threads may run it."""

    can_be_wide = False

    def __init__(
        self, graph: OpenvinoGraph, weights: Mapping[str, NDArray[np.float32]], short: Stage
    ) -> None:
        """`short` runs what is shorter than a tile. Raises `RuntimeError` for unfit weights."""
        self.manifest = short.manifest
        self._graph, self._short = graph, short
        tensor = _openvino().Tensor
        self._weights = {
            name: tensor(weights[name], shared_memory=True) for name in graph.manifest.weights
        }
        # A request has the weights set, and is used again.
        self._idle: dict[int, deque[Any]] = {
            length: deque([self._request(length)], maxlen=4) for length in graph.compiled
        }

    def run(
        self, feeds: Feeds, *, wide: bool = False, shrink: bool = False
    ) -> dict[str, NDArray[Any]]:
        """Run once, in tiles; `feeds` may hold more than the stage reads. It is never `wide`."""
        manifest = self._graph.manifest
        columns = feeds[manifest.timed[0]]
        count, rate = columns.shape[-1], manifest.rate
        if shrink or count < min(self._idle):
            return self._short.run(feeds, shrink=shrink)
        made: NDArray[np.float32] | None = None
        for tile in tiles(count, tuple(self._idle), manifest.left, manifest.right):
            part = {manifest.timed[0]: columns[..., tile.first : tile.last]}
            samples = self._run_tile({**feeds, **part}, tile.last - tile.first)
            if made is None:
                made = np.empty((*samples.shape[:-1], count * rate), np.float32)
            begin, end = (n - tile.first for n in (tile.start, tile.end))
            wanted = samples[..., begin * rate : end * rate]
            made[..., tile.start * rate : tile.end * rate] = wanted
        assert made is not None
        return {manifest.leave[0]: made}

    def _run_tile(self, feeds: Feeds, length: int) -> NDArray[np.float32]:
        idle = self._idle[length]
        try:
            request = idle.pop()
        except IndexError:
            request = self._request(length)
        given = {name: np.ascontiguousarray(feeds[name]) for name in self._graph.manifest.enter}
        samples: NDArray[np.float32] = request.infer(given, share_inputs=True)[0]
        idle.append(request)
        return samples

    def _request(self, length: int) -> Any:
        request = self._graph.compiled[length].create_infer_request()
        for name, tensor in self._weights.items():
            request.set_tensor(name, tensor)
        return request
