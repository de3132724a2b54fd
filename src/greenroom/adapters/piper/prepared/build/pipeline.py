"""Prepare a voice: cut its graph, optimise the stages, take the weights out, prove it equal.

Runs in a process of its own (`python -m greenroom.adapters.piper.prepared.build.pipeline SOURCE`),
because parsing and rewriting a graph takes seconds of CPU and several times the voice's size in
memory.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.capi import onnxruntime_pybind11_state as state

from greenroom.adapters.piper.prepared.build import partition
from greenroom.adapters.piper.prepared.build.blocked_layout import block_of, in_blocks, probe
from greenroom.adapters.piper.prepared.build.conv2d import as_conv2d
from greenroom.adapters.piper.prepared.build.convolutions import with_wider_convolutions
from greenroom.adapters.piper.prepared.build.layer_norm import with_layer_norms
from greenroom.adapters.piper.prepared.build.lengths import drop_masks, share_shapes
from greenroom.adapters.piper.prepared.build.parent_death import end_with_parent
from greenroom.adapters.piper.prepared.build.weights import Weights, externalised, has_branches
from greenroom.adapters.piper.prepared.manifest import (
    FILE_NAME,
    WAVEFORM,
    Manifest,
    StageManifest,
)
from greenroom.adapters.piper.prepared.run.shared_graphs import cpu_session
from greenroom.adapters.piper.prepared.store.lookup import UNWEIGHED
from greenroom.adapters.piper.prepared.store.paths import PreparedFiles
from greenroom.adapters.piper.prepared.store.store import Store, default_store
from greenroom.adapters.piper.prepared.windows import windows
from greenroom.memory import heap

_DURATIONS = "durations"
"""The tensor with the frames of each text id, in a prepared graph."""

CLOSE = 1e-4
"""Samples of the prepared voice may differ from the engine's own by this."""

EngineErrors = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoModel,
    state.NotImplemented,
    state.RuntimeException,
)
"""What onnxruntime raises for a graph or a sentence; these have no class of their own in common."""

_NOT_ITS_DURATIONS = "what may be its durations is something else"

_PROBE_LENGTHS = (41, 120)
"""Text ids of the sentences that are compared."""


class CannotPrepareError(Exception):
    """The graph is not one that can be prepared; the engine's own file serves."""


def prepare(
    source: Path, store: Store, facts: Mapping[str, Any] = MappingProxyType({})
) -> PreparedFiles:
    """Prepare the voice at `source` and put it into `store`, with what is known of it.

    Raises `CannotPrepareError`, and `OSError` when it cannot be read or written.
    """
    store.sweep()
    seen = store.snapshot(source)
    try:
        expected = list(_expected(source))
    except EngineErrors as error:
        raise CannotPrepareError(f"the engine cannot run it: {error}") from error
    problem = ""
    for attempt in _attempts(source, store):
        for durations in dict.fromkeys((partition.durations_of(attempt.stages), "")):
            try:
                graph, weights = _built(attempt, durations, store)
                problem = _difference(graph, weights, expected)
            # A piece may not even have a fitting shape.
            except (*EngineErrors, ValueError) as error:
                problem = f"its stages do not run: {error}"
            if not problem:
                return store.put(source, seen, graph, weights.items(), facts)
            if problem != _NOT_ITS_DURATIONS:
                break
    raise CannotPrepareError(problem)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One way to prepare a graph."""

    model: ModelProto
    stages: tuple[partition.Stage, ...]
    rewritten: bool
    """Whether its nodes are replaced by fewer that make the same."""


def _attempts(source: Path, store: Store) -> Iterator[_Attempt]:
    """Yield the graph in stages, rewritten and as it is, then whole.

    Only one graph is in memory, as each has all the weights.
    """
    model = _simplified(source, store)
    if has_branches(model):
        raise CannotPrepareError("its graph has branches")
    try:
        with store.scratch() as path:
            drop_masks(model, path)
    except EngineErrors:
        pass  # a sentence of a single id may be one that it cannot say
    else:
        yield _Attempt(model, partition.cut(model), rewritten=True)
    del model
    model = _simplified(source, store)
    stages = partition.cut(model)
    yield _Attempt(model, stages, rewritten=False)
    if len(stages) > 1:
        yield _Attempt(model, partition.whole(model), rewritten=False)


def _built(attempt: _Attempt, durations: str, store: Store) -> tuple[dict[str, bytes], Weights]:
    """Return the files of the graph, and the weights of all stages.

    `durations` is the tensor that has the frames of each text id, if there is one.
    """
    model, stages = attempt.model, attempt.stages
    names = {value.name: value.name for value in (*model.graph.input, *model.graph.output)}
    if durations:
        stages = partition.leaving(stages, durations)
        names[durations] = _DURATIONS
    edges = dict.fromkeys(name for stage in stages for name in (*stage.enter, *stage.leave))
    names.update(
        (name, f"edge{number}")
        for number, name in enumerate(edge for edge in edges if edge not in names)
    )
    graph: dict[str, bytes] = {}
    weights: Weights = {}
    manifests = []
    best = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    block = block_of(_optimised(probe().SerializeToString(), best, store))
    for stage in stages:
        heap.malloc_trim()
        optimised = _optimised(_serialised(attempt, stage, store), best, store)
        if stage.timed and block:
            optimised = in_blocks(optimised, block)
        elif attempt.rewritten:
            optimised = with_layer_norms(optimised)
        bare, own = externalised(optimised, names, f"{stage.name}.")
        manifest = StageManifest(
            name=stage.name,
            enter=tuple(names[name] for name in stage.enter),
            leave=tuple(names[name] for name in stage.leave),
            timed=tuple(names[name] for name in stage.timed),
            weights=tuple(own),
            left=stage.receptive_field.left,
            right=stage.receptive_field.right,
            rate=stage.receptive_field.rate,
        )
        graph[manifest.file_name] = bare.SerializeToString(deterministic=True)
        weights.update(own)
        manifests.append(manifest)
    portable = None
    if stages[-1].name == WAVEFORM:
        bare, own = _portable(attempt, stages[-1], names, store)
        portable = manifests[-1].model_copy(update={"name": "portable", "weights": tuple(own)})
        graph[portable.file_name] = bare.SerializeToString(deterministic=True)
        weights.update(own)
    whole = Manifest(stages=tuple(manifests), portable=portable, durations=names.get(durations, ""))
    graph[FILE_NAME] = whole.model_dump_json().encode()
    return graph, weights


def _portable(
    attempt: _Attempt, stage: partition.Stage, names: Mapping[str, str], store: Store
) -> tuple[ModelProto, Weights]:
    """Return a stage in operators of ONNX alone, and its weights.

    It says how many channels enter, as a runtime that compiles it must know.
    """
    basic = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    plain = _optimised(_serialised(attempt, stage, store), basic, store)
    bare, own = externalised(plain, names, "portable.")
    known = {value.name: value for value in plain.graph.input}[stage.timed[0]]
    declared = {value.name: value for value in bare.graph.input}[names[stage.timed[0]]]
    channels = known.type.tensor_type.shape.dim[1].dim_value
    declared.type.tensor_type.shape.dim[1].dim_value = channels
    return bare, own


def _serialised(attempt: _Attempt, stage: partition.Stage, store: Store) -> bytes:
    """Return the graph of one stage."""
    part = partition.extracted(attempt.model, stage)
    if attempt.rewritten:
        if not stage.timed:
            with store.scratch() as path:
                share_shapes(part, path)
        part = with_wider_convolutions(part)
    if stage.timed or attempt.rewritten:
        part = as_conv2d(part, wide_only=not stage.timed)
    return part.SerializeToString()


def _simplified(source: Path, store: Store) -> ModelProto:
    """Return the graph with all that is constant computed, however the exporter wrote it down.

    The kinds of all tensors are stated, as any of them may enter a stage. Raises
    `CannotPrepareError` for one that the engine cannot read.
    """
    heap.malloc_trim()
    basic = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return _optimised(str(source), basic, store, state_kinds=True)
    except EngineErrors as error:
        raise CannotPrepareError(f"the engine cannot run it: {error}") from error


def _optimised(
    model: str | bytes, level: Any, store: Store, *, state_kinds: bool = False
) -> ModelProto:
    """Return what onnxruntime makes of a graph; above the basic level, for this processor.

    `model` is the path of a file, or what would be in it. From file to file, as every copy of a
    graph in memory has all its weights.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the result fits this processor only
    options.graph_optimization_level = level
    with store.scratch() as path:
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        del model
        heap.malloc_trim()
        if state_kinds:
            onnx.shape_inference.infer_shapes_path(str(path))
        return onnx.load(path)


def _expected(source: Path) -> Iterator[tuple[Mapping[str, Any], NDArray[np.float32]]]:
    """Yield sentences without noise, and what the engine's own file makes of them."""
    own = cpu_session(source, 1, optimise=True)
    for length, speaker in zip(_PROBE_LENGTHS, itertools.cycle((0, 1)), strict=False):
        feeds = _sentence(own, length, speaker)
        try:
            yield feeds, own.run(None, feeds)[0].ravel()
        except state.InvalidArgument:
            feeds = _sentence(own, length, 0)  # there is one speaker only
            yield feeds, own.run(None, feeds)[0].ravel()


def _sentence(own: Any, length: int, speaker: int) -> dict[str, NDArray[Any]]:
    ids = np.random.default_rng(length).integers(0, 20, (1, length))
    known: dict[str, NDArray[Any]] = {
        "input": ids.astype(np.int64),
        "input_lengths": np.array([length], np.int64),
        "scales": np.array([0.0, 1.0, 0.0], np.float32),
        partition.SPEAKER: np.array([speaker], np.int64),
    }
    wanted = [value.name for value in own.get_inputs()]
    if not {"input", "input_lengths", "scales"} <= set(wanted) <= known.keys():
        raise CannotPrepareError(f"its inputs are {', '.join(wanted)}")
    return {name: known[name] for name in wanted}


def _difference(
    graph: Mapping[str, bytes],
    weights: Weights,
    expected: Sequence[tuple[Mapping[str, Any], NDArray[np.float32]]],
) -> str:
    """Run the stages, whole and in windows; return what is wrong, or nothing."""
    manifest = Manifest.model_validate_json(graph[FILE_NAME])
    forms = (*manifest.stages, *filter(None, [manifest.portable]))
    sessions = {stage.name: cpu_session(graph[stage.file_name], 1) for stage in forms}

    def run(stage: StageManifest, feeds: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: feeds[name] for name in stage.enter}
        given.update((name, weights[name]) for name in stage.weights)
        return dict(zip(stage.leave, sessions[stage.name].run(stage.leave, given), strict=True))

    for feeds, samples in expected:
        edges = {**feeds, **run(manifest.stages[0], feeds)}
        for stage in manifest.stages[1:]:
            made: dict[str, list[Any]] = {name: [] for name in stage.leave}
            frames = edges[stage.timed[0]].shape[-1]
            if any(edges[name].shape[-1] != frames for name in stage.timed):
                return "its stages are of different lengths"
            for window in windows(frames, stage.left, stage.right):
                part = {n: edges[n][..., window.first : window.last] for n in stage.timed}
                begin = (window.start - window.first) * stage.rate
                end = (window.end - window.first) * stage.rate
                for name, array in run(stage, {**edges, **part}).items():
                    made[name].append(array[..., begin:end])
            edges.update((name, np.concatenate(parts, -1)) for name, parts in made.items())
        ours = edges[manifest.stages[-1].leave[0]].ravel()
        if not _are_durations(manifest, edges, feeds["input"].size, ours.size):
            return _NOT_ITS_DURATIONS
        if ours.shape != samples.shape or not np.allclose(ours, samples, rtol=0, atol=CLOSE):
            return "its pieces are not what the whole is"
        if manifest.portable is not None:
            (samples,) = run(manifest.portable, edges).values()
            if not np.allclose(samples.ravel(), ours, rtol=0, atol=CLOSE):
                return "its portable form makes something else"
    return ""


def _are_durations(manifest: Manifest, edges: Mapping[str, Any], ids: int, samples: int) -> bool:
    """Whether the durations, if there are any, are a number for each id and all frames together."""
    if not manifest.durations:
        return True
    durations = edges[manifest.durations]
    frames = int(durations.sum())
    if durations.size != ids or not frames or samples % frames or (durations < 0).any():
        return False
    return not manifest.stages[1:] or frames == edges[manifest.stages[1].timed[0]].shape[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the named voice; print one line and return 1 when that is not possible."""
    parser = argparse.ArgumentParser(
        prog="python -m greenroom.adapters.piper.prepared.build.pipeline"
    )
    parser.add_argument("source", type=Path)
    source = parser.parse_args(arguments).source
    heap.set_trim_threshold()
    store = default_store()
    try:
        # It may be there: a copy, one that was touched, or one whose preparation was ended early.
        files = store.find(source) or prepare(source, store, {UNWEIGHED: True})
        if files.facts.get(UNWEIGHED):
            heap.malloc_trim()
            measure = "greenroom.adapters.piper.prepared.build.footprint"
            subprocess.run([sys.executable, "-m", measure, source], check=False)
            store.remember(source, **{UNWEIGHED: False})
    except Exception as error:  # noqa: BLE001 - the reason is the last line; the own file serves
        print(" ".join(f"{error}".split()) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # SystemExit closes what is open, so that nothing half-written is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("it was ended"))
    end_with_parent()
    sys.exit(main())
