"""Convolutions over a plane of height one make what those along time make."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from greenroom.adapters.piper.prepared.build.conv2d import as_conv2d

CHANNELS = 16


def convolutions(count: int, **attributes: Any) -> ModelProto:
    """One input that `count` convolutions read; what they make is added up."""
    random = np.random.default_rng(7)
    group, kernel = attributes.get("group", 1), 5
    shape = (CHANNELS, CHANNELS // group, kernel)
    constants = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), f"w{n}")
        for n in range(count)
    ]
    bias = numpy_helper.from_array(random.standard_normal(CHANNELS).astype(np.float32), "b")
    nodes = [
        helper.make_node(
            "Conv", ["x", f"w{n}", "b"], [f"y{n}"], kernel_shape=[kernel], **attributes
        )
        for n in range(count)
    ]
    nodes.append(helper.make_node("Sum", [f"y{n}" for n in range(count)], ["out"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, None])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [*constants, bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(model: ModelProto, samples: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, {"x": samples})[0])


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [2, 2]},
        {"pads": [4, 0]},
        {"pads": [6, 6], "dilations": [3]},
        {"pads": [2, 2], "group": 4},
        {"strides": [2]},
        {},
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_the_same_numbers_come_out(attributes: dict[str, Any], count: int) -> None:
    model = convolutions(count, **attributes)
    samples = np.random.default_rng(1).standard_normal((1, CHANNELS, 61)).astype(np.float32)
    expected, made = run(model, samples), run(as_conv2d(model), samples)
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() < 1e-4


def test_every_convolution_along_time_is_made_planar_and_its_old_weights_are_gone() -> None:
    model = as_conv2d(convolutions(2, pads=[2, 2]))
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert weights[node.input[1]] == [CHANNELS, CHANNELS, 1, 5]
    assert not weights.keys() & {"w0", "w1"}


def test_a_graph_from_before_axes_were_inputs_stays_as_it_is() -> None:
    model = convolutions(1, pads=[2, 2])
    model.opset_import[0].version = 12
    assert as_conv2d(model) is model


def test_what_is_no_convolution_along_time_stays_as_it_is() -> None:
    once = as_conv2d(convolutions(1, pads=[2, 2]))
    assert as_conv2d(once) == once


def test_what_lies_between_convolutions_stays_on_the_plane() -> None:
    model = convolutions(2, pads=[2, 2])
    nodes = [
        helper.make_node("LeakyRelu", ["y0"], ["na"], alpha=0.1),
        helper.make_node("Mul", ["na", "scale"], ["nb"]),
        helper.make_node("Split", ["nb"], ["nc", "nd"], axis=1),
        helper.make_node("Tanh", ["nc"], ["ne"]),
        helper.make_node("Concat", ["ne", "nd"], ["nf"], axis=1),
        helper.make_node("Conv", ["nf", "w1"], ["ng"], pads=[2, 2], kernel_shape=[5]),
        helper.make_node("ReduceMean", ["nf"], ["mean"], axes=[2]),  # along time: not on the plane
        helper.make_node("Add", ["ng", "mean"], ["out"]),
    ]
    del model.graph.node[1:]
    model.graph.node.extend(nodes)
    scale = np.random.default_rng(3).standard_normal((1, CHANNELS, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(scale, "scale"))
    made = as_conv2d(model)
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("Unsqueeze") == 2  # of what enters, and of the mean
    assert kinds.count("Squeeze") == 2  # for the mean, and of what leaves
    samples = np.random.default_rng(1).standard_normal((1, CHANNELS, 61)).astype(np.float32)
    expected, ours = run(model, samples), run(made, samples)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 1e-4


def test_a_transposed_convolution_is_made_planar_too() -> None:
    model = convolutions(1, pads=[2, 2])
    weight = np.random.default_rng(2).standard_normal((CHANNELS, 4, 8)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "up"))
    model.graph.node[-1].CopyFrom(
        helper.make_node(
            "ConvTranspose", ["y0", "up"], ["out"], strides=[4], pads=[2, 1], output_padding=[0]
        )
    )
    samples = np.random.default_rng(1).standard_normal((1, CHANNELS, 61)).astype(np.float32)
    expected, made = run(model, samples), run(as_conv2d(model), samples)
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() < 1e-4
