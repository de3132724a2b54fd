"""Take the weights out of a graph, and rename it so that voices of one kind have equal bytes.

Every float tensor with an axis becomes an input; integers, shapes and scalars stay.
Names are replaced by numbers in order of appearance, and nodes are ordered by what they depend on,
so two graphs have equal bytes exactly when everything that stays inside is equal: operators,
attributes, connections, constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

Weights = dict[str, NDArray[np.float32]]


def externalised(
    model: ModelProto, names: Mapping[str, str], prefix: str
) -> tuple[ModelProto, Weights]:
    """Return the graph with weights as inputs `<prefix>0`, `<prefix>1`, …, and those weights.

    `names` says what the graph's own inputs and outputs are called from now on.
    """
    graph = model.graph
    nodes = _by_dependency(graph)
    is_weight = {t.name: _is_weight(t) for t in graph.initializer}
    renamed = dict(names)
    weights: Weights = {}
    arrays = {t.name: t for t in graph.initializer if is_weight[t.name]}
    for name in _in_order(graph, nodes):
        if name in arrays:
            renamed[name] = f"{prefix}{len(weights)}"
            weights[renamed[name]] = numpy_helper.to_array(arrays[name])
        elif name and name not in renamed:
            renamed[name] = f"t{len(renamed)}"
    bare = GraphProto(name="graph")
    for node in nodes:
        copy = bare.node.add()
        copy.CopyFrom(node)
        copy.name = copy.doc_string = ""
        copy.input[:] = [renamed[i] if i else "" for i in node.input]
        copy.output[:] = [renamed[o] if o else "" for o in node.output]
    for tensor in graph.initializer:
        if not is_weight[tensor.name] and tensor.name in renamed:
            kept = numpy_helper.from_array(numpy_helper.to_array(tensor), renamed[tensor.name])
            bare.initializer.append(kept)
    bare.initializer.sort(key=lambda tensor: tensor.name)
    for value in graph.input:
        if value.name not in is_weight:
            bare.input.append(_declared(value, renamed[value.name]))
    for name, array in weights.items():
        bare.input.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    bare.output.extend(_declared(value, renamed[value.name]) for value in graph.output)
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    return onnx.helper.make_model(bare, opset_imports=opsets, ir_version=model.ir_version), weights


def has_branches(model: ModelProto) -> bool:
    """Whether nodes contain graphs of their own, whose names are not renamed here."""
    return any(a.HasField("g") or a.graphs for n in model.graph.node for a in n.attribute)


def _by_dependency(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes so that each follows those that it reads of, depth first.

    The runtime writes those that do not depend on each other in an order that differs by chance.
    """
    makers = {name: at for at, node in enumerate(graph.node) for name in node.output}
    placed: dict[int, None] = {}
    for value in graph.output:
        waiting = [makers[value.name]] if value.name in makers else []
        while waiting:
            at = waiting[-1]
            read = (makers.get(name) for name in graph.node[at].input)
            unplaced = [each for each in read if each is not None and each not in placed]
            if not unplaced or at in placed:
                placed.setdefault(waiting.pop())
            else:
                waiting.append(unplaced[0])
    return [graph.node[at] for at in placed]


def _in_order(graph: GraphProto, nodes: Iterable[NodeProto]) -> Iterable[str]:
    yield from (value.name for value in graph.input)
    for node in nodes:
        yield from node.input
        yield from node.output


def _is_weight(tensor: TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.FLOAT and tensor.dims and math.prod(tensor.dims))


def _declared(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    """Return the declaration by kind and rank; the names of dimensions differ between exports."""
    kind = value.type.tensor_type
    shape = [None] * len(kind.shape.dim) if kind.HasField("shape") else None
    return onnx.helper.make_tensor_value_info(name, kind.elem_type, shape)
