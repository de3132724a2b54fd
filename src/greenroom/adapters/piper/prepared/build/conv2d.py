"""Rewrite convolutions along time as two-dimensional ones, over a plane of height one.

onnxruntime lays tensors out in blocks of channels, as the processor's registers want them, for
two-dimensional convolutions only. The same numbers come out; flow and decoder take a quarter to a
third less time (measured on AVX2 and AVX-512). What lies between two convolutions is done on the
plane as well, so that nothing is reshaped between them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

_HEIGHT = 2
"""The axis that is added, between channels and time."""

_FILLED = {
    "dilations": 1,
    "strides": 1,
    "kernel_shape": 1,
    "pads": 0,
    "output_padding": 0,
    "output_shape": 1,
}
"""What these attributes say of the axis that is added."""

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_ELEMENTWISE = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Exp", "Log", "Identity", "Erf"),
        *("Tanh", "Sigmoid", "Softplus", "Relu", "LeakyRelu", "Elu", "Selu"),
    )
)
"""Nodes that do the same on a plane, whose shape follows from those of their inputs."""


def as_conv2d(part: ModelProto, *, wide_only: bool = False) -> ModelProto:
    """Return the graph with its one-dimensional convolutions made two-dimensional.

    With `wide_only` only those over several columns of all channels, and what stands between two of
    them: among much else, others lose more by a new layout than they gain. A graph from before axes
    were inputs (opset 13, 2021) is returned as it is.
    """
    if any(not o.domain and o.version < 13 for o in part.opset_import):
        return part
    planar = _Planar(part, wide_only=wide_only)
    for node in part.graph.node:
        planar.add(node)
    outputs = [value.name for value in part.graph.output]
    for name in outputs:
        planar.flat(name)
    read = {name for node in planar.nodes for name in node.input} | set(outputs)
    graph = helper.make_graph(
        planar.nodes,
        part.graph.name,
        part.graph.input,
        part.graph.output,
        [tensor for name, tensor in planar.constants.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=part.opset_import, ir_version=part.ir_version)


class _Planar:
    """The nodes of a graph, on a plane as far as they can be."""

    def __init__(self, part: ModelProto, *, wide_only: bool) -> None:
        self._wide_only = wide_only
        self.constants = {tensor.name: tensor for tensor in part.graph.initializer}
        self._axis = "planar.axis"
        self.constants[self._axis] = numpy_helper.from_array(
            np.array([_HEIGHT], np.int64), self._axis
        )
        self.nodes: list[NodeProto] = []
        self._ranks = dict(_ranks(part))
        self._planes: dict[str, str] = {}
        """Tensors that are there with the axis, by the name of those without it."""
        self._only_planes: set[str] = set()
        """Those of them that are not there without it."""

    def add(self, node: NodeProto) -> None:
        """Add a node, on the plane if it is a convolution or follows one."""
        if self._is_convolution(node):
            self._add_convolution(node)
        elif self._may_be_planar(node):
            copy = NodeProto()
            copy.CopyFrom(node)
            inputs = [self._operand(name) for name in node.input]
            copy.input[:] = inputs
            copy.output[:] = [self._made(name) for name in node.output]
            self.nodes.append(copy)
        else:
            for name in node.input:
                self.flat(name)
            self.nodes.append(node)

    def flat(self, name: str) -> None:
        """Have a tensor without the axis."""
        if name in self._only_planes:
            self._only_planes.remove(name)
            self.nodes.append(helper.make_node("Squeeze", [self._planes[name], self._axis], [name]))

    def _plane(self, name: str) -> str:
        """Return the name of a tensor with the axis."""
        if name not in self._planes:
            self._planes[name] = f"planar.{name}"
            inputs = [name, self._axis]
            self.nodes.append(helper.make_node("Unsqueeze", inputs, [self._planes[name]]))
        return self._planes[name]

    def _made(self, name: str) -> str:
        self._only_planes.add(name)
        self._planes[name] = f"planar.{name}"
        return self._planes[name]

    def _is_convolution(self, node: NodeProto) -> bool:
        if node.op_type not in _CONVOLUTIONS or node.input[1] not in self.constants:
            return False
        dims = self.constants[node.input[1]].dims
        is_wide = dims[-1] > 1 and all(a.name != "group" or a.i == 1 for a in node.attribute)
        return len(dims) == 3 and (is_wide or not self._wide_only)

    def _add_convolution(self, node: NodeProto) -> None:
        weight = self.constants[node.input[1]]
        inputs = [self._plane(node.input[0]), self._raised(weight), *node.input[2:]]
        convolution = helper.make_node(node.op_type, inputs, [self._made(node.output[0])])
        convolution.attribute.extend(_filled(attribute) for attribute in node.attribute)
        self.nodes.append(convolution)

    def _may_be_planar(self, node: NodeProto) -> bool:
        tensors = [name for name in node.input if name and name not in self.constants]
        if self._planes.keys().isdisjoint(tensors):
            return False
        if any(name not in self._planes and self._ranks.get(name) != 3 for name in tensors):
            return False
        if self._wide_only and len(node.input) > 1:
            return False
        if node.op_type in _ELEMENTWISE:
            return True
        on_channels = any(a.name == "axis" and a.i == 1 for a in node.attribute)
        if node.op_type == "Gather":  # one that takes a single channel drops the axis
            index = self.constants.get(node.input[1])
            return on_channels and index is not None and len(index.dims) == 1
        if node.op_type in ("Split", "Concat"):
            return on_channels
        if node.op_type == "Slice" and len(node.input) > 3 and node.input[3] in self.constants:
            return bool(np.all(numpy_helper.to_array(self.constants[node.input[3]]) == 1))
        return False

    def _operand(self, name: str) -> str:
        """Return the name of what a node on the plane reads in the place of `name`."""
        tensor = self.constants.get(name)
        if not name or (tensor is not None and tensor.data_type != TensorProto.FLOAT):
            return name  # where to split or slice
        if tensor is None:
            return self._plane(name)
        return name if len(tensor.dims) < 2 else self._raised(tensor)

    def _raised(self, tensor: TensorProto) -> str:
        """Return the name of a constant that has the axis before its last one."""
        name = f"planar.{tensor.name}"
        if name not in self.constants:
            array = numpy_helper.to_array(tensor)
            raised = np.expand_dims(array, array.ndim - 1)
            self.constants[name] = numpy_helper.from_array(raised, name)
        return name


def _ranks(part: ModelProto) -> Iterator[tuple[str, int]]:
    """Yield tensors of a graph and how many axes they have, as far as it is known."""
    graph = onnx.shape_inference.infer_shapes(part).graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            yield value.name, len(value.type.tensor_type.shape.dim)


def _filled(attribute: AttributeProto) -> AttributeProto:
    """Return the attribute with what it says of time, and of the axis that is added."""
    if attribute.name not in _FILLED:
        return attribute
    half = max(1, len(attribute.ints) // 2)  # pads are all beginnings, then all ends
    fill, said = _FILLED[attribute.name], list(attribute.ints)
    both = [[fill, *said[at : at + half]] for at in range(0, len(said), half)]
    return helper.make_attribute(attribute.name, [each for one in both for each in one])
