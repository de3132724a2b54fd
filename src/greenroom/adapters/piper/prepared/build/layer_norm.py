"""Normalise over channels in one node, not in nine.

A graph normalises the channels of each column in steps that onnxruntime does one by one, each over
the whole tensor. Its one node for all of them wants channels last; turning the tensor twice costs
less than the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, helper, numpy_helper

_STEPS = ("Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add")
"""After the mean of a tensor: its distance from it, that squared, the mean of the squares, a little
more, the root, the distance through it, and what is learned: a factor and a summand."""


@dataclass(frozen=True, slots=True)
class _Norm:
    tensor: str
    epsilon: float
    scale: str
    bias: str
    steps: tuple[NodeProto, ...]


def with_layer_norms(optimised: ModelProto) -> ModelProto:
    """Return the graph with a node for each normalisation over channels; `(1, channels, n)`."""
    graph = optimised.graph
    search = _Search(optimised)
    norms: dict[str, _Norm] = {}
    for node in graph.node:
        norm = search.norm_from(node)
        if norm is not None:
            norms[norm.steps[-1].output[0]] = norm
    dropped = {step.output[0] for norm in norms.values() for step in norm.steps[:-1]}
    made = ModelProto()
    made.CopyFrom(optimised)
    del made.graph.node[:]
    flat: dict[str, str] = {}
    for node in graph.node:
        name = node.output[0]
        if name in norms:
            made.graph.node.extend(_nodes(norms[name], name, made, flat))
        elif name not in dropped:
            made.graph.node.append(node)
    return made


def _nodes(norm: _Norm, name: str, model: ModelProto, flat: dict[str, str]) -> list[NodeProto]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for learned in (norm.scale, norm.bias):
        if learned not in flat:
            flat[learned] = f"{learned}.flat"
            array = numpy_helper.to_array(constants[learned]).reshape(-1)
            model.graph.initializer.append(numpy_helper.from_array(array, flat[learned]))
    turned, made = f"{name}.turned", f"{name}.normalised"
    inputs = [turned, flat[norm.scale], flat[norm.bias]]
    return [
        helper.make_node("Transpose", [norm.tensor], [turned], perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", inputs, [made], axis=-1, epsilon=norm.epsilon),
        helper.make_node("Transpose", [made], [name], perm=[0, 2, 1]),
    ]


class _Search:
    """Finds normalisations by their steps."""

    def __init__(self, model: ModelProto) -> None:
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._outputs = {value.name for value in model.graph.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def norm_from(self, mean: NodeProto) -> _Norm | None:
        """Return the normalisation that begins with a mean, if one does."""
        if not _is_over_channels(mean):
            return None
        steps = [mean]
        distance = ""
        for op in _STEPS:
            step = self._next(distance if op == "Pow" else steps[-1].output[0], op)
            if step is None:
                return None
            if op == "Sub":
                distance = step.output[0]
            steps.append(step)
        _, less, power, mean_square, more, root, divided, scaled, shifted = steps
        two, epsilon = self._number(power.input[1]), self._number(more.input[1])
        is_norm = (
            list(less.input) == [mean.input[0], mean.output[0]]
            and list(divided.input) == [distance, root.output[0]]
            and sorted(map(id, self._readers[distance])) == sorted((id(power), id(divided)))
            and _is_over_channels(mean_square)
            and two == 2.0
        )
        channels = {self._channels(each.input[1]) for each in (scaled, shifted)}
        if not is_norm or epsilon is None or len(channels) != 1 or None in channels:
            return None
        return _Norm(mean.input[0], epsilon, scaled.input[1], shifted.input[1], tuple(steps))

    def _next(self, name: str, op: str) -> NodeProto | None:
        """Return the node of a kind that reads a tensor: the only reader, or the one that squares.

        The distance is read by two.
        """
        readers = self._readers.get(name, [])
        if (op != "Pow" and len(readers) != 1) or name in self._outputs:
            return None
        return next((reader for reader in readers if reader.op_type == op), None)

    def _number(self, name: str) -> float | None:
        array = self._constants.get(name)
        return float(array.item()) if array is not None and array.size == 1 else None

    def _channels(self, name: str) -> int | None:
        """Return the channels of a constant that has a number for each, and no other axis."""
        array = self._constants.get(name)
        if array is None or array.ndim not in (2, 3) or array.shape[-1] != 1:
            return None
        return array.shape[-2] if array.size == array.shape[-2] else None


def _is_over_channels(node: NodeProto) -> bool:
    said: Mapping[str, object] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return node.op_type == "ReduceMean" and said.get("axes") == [1] and said.get("keepdims", 1) == 1
