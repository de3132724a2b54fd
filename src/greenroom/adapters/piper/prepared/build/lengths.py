"""Leave out what a graph computes of nothing but the lengths of its tensors.

Exporters write the shape of every tensor down as a computation, anew in each layer, and multiply
with masks that are all ones where a sentence comes alone, as it does here. That is half of the
nodes of a text stage, and in a flow it keeps tensors from staying in blocks (`blocked_layout`).

Which tensors depend on nothing else follows from the structure of the graph; what is in them, from
runs over sentences of several lengths. Sums and products of lengths are polynomials; those of the
second degree in two lengths, of text and frames, have six coefficients, so two of them that agree
in seven runs are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from greenroom.adapters.piper.prepared.run.shared_graphs import cpu_session

LENGTHS = "input_lengths"
"""Piper's name for the input that says how long the text is; it always tells the truth here."""

_RUNS = ((1, 1.0), (2, 2.5), (4, 0.7), (9, 1.9), (16, 1.2), (35, 0.8), (52, 1.5))
"""Text ids, and how slowly they are spoken: text and frames grow independently of each other."""

_RANDOM = frozenset(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"))
_CHOOSING = frozenset(("NonZero", "Unique", "Compress", "NonMaxSuppression"))
"""Nodes that make a tensor of a length of its own, which follows from what is in another. In the
runs, which are without noise, it may be one that it is not always."""
_SHAPED_BY = {
    **dict.fromkeys(
        ("Expand", "Reshape", "Tile", "TopK", "OneHot", "Pad", "Slice"), slice(1, None)
    ),
    **dict.fromkeys(("Split", "Unsqueeze", "Squeeze", "Resize", "Upsample"), slice(1, None)),
    **dict.fromkeys(("ConstantOfShape", "Range"), slice(0, None)),
}
"""Which inputs of a node say how long what it makes is."""
_SHAPED_LIKE_FIRST = frozenset(("ScatterND", "ScatterElements"))
_SAME_NUMBER = frozenset(("ReduceMax", "Reshape", "Squeeze", "Unsqueeze"))
"""Nodes that make of a single whole number the same."""

_LARGEST_CONSTANT = 64


def drop_masks(model: ModelProto, scratch: Path) -> None:
    """Take out masks that are all ones, and whatever else changes nothing.

    The graph itself is changed, as a copy would have all its weights.
    `scratch` is where a file of the model's size may be written. Raises what onnxruntime raises.
    """
    lengths = _from_lengths(model)
    doubtful = [node for node in model.graph.node if _may_change_nothing(node, lengths)]
    wanted = {name for node in doubtful for name in (*node.input, *node.output)}
    seen = _observed(model, lengths.names | wanted, lengths.names, scratch)
    outputs = {value.name for value in model.graph.output}
    same: dict[str, str] = {}
    for node in doubtful:
        kept = _unchanged(node, seen)
        if kept is not None and node.output[0] not in outputs:
            same[node.output[0]] = kept
    _rename(model, same)


def share_shapes(model: ModelProto, scratch: Path) -> None:
    """Have each number that follows from lengths computed once.

    The graph must be one that is never run in windows: lengths are those of the whole sentence.
    It is changed itself, and `scratch` and errors are those of `drop_masks`.
    """
    lengths = _from_lengths(model)
    seen = _observed(model, lengths.names, lengths.names, scratch)
    first: dict[Any, str] = {}
    same: dict[str, str] = {}
    constants = []
    for node in model.graph.node:
        for name in node.output:
            if name not in seen or name in lengths.counts:
                continue
            what = tuple(seen[name].prints)
            if len(set(what)) == 1 and seen[name].last.size <= _LARGEST_CONSTANT:
                what = (what[0],)
                if what not in first:
                    first[what] = f"constant.{name}"
                    constants.append(numpy_helper.from_array(seen[name].last, first[what]))
            if first.setdefault(what, name) != name:
                same[name] = first[what]
    _rename(model, same, constants)


@dataclass(frozen=True, slots=True)
class _Lengths:
    names: set[str]
    """Tensors that follow from the lengths of text and frames."""
    counts: set[str]
    """Those of them that are computed from what is said, as the number of frames is."""
    chosen: set[str]
    """Tensors of another length than those."""


def _from_lengths(model: ModelProto) -> _Lengths:
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    given = {LENGTHS, "", *(tensor.name for tensor in graph.initializer)}
    counts: set[str] = set()
    while True:
        found = _found(graph.node, given, counts)
        more = {
            name
            for node in graph.node
            if node.op_type == "Range" and node.output[0] in found.chosen
            for name in _same_numbers(node.input[1], makers)
        }
        if more <= counts:
            return found
        counts |= more


def _found(nodes: Iterable[NodeProto], given: set[str], counts: set[str]) -> _Lengths:
    known, chosen = given | counts, set[str]()
    for node in nodes:
        op, read = node.op_type, list(node.input)
        shaped_like = read[:1] if op in _SHAPED_LIKE_FIRST else read
        shaped_by = read[_SHAPED_BY[op]] if op in _SHAPED_BY else []
        if op == "Shape":
            if read[0] not in chosen:
                known.update(node.output)
        elif (
            op in _CHOOSING or not known.issuperset(shaped_by) or not chosen.isdisjoint(shaped_like)
        ):
            chosen.update(node.output)
        elif op not in _RANDOM and known.issuperset(read):
            known.update(node.output)
    return _Lengths(known - given, counts, chosen)


def _same_numbers(name: str, makers: Mapping[str, NodeProto]) -> Iterator[str]:
    """Yield the tensors with the number of elements of a range: its limit, and what that is of."""
    while True:
        yield name
        node = makers.get(name)
        if node is None or node.op_type not in _SAME_NUMBER:
            return
        name = node.input[0]


def _may_change_nothing(node: NodeProto, lengths: _Lengths) -> bool:
    if node.output[0] in lengths.names or node.output[0] in lengths.chosen:
        return False
    if node.op_type in ("Expand", "Reshape"):
        return True
    is_arithmetic = node.op_type in ("Add", "Sub", "Mul", "Div", "Where")
    return is_arithmetic and not lengths.names.isdisjoint(node.input)


def _unchanged(node: NodeProto, seen: Mapping[str, _Tensor]) -> str | None:
    """Return which of its inputs a node makes once more, if it is one in every run."""
    left, *others = node.input
    candidates: list[tuple[str, bool]] = []

    def always(name: str, number: int) -> bool:
        return name in seen and number in seen[name].always

    if node.op_type in ("Expand", "Reshape"):
        candidates = [(left, True)]
    elif node.op_type == "Where":
        candidates = [(others[0], always(left, 1)), (others[1], always(left, 0))]
    else:
        neutral = 1 if node.op_type in ("Mul", "Div") else 0
        candidates = [(left, always(others[0], neutral))]
        if node.op_type in ("Mul", "Add"):
            candidates.append((others[0], always(left, neutral)))
    made = seen[node.output[0]].shapes
    for name, is_same in candidates:
        if is_same and name in seen and seen[name].shapes == made:
            return name
    return None


@dataclass(slots=True)
class _Tensor:
    """What a tensor was in all runs."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    prints: list[tuple[Any, ...]] = field(default_factory=list)
    """The same for equal tensors only; of those that follow from lengths."""
    always: set[int] = field(default_factory=set)
    """Whether all of it is 0, or 1, in every run; of those that follow from lengths."""
    last: NDArray[Any] = field(default_factory=lambda: np.empty(0))

    def add(self, array: NDArray[Any]) -> None:
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
        numbers = self.always if self.prints else {0, 1}
        self.prints.append((array.dtype.str, array.shape, digest))
        self.always = {number for number in numbers if np.all(array == number)}
        self.last = array


def _observed(
    model: ModelProto, names: set[str], whole: set[str], scratch: Path
) -> dict[str, _Tensor]:
    """Run the graph; return what the named tensors were that are neither given nor constant."""
    graph = model.graph
    wanted = [name for node in graph.node for name in node.output if name in names]
    outputs = list(graph.output)
    declared = {value.name for value in outputs}
    graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n not in declared)
    try:
        onnx.save(model, scratch)
    finally:
        del graph.output[:]
        graph.output.extend(outputs)
    seen = {name: _Tensor() for name in wanted}
    if not wanted:
        return seen
    session = cpu_session(scratch, 1)
    inputs = {value.name for value in session.get_inputs()}
    for length, slowness in _RUNS:
        given = {n: a for n, a in _sentence(length, slowness) if n in inputs}
        made = session.run(wanted, given)
        for name, array in zip(wanted, made, strict=True):
            seen[name].shapes.append(array.shape)
            if name in whole:
                seen[name].add(array)
    return seen


def _sentence(length: int, slowness: float) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "input", np.random.default_rng(length).integers(0, 20, (1, length))
    yield LENGTHS, np.array([length], np.int64)
    yield "scales", np.array([0.0, slowness, 0.0], np.float32)
    yield "sid", np.zeros(1, np.int64)


def _rename(
    model: ModelProto, same: Mapping[str, str], constants: Iterable[TensorProto] = ()
) -> None:
    """Have tensors read by other names, and drop what is not read then."""
    graph = model.graph

    def known_as(name: str) -> str:
        while name in same:
            name = same[name]
        return name

    kept, read = [], {value.name for value in graph.output}
    for node in reversed(graph.node):
        if read.isdisjoint(node.output):
            continue
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [known_as(name) for name in node.input]
        read.update(copy.input)
        kept.append(copy)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
    unread = [at for at, tensor in enumerate(graph.initializer) if tensor.name not in read]
    for at in reversed(unread):
        del graph.initializer[at]
