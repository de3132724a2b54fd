"""The receptive field of a stage: which frames a sample depends on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnx import NodeProto, TensorProto, numpy_helper


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one frame becomes, and what it depends on.

    With `rate` columns a frame, column o is made of frames i for which
    o - `earlier` <= i * `rate` <= o + `later`.
    """

    rate: int = 1
    """Columns that leave a stage for each frame that enters."""
    earlier: int = 0
    later: int = 0

    @property
    def left(self) -> int:
        """Frames that a window needs before the first one that is wanted."""
        return self.earlier // self.rate

    @property
    def right(self) -> int:
        """Frames that a window needs after the last one that is wanted."""
        return (self.rate - 1 + self.later) // self.rate

    def __or__(self, other: ReceptiveField) -> ReceptiveField:
        return ReceptiveField(
            self.rate, max(self.earlier, other.earlier), max(self.later, other.later)
        )


def receptive_field_of(
    nodes: Iterable[NodeProto],
    timed: Iterable[str],
    leave: Iterable[str],
    constants: Mapping[str, TensorProto],
) -> ReceptiveField | None:
    """Return the reach of what leaves, or `None` when a node is not local after all."""
    known = _traced(nodes, timed, constants)
    ends = [known[name] for name in leave if name in known] if known else []
    if not ends or any(end.rate != ends[0].rate for end in ends):
        return None
    whole = ends[0]
    for end in ends[1:]:
        whole |= end
    return whole


def multiplications_of(
    nodes: Iterable[NodeProto], timed: Iterable[str], constants: Mapping[str, TensorProto]
) -> int:
    """Return the multiplications that the convolutions of local nodes do for each frame."""
    nodes = list(nodes)
    known = _traced(nodes, timed, constants) or {}
    work = 0
    for node in nodes:
        if node.op_type in ("Conv", "ConvTranspose") and node.output[0] in known:
            slower = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
            work += math.prod(constants[node.input[1]].dims) * known[slower].rate
    return work


def _traced(
    nodes: Iterable[NodeProto], timed: Iterable[str], constants: Mapping[str, TensorProto]
) -> dict[str, ReceptiveField] | None:
    """Return the reach of every timed tensor, or `None` when a node is not local."""
    known: dict[str, ReceptiveField] = {name: ReceptiveField() for name in timed}
    shapes: set[str] = set()
    for node in nodes:
        if node.op_type == "Shape":
            if any(a.i for a in node.attribute):  # a part of the shape
                return None
            shapes.update(node.output)
        elif not shapes.isdisjoint(node.input) and node.op_type != "ConstantOfShape":
            return None  # a length that is worked with is the window's, not the sentence's
        before = [known[i] for i in node.input if i in known]
        if not before:
            continue
        reach = _after(node, before, constants)
        if reach is None:
            return None
        known.update(dict.fromkeys(node.output, reach))
    return known


def _after(
    node: NodeProto, before: list[ReceptiveField], constants: Mapping[str, TensorProto]
) -> ReceptiveField | None:
    whole = before[0]
    for one in before[1:]:
        if one.rate != whole.rate:
            return None
        whole |= one
    if node.op_type in ("Conv", "ConvTranspose"):
        if node.input[1] not in constants:
            return None
        return _after_convolution(node, whole, constants[node.input[1]])
    if node.op_type in ("Squeeze", "Unsqueeze"):
        return whole if _before_time(node, constants) else None
    if node.op_type in ("Split", "Slice", "Concat", "Gather"):
        return whole if _on_channels(node, constants) else None
    return whole


def _after_convolution(
    node: NodeProto, before: ReceptiveField, weight: TensorProto
) -> ReceptiveField | None:
    if len(weight.dims) != 3:  # not along one axis of time
        return None
    says = {a.name: list(a.ints) for a in node.attribute}
    kernel, stride = weight.dims[2], says.get("strides", [1])[0]
    first, last = says.get("pads", [0, 0])
    spread = (kernel - 1) * says.get("dilations", [1])[0]
    if any(a.name == "auto_pad" and a.s not in (b"", b"NOTSET") for a in node.attribute):
        return None
    if node.op_type == "Conv":
        if stride != 1 or first + last != spread:
            return None
        return ReceptiveField(before.rate, before.earlier + first, before.later + last)
    # Column o is made of those i with o = i * stride - first + j, where j is from 0 to spread.
    grown = spread + 1 - first - last + says.get("output_padding", [0])[0]
    if grown != stride or "output_shape" in says:
        return None
    return ReceptiveField(
        before.rate * stride,
        before.earlier * stride + spread - first,
        before.later * stride + first,
    )


def _before_time(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether an axis is added or dropped in front, so that time stays the last one."""
    axes = [a for attribute in node.attribute if attribute.name == "axes" for a in attribute.ints]
    if len(node.input) > 1 and node.input[1] in constants:
        axes = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
    return bool(axes) and all(axis in (0, 1) for axis in axes)


def _on_channels(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether a node rearranges channels, axis 1 of (batch, channels, time), and nothing else."""
    if node.op_type == "Slice":
        if len(node.input) < 4 or node.input[3] not in constants:
            return False
        axes: list[int] = numpy_helper.to_array(constants[node.input[3]]).tolist()
        return axes == [1]
    return any(a.name == "axis" and a.i == 1 for a in node.attribute)
