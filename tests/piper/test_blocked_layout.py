"""Between convolutions tensors stay in blocks of channels, and the same numbers come out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from greenroom.adapters.piper.prepared.build.blocked_layout import block_of, in_blocks, probe
from greenroom.adapters.piper.prepared.build.conv2d import as_conv2d

REORDERS = ("ReorderInput", "ReorderOutput")


class Graph:
    """Builds a graph of which every node reads what the one before it made."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._random = np.random.default_rng(7)

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.constants)}"
        array = self._random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        self.constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def scalar(self, value: float) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def op(self, kind: str, *inputs: str, **says: Any) -> str:
        name = f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **says))
        return name

    def conv(self, x: str, leaving: int | None = None, kernel: int = 3) -> str:
        weights = self.weight(leaving or self.channels, self.channels, kernel)
        bias = self.weight(leaving or self.channels)
        return self.op("Conv", x, weights, bias, pads=[kernel // 2] * 2)

    def resolved(self, x: str) -> str:
        """Add what a residual block adds, as a vocoder has it."""
        return self.op("Add", x, self.conv(self.op("LeakyRelu", x, alpha=0.1)))

    def upsampled(self, x: str, stride: int, kernel: int, first: int, last: int) -> str:
        weights = self.weight(self.channels, self.channels, kernel)
        return self.op(
            "ConvTranspose", x, weights, self.weight(self.channels), strides=[stride],
            pads=[first, last], output_padding=[stride - kernel + first + last],
        )  # fmt: skip

    def model(self, *outputs: str) -> ModelProto:
        made = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs]
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, self.channels, None])
        graph = helper.make_graph(self.nodes, "g", [given], made, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(model: ModelProto, samples: NDArray[np.float32], *, optimise: bool) -> list[Any]:
    options = onnxruntime.SessionOptions()
    if not optimise:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, {"x": samples}))


def optimised(model: ModelProto, folder: Path) -> ModelProto:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return onnx.load(folder / "optimised.onnx")


def blocked(model: ModelProto, folder: Path) -> ModelProto:
    """Prepare a graph as a stage is, and compare what comes out for several lengths."""
    block = block_of(optimised(probe(), folder)) or 16
    made = in_blocks(optimised(as_conv2d(model), folder), block)
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    for columns in (1, 2, 7, 64):
        samples = np.random.default_rng(columns).standard_normal((1, channels, columns))
        expected = run(model, samples.astype(np.float32), optimise=True)
        ours = run(made, samples.astype(np.float32), optimise=False)
        for one, other in zip(ours, expected, strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() < 1e-5 * np.abs(other).max()
            assert np.abs(other).max() > 0.01
    return made


def count(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


needs_blocks = pytest.mark.skipif(
    not any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx2", "avx512f"))
    if Path("/proc/cpuinfo").exists()
    else True,
    reason="the runtime has blocks for AVX2 and AVX-512",
)


@needs_blocks
def test_residual_blocks_are_made_in_blocks_from_first_to_last(tmp_path: Path) -> None:
    graph = Graph(32)
    start = graph.upsampled(graph.conv("x"), 2, 4, 1, 1)
    parts = [graph.resolved(graph.resolved(start)) for _ in range(3)]
    mean = graph.op("Div", graph.op("Add", graph.op("Add", *parts[:2]), parts[2]), graph.scalar(3))
    made = blocked(graph.model(graph.conv(graph.op("LeakyRelu", mean, alpha=0.1))), tmp_path)
    assert count(made)["ReorderInput"] == 1
    assert count(made)["ReorderOutput"] == 1
    assert count(made)["Add"] == 2  # those of the branches; each residual is added in its Conv


@needs_blocks
@pytest.mark.parametrize(
    ("stride", "kernel", "first", "last"),
    [(8, 16, 4, 4), (4, 8, 2, 2), (2, 4, 1, 1), (3, 7, 2, 2), (5, 5, 0, 0), (2, 3, 1, 1),
     (4, 4, 0, 0), (4, 12, 4, 4), (4, 11, 1, 6), (8, 16, 8, 0), (1, 3, 1, 1)],
)  # fmt: skip
def test_upsampling_is_a_convolution_over_frames(
    tmp_path: Path, stride: int, kernel: int, first: int, last: int
) -> None:
    graph = Graph(16)
    x = graph.conv(graph.op("LeakyRelu", graph.conv("x"), alpha=0.1))
    x = graph.upsampled(graph.op("LeakyRelu", x, alpha=0.1), stride, kernel, first, last)
    made = blocked(graph.model(graph.resolved(x)), tmp_path)
    assert not count(made)["ConvTranspose"]
    assert count(made)["ReorderInput"] == count(made)["ReorderOutput"] == 1


@needs_blocks
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_a_single_channel_of_many_columns_is_made_block_by_block(
    tmp_path: Path, kernel: int
) -> None:
    graph = Graph(32)
    x = graph.upsampled(graph.upsampled("x", 8, 16, 4, 4), 4, 8, 2, 2)
    end = graph.op("Tanh", graph.conv(graph.op("LeakyRelu", x, alpha=0.01), 1, kernel))
    made = blocked(graph.model(end), tmp_path)
    assert not count(made)["ReorderOutput"]
    single = [node for node in made.graph.node if node.op_type == "Conv"][-1]
    assert [list(a.ints) for a in single.attribute if a.name == "strides"] in ([[1, 16]], [[1, 8]])


@pytest.mark.parametrize("channels", [1, 3, 4, 8, 12, 16, 24, 48])
def test_the_same_comes_out_however_channels_fit_into_blocks(tmp_path: Path, channels: int) -> None:
    graph = Graph(channels)
    x = graph.upsampled(graph.resolved(graph.resolved("x")), 4, 8, 2, 2)
    end = graph.op("Tanh", graph.conv(graph.op("LeakyRelu", graph.resolved(x), alpha=0.1), 1))
    blocked(graph.model(end), tmp_path)


def test_what_is_read_in_plain_order_too_is_there(tmp_path: Path) -> None:
    graph = Graph(16)
    first = graph.op("LeakyRelu", graph.conv("x"), alpha=0.1)
    second = graph.op("Add", graph.conv(first), first)
    whole = graph.op("ReduceMax", second, axes=[1], keepdims=1)
    scaled = graph.op("Mul", graph.conv(second), whole)  # one number for all channels
    blocked(graph.model(first, second, scaled), tmp_path)


def test_a_number_for_each_channel_or_column_is_not_taken_for_a_scalar(tmp_path: Path) -> None:
    graph = Graph(16)
    channel = graph.op("Mul", graph.conv("x"), graph.weight(1, 16, 1))
    column = graph.op("Mul", graph.conv(channel), graph.op("ReduceMax", "x", axes=[1], keepdims=1))
    blocked(graph.model(graph.conv(column)), tmp_path)


@needs_blocks
def test_a_graph_whose_runtime_has_no_blocks_is_known(tmp_path: Path) -> None:
    assert block_of(optimised(probe(), tmp_path)) in (8, 16)
    assert block_of(probe()) == 0
