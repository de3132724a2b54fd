"""Rewrite convolutions along time as two-dimensional ones, over a plane of height one.

onnxruntime lays tensors out in blocks of channels, as the processor's registers want them, for
two-dimensional convolutions only. The same numbers come out; flow and decoder take a quarter to a
third less time (measured on AVX2 and AVX-512).
"""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

_HEIGHT = 2
"""The axis that is added, between channels and time."""

_FILLED = {"dilations": 1, "strides": 1, "kernel_shape": 1, "pads": 0}
"""What these attributes say of the axis that is added."""


def as_conv2d(part: ModelProto) -> ModelProto:
    """Return the graph with its one-dimensional convolutions made two-dimensional.

    A graph from before axes were inputs (opset 13, 2021) is returned as it is.
    """
    if any(not o.domain and o.version < 13 for o in part.opset_import):
        return part
    constants = {tensor.name: tensor for tensor in part.graph.initializer}
    axis = "planar.axis"
    constants[axis] = numpy_helper.from_array(np.array([_HEIGHT], np.int64), axis)
    nodes: list[NodeProto] = []
    raised: dict[str, str] = {}
    for node in part.graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or len(weight.dims) != 3:
            nodes.append(node)
            continue
        source, made = node.input[0], node.output[0]
        if source not in raised:
            raised[source] = f"planar.{source}"
            nodes.append(helper.make_node("Unsqueeze", [source, axis], [raised[source]]))
        flat = f"planar.{weight.name}"
        constants.setdefault(flat, _raised(weight, flat))
        inputs = [raised[source], flat, *node.input[2:]]
        convolution = helper.make_node("Conv", inputs, [f"planar.{made}"])
        convolution.attribute.extend(_filled(attribute) for attribute in node.attribute)
        nodes.append(convolution)
        nodes.append(helper.make_node("Squeeze", [f"planar.{made}", axis], [made]))
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        part.graph.name,
        part.graph.input,
        part.graph.output,
        [tensor for name, tensor in constants.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=part.opset_import, ir_version=part.ir_version)


def _raised(weight: TensorProto, name: str) -> TensorProto:
    return numpy_helper.from_array(np.expand_dims(numpy_helper.to_array(weight), _HEIGHT), name)


def _filled(attribute: AttributeProto) -> AttributeProto:
    """Return the attribute with what it says of time, and of the axis that is added."""
    if attribute.name not in _FILLED:
        return attribute
    half = max(1, len(attribute.ints) // 2)  # pads are all beginnings, then all ends
    fill, said = _FILLED[attribute.name], list(attribute.ints)
    both = [[fill, *said[at : at + half]] for at in range(0, len(said), half)]
    return helper.make_attribute(attribute.name, [each for one in both for each in one])
