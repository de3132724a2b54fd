"""Have convolutions do what stands before and after them: fill up with zeros, and take channels.

A convolution over a tensor that was padded with zeros pads as well itself. One whose channels are
read in parts, as those of a gate are, is a convolution for each part: nothing is copied, and what
follows a part (a residual, an activation) can be done as it is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


def with_wider_convolutions(part: ModelProto) -> ModelProto:
    """Return the graph with what stands around its convolutions done by them."""
    made = ModelProto()
    made.CopyFrom(part)
    wider = _Wider(made)
    nodes = [each for node in part.graph.node for each in wider.replaced(node)]
    read = {value.name for value in part.graph.output}
    kept = []
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(node.input)
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(reversed(kept))
    made.graph.initializer.extend(t for n, t in wider.constants.items() if n in read)
    return made


class _Wider:
    """The nodes of a graph, by what they make and who reads it."""

    def __init__(self, part: ModelProto) -> None:
        self.constants = {tensor.name: tensor for tensor in part.graph.initializer}
        self._makers = {name: node for node in part.graph.node for name in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in part.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in part.graph.output}

    def replaced(self, node: NodeProto) -> Iterator[NodeProto]:
        """Yield what stands in the place of a node."""
        if node.op_type == "Slice" and self._is_part(node):
            return
        if node.op_type != "Conv":
            yield node
            return
        padded = self._padded(node)
        parts = self._parts(node)
        if not parts:
            yield padded
        for first, last, name in parts:
            copy = NodeProto()
            copy.CopyFrom(padded)
            copy.name = ""
            weights = [self._rows(weight, first, last) for weight in node.input[1:]]
            copy.input[:] = [padded.input[0], *weights]
            copy.output[:] = [name]
            yield copy

    def _padded(self, node: NodeProto) -> NodeProto:
        """Return a convolution that fills up itself, if what it reads was filled up with zeros."""
        pad = self._makers.get(node.input[0])
        if pad is None or pad.op_type != "Pad" or not self._fills_with_zeros(pad):
            return node
        pads = self._array(pad.input[1])
        if pads is None:
            return node
        half = len(pads) // 2
        begin, end = pads[:half], pads[half:]
        if any((*begin[:2], *end[:2])) or min(pads) < 0:  # along time only, and never cut off
            return node
        said = _attributes(node)
        own = said.get("pads", [0] * (2 * (half - 2)))
        if said.get("auto_pad", b"NOTSET") != b"NOTSET":
            return node
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[0] = pad.input[0]
        kept = [each for each in node.attribute if each.name != "pads"]
        del copy.attribute[:]
        copy.attribute.extend(kept)
        both = [int(a) + int(b) for a, b in zip(own, (*begin[2:], *end[2:]), strict=True)]
        copy.attribute.append(helper.make_attribute("pads", both))
        return copy

    def _fills_with_zeros(self, pad: NodeProto) -> bool:
        if _attributes(pad).get("mode", b"constant") != b"constant" or len(pad.input) > 3:
            return False
        if len(pad.input) < 3 or not pad.input[2]:
            return True
        value = self._array(pad.input[2])
        return value is not None and not value.any()

    def _is_part(self, node: NodeProto) -> bool:
        maker = self._makers.get(node.input[0])
        return maker is not None and maker.op_type == "Conv" and bool(self._parts(maker))

    def _parts(self, node: NodeProto) -> list[tuple[int, int, str]]:
        """Return which channels are read under which name, where all are read once, in parts."""
        weight = self.constants.get(node.input[1])
        readers = self._readers.get(node.output[0], [])
        one_group = _attributes(node).get("group", 1) == 1
        is_known = weight is not None and all(name in self.constants for name in node.input[1:])
        if weight is None or not is_known or not one_group or len(readers) < 2:
            return []
        if node.output[0] in self._outputs:
            return []
        parts = []
        for reader in readers:
            channels = self._channels(reader, weight.dims[0])
            if channels is None:
                return []
            parts.append((*channels, reader.output[0]))
        ends = sorted(parts)
        follow = all(a[1] == b[0] for a, b in itertools.pairwise(ends))
        return parts if follow and ends[0][0] == 0 and ends[-1][1] == weight.dims[0] else []

    def _channels(self, node: NodeProto, count: int) -> tuple[int, int] | None:
        """Return from where to where a node takes channels, if that is all it does."""
        if node.op_type != "Slice" or len(node.input) < 4:
            return None
        said = [self._array(name) for name in node.input[1:]]
        if any(each is None or each.size != 1 for each in said):
            return None
        first, last, axis, *step = (int(each.item()) for each in said if each is not None)
        if axis != 1 or step not in ([], [1]):
            return None
        first, last, _ = slice(first, last).indices(count)
        return first, last

    def _rows(self, name: str, first: int, last: int) -> str:
        made = f"{name}.{first}"
        rows = numpy_helper.to_array(self.constants[name])[first:last]
        self.constants[made] = numpy_helper.from_array(np.ascontiguousarray(rows), made)
        return made

    def _array(self, name: str) -> NDArray[np.generic] | None:
        tensor: TensorProto | None = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}
