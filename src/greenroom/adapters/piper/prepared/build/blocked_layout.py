"""Keep tensors in blocks of channels from one convolution to the next.

onnxruntime lays out in blocks what enters a two-dimensional convolution (its domain
`com.microsoft.nchwc`), and lays it out as before after it; what lies between two convolutions it
does not know how to do on blocks but for a few nodes. A node that does the same to every number
does it in any order, so what it reads may stay in blocks. The same numbers come out; the waveform
of a medium voice is made of convolutions so narrow that a third of its time went into layouts.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_DOMAIN = "com.microsoft.nchwc"
_TO_BLOCKS, _FROM_BLOCKS = "ReorderInput", "ReorderOutput"
_UNARY = frozenset(("LeakyRelu", "Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Identity"))
_BINARY = frozenset(("Add", "Sub", "Mul", "Div"))


def in_blocks(model: ModelProto, block: int) -> ModelProto:
    """Return an optimised graph that stays in blocks of so many channels between convolutions."""
    blocked = _Blocked(model, block)
    for node in model.graph.node:
        blocked.add(node)
    outputs = [value.name for value in model.graph.output]
    for name in outputs:
        blocked.plain(name)
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    made.graph.node.extend(_summed(_needed(blocked.nodes, outputs)))
    del made.graph.value_info[:]
    read = {name for node in made.graph.node for name in node.input}
    del made.graph.initializer[:]
    made.graph.initializer.extend(t for n, t in blocked.constants.items() if n in read)
    return made


def block_of(optimised: ModelProto) -> int:
    """Return how many channels a block has, as seen in what was made of `probe`; 0 for none."""
    shapes = {tensor.name: tensor.dims for tensor in optimised.graph.initializer}
    for node in optimised.graph.node:
        if node.domain == _DOMAIN and node.op_type == "Conv":
            return int(shapes[node.input[1]][0])
    return 0


def probe() -> ModelProto:
    """Return a convolution to one channel, which is filled up to a block."""
    weight = numpy_helper.from_array(np.zeros((1, 64, 1, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 1, None])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "probe", [given], [made], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


class _Blocked:
    """The nodes of a graph, with each tensor as it is and in blocks, as far as it is needed."""

    def __init__(self, model: ModelProto, block: int) -> None:
        graph = model.graph
        self.nodes: list[NodeProto] = []
        self._block = block
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        self._singles: set[str] = set()
        """Tensors of one channel that were made in plain order."""
        self._columns = 1
        """How many columns at least a tensor has for each that enters, and always a multiple."""
        self._blocks: dict[str, str] = {}
        """Tensors that are there in blocks, by the name of those in plain order."""
        self._only_blocks: set[str] = set()
        """Those of them that are not there in plain order."""
        self._channels: dict[str, int] = {}
        """Of tensors in plain order that have a number for each channel and column."""

    def add(self, node: NodeProto) -> None:
        """Add a node, on blocks if it may be."""
        if node.op_type == _TO_BLOCKS and node.input[0] in self._blocks:
            self._alias(node)
        elif node.op_type == _FROM_BLOCKS and node.output[0] in self._singles:
            return
        elif node.op_type == _FROM_BLOCKS and node.domain == _DOMAIN:
            channels = next(a.i for a in node.attribute if a.name == "channels")
            if channels % self._block:
                self._add_plain(node)
            else:
                self._made(node.output[0], node.input[0], channels)
        elif self._is_transposed(node):
            self._add_transposed(node)
        elif self._is_single(node):
            self._add_single(node)
        elif self._may_be_blocked(node):
            self._add_blocked(node)
        else:
            self._add_plain(node)

    def plain(self, name: str) -> None:
        """Have a tensor in plain order."""
        if name in self._only_blocks:
            self._only_blocks.remove(name)
            reorder = helper.make_node(
                _FROM_BLOCKS,
                [self._blocks[name]],
                [name],
                domain=_DOMAIN,
                channels=self._channels[name],
            )
            self.nodes.append(reorder)

    def _add_plain(self, node: NodeProto) -> None:
        for name in node.input:
            self.plain(name)
        self.nodes.append(node)
        if node.op_type == "ConvTranspose" and node.input[1] in self.constants:
            self._channels[node.output[0]] = self.constants[node.input[1]].dims[1]
        elif node.op_type in _UNARY and node.input[0] in self._channels:
            self._channels[node.output[0]] = self._channels[node.input[0]]
        elif node.op_type == _TO_BLOCKS:
            self._blocks[node.input[0]] = node.output[0]

    def _alias(self, node: NodeProto) -> None:
        copy = helper.make_node("Identity", [self._blocks[node.input[0]]], list(node.output))
        self.nodes.append(copy)

    def _made(self, plain: str, blocks: str, channels: int) -> None:
        self._blocks[plain], self._channels[plain] = blocks, channels
        self._only_blocks.add(plain)

    def _is_transposed(self, node: NodeProto) -> bool:
        """Whether a node is a transposed convolution along time, of channels in whole blocks."""
        if node.op_type != "ConvTranspose" or node.input[1] not in self.constants:
            return False
        dims = self.constants[node.input[1]].dims
        ones = {
            a.name: a.i if a.name == "group" else max(a.ints, default=1) for a in node.attribute
        }
        is_plain = ones.get("group", 1) == 1 and ones.get("dilations", 1) == 1
        is_along_time = len(dims) == 4 and dims[2] == 1
        return is_plain and is_along_time and not (dims[0] % self._block or dims[1] % self._block)

    def _add_transposed(self, node: NodeProto) -> None:
        """Add a transposed convolution as one that makes all columns of a frame as channels.

        With stride s, column q of what is made before its ends are cut off is made of columns i for
        which 0 <= q - i * s < kernel: for q = m * s + r these are m, m - 1, … So one column m of a
        convolution over few columns holds the s of them, as channels, and blocks are put in order.
        """
        says = {a.name: list(a.ints) for a in node.attribute if a.ints}
        stride, first = says["strides"][1], says["pads"][1]
        weight = numpy_helper.to_array(self.constants[node.input[1]])[:, :, 0, :]
        kernel, block = -(-weight.shape[2] // stride), self._block
        channels, more = weight.shape[1], -(-first // stride)
        name = f"blocks.{node.output[0]}"
        inputs = [self._in_blocks(node.input[0])]
        inputs.append(self._constant(f"{name}.w", _of_frames(weight, stride, block)))
        if len(node.input) > 2:
            bias = numpy_helper.to_array(self.constants[node.input[2]])
            every = np.repeat(bias.reshape(-1, 1, block), stride, 1)
            inputs.append(self._constant(f"{name}.b", every.reshape(-1)))
        convolution = helper.make_node(
            "Conv",
            inputs,
            [f"{name}.frames"],
            domain=_DOMAIN,
            kernel_shape=[1, kernel],
            pads=[0, kernel - 1, 0, more],
            strides=[1, 1],
            dilations=[1, 1],
            group=1,
        )
        blocks = channels // block
        ends = (first, first - more * stride or np.iinfo(np.int64).max, 1)
        cut = [self._constant(f"{name}.cut{n}", np.array([end])) for n, end in enumerate(ends)]
        for made in (
            convolution,
            self._reshape(f"{name}.frames", f"{name}.split", (blocks, stride, -1, block)),
            helper.make_node("Transpose", [f"{name}.split"], [f"{name}.turned"], perm=[0, 2, 1, 3]),
            self._reshape(f"{name}.turned", f"{name}.joined", (blocks, -1, block)),
            helper.make_node("Slice", [f"{name}.joined", *cut], [f"{name}.columns"]),
            self._reshape(f"{name}.columns", name, (1, channels, 1, -1)),
        ):
            self.nodes.append(made)
        self._made(node.output[0], name, channels)
        self._columns *= stride

    def _is_single(self, node: NodeProto) -> bool:
        """Whether a node makes one channel, of columns in whole blocks, and fills up a block."""
        if node.domain != _DOMAIN or node.op_type != "Conv" or len(node.input) > 3:
            return False
        readers = self._readers.get(node.output[0], [])
        if len(readers) != 1 or readers[0].op_type != _FROM_BLOCKS:
            return False
        says = {a.name: list(a.ints) or [a.i] for a in node.attribute}
        dims = self.constants[node.input[1]].dims
        ones = {n for name in ("strides", "dilations", "group") for n in says.get(name, [1])}
        first, last = says["pads"][1::2]
        is_along_time = dims[2] == 1 and first + last == dims[3] - 1 and ones == {1}
        channels = next(a.i for a in readers[0].attribute if a.name == "channels")
        fits = dims[0] == self._block and dims[1] % self._block == 0
        return channels == 1 and is_along_time and fits and self._columns % self._block == 0

    def _add_single(self, node: NodeProto) -> None:
        """Add a convolution to one channel as one that makes a block of columns as channels.

        Filled up with channels that nobody reads it would do a block's work for each column. This
        does it for a block of columns, over a kernel that is longer by as many; in blocks, its
        channels are the columns in order.
        """
        block, made = self._block, self._readers[node.output[0]][0].output[0]
        weight = numpy_helper.to_array(self.constants[node.input[1]])
        kernel = weight.shape[3]
        only = weight.reshape(-1, kernel, block, block)[..., 0]  # (blocks, kernel, entering)
        spread = np.zeros((len(only), kernel + block - 1, block, block), np.float32)
        for column in range(block):
            spread[:, column : column + kernel, :, column] = only
        wide = spread.reshape(block, weight.shape[1], 1, kernel + block - 1)
        inputs = [node.input[0], self._constant(f"{made}.w", wide)]
        if len(node.input) > 2 and node.input[2]:
            bias = numpy_helper.to_array(self.constants[node.input[2]])
            inputs.append(self._constant(f"{made}.b", np.repeat(bias[:1], block)))
        convolution = helper.make_node("Conv", inputs, [f"{made}.blocks"], domain=_DOMAIN)
        changed = {"strides": [1, block], "kernel_shape": [1, kernel + block - 1]}
        kept = [a for a in node.attribute if a.name not in changed]
        convolution.attribute.extend(kept)
        convolution.attribute.extend(helper.make_attribute(*each) for each in changed.items())
        self.nodes.append(convolution)
        self.nodes.append(self._reshape(f"{made}.blocks", f"{made}.columns", (1, 1, 1, -1)))
        self.nodes.append(helper.make_node("Identity", [f"{made}.columns"], [made]))
        self._singles.add(made)

    def _reshape(self, name: str, made: str, shape: tuple[int, ...]) -> NodeProto:
        wanted = self._constant(f"{made}.shape", np.array(shape, np.int64))
        return helper.make_node("Reshape", [name, wanted], [made])

    def _constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _may_be_blocked(self, node: NodeProto) -> bool:
        if node.op_type in _UNARY and not node.domain:
            (name,) = node.input
            is_known = name in self._channels
            return is_known and (name in self._blocks or self._ends_in_blocks(node))
        if node.op_type not in _BINARY or node.domain:
            return False
        tensors = [name for name in node.input if not self._is_scalar(name)]
        channels = {self._channels.get(name) for name in tensors}
        is_known = len(channels) == 1 and None not in channels
        return is_known and not self._blocks.keys().isdisjoint(tensors)

    def _ends_in_blocks(self, node: NodeProto) -> bool:
        """Whether all who read what a node makes want it in blocks."""
        readers = self._readers.get(node.output[0], [])
        return bool(readers) and all(reader.op_type == _TO_BLOCKS for reader in readers)

    def _is_scalar(self, name: str) -> bool:
        tensor: TensorProto | None = self.constants.get(name)
        return tensor is not None and math.prod(tensor.dims) == 1

    def _add_blocked(self, node: NodeProto) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [n if self._is_scalar(n) else self._in_blocks(n) for n in node.input]
        copy.output[:] = [f"blocks.{node.output[0]}"]
        self.nodes.append(copy)
        channels = next(self._channels[name] for name in node.input if name in self._channels)
        self._made(node.output[0], copy.output[0], channels)

    def _in_blocks(self, name: str) -> str:
        if name not in self._blocks:
            self._blocks[name] = f"blocks.{name}"
            reorder = helper.make_node(_TO_BLOCKS, [name], [self._blocks[name]], domain=_DOMAIN)
            self.nodes.append(reorder)
        return self._blocks[name]


def _of_frames(weight: NDArray[np.float32], stride: int, block: int) -> NDArray[np.float32]:
    """Return the weights of the convolution that makes whole frames, in the order of blocks.

    `weight` is that of the transposed one, `(entering, leaving, kernel)`. Channels that are made
    are ordered by block, then by column of the frame, then within the block.
    """
    entering, leaving, size = weight.shape
    kernel = -(-size // stride)
    padded = np.zeros((entering, leaving, kernel * stride), np.float32)
    padded[..., :size] = weight
    # (entering blocks, entering, leaving blocks, leaving, kernel, stride), the latest tap first
    parts = padded.reshape(entering // block, block, leaving // block, block, kernel, stride)
    parts = parts[..., ::-1, :]
    # The runtime's order: blocks leaving, blocks entering, kernel, entering, leaving.
    ordered = parts.transpose(2, 5, 0, 4, 1, 3)
    return np.ascontiguousarray(ordered).reshape(leaving * stride, entering, 1, kernel)


def _summed(nodes: list[NodeProto]) -> list[NodeProto]:
    """Have convolutions add up what is added to what they make."""
    readers = Counter(name for node in nodes for name in node.input)
    makers = {node.output[0]: node for node in nodes}
    summed: dict[str, NodeProto] = {}
    taken: set[int] = set()
    for node in nodes:
        if node.op_type != "Add":
            continue
        for name, other in (node.input, reversed(node.input)):
            maker = makers.get(name)
            if maker is None or readers[name] != 1 or id(maker) in taken:
                continue
            if not _may_sum(maker) or not _is_blocked(makers.get(other)):
                continue
            taken.add(id(maker))
            sum_ = NodeProto()
            sum_.CopyFrom(maker)
            inputs = [*maker.input, "", ""][:3]
            sum_.input[:] = [*inputs, other]
            sum_.output[:] = node.output
            summed[node.output[0]] = sum_
            break
    kept = [node for node in nodes if id(node) not in taken]
    return [summed.get(node.output[0], node) for node in kept]


def _may_sum(node: NodeProto) -> bool:
    """Whether a node is a convolution on blocks that adds nothing up, and is read as it is."""
    if node.domain != _DOMAIN or node.op_type != "Conv" or len(node.input) > 3:
        return False
    return not any(a.name == "activation" for a in node.attribute)


def _is_blocked(node: NodeProto | None) -> bool:
    """Whether a node makes a tensor in blocks."""
    if node is None:
        return False
    is_reordered = node.domain == _DOMAIN and node.op_type != _FROM_BLOCKS
    return is_reordered or node.output[0].startswith("blocks.")


def _needed(nodes: list[NodeProto], outputs: list[str]) -> list[NodeProto]:
    """Return the nodes that the outputs depend on, without those that only rename."""
    names: dict[str, str] = {}
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
