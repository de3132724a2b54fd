"""Convolutions that pad and take channels themselves make what the nodes around them made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from greenroom.adapters.piper.prepared.build.convolutions import with_wider_convolutions

CHANNELS = 6
MANY = 2**62


def graph(
    nodes: Sequence[NodeProto], outputs: Sequence[str] = ("out",), **constants: Any
) -> ModelProto:
    """A graph that reads `x`, with a convolution's weights `w` and `b` at hand."""
    random = np.random.default_rng(5)
    arrays = {
        "w": random.standard_normal((CHANNELS, CHANNELS, 3)).astype(np.float32),
        "b": random.standard_normal(CHANNELS).astype(np.float32),
        **{name: np.array(value) for name, value in constants.items()},
    }
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, None])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", 15)],
        ir_version=8,
    )


def padded(pads: Sequence[int], *, fill: str = "", **says: Any) -> ModelProto:
    given = ["x", "pads", fill] if fill else ["x", "pads"]
    return graph(
        [
            helper.make_node("Pad", given, ["wide"], **says),
            helper.make_node("Conv", ["wide", "w", "b"], ["out"], kernel_shape=[3], pads=[1, 0]),
        ],
        pads=np.array(pads, np.int64),
        zero=np.float32(0.0),
        two=np.float32(2.0),
    )


def parted(*ends: tuple[int, int], outputs: Sequence[str] = ()) -> ModelProto:
    """A convolution whose channels are read from `first` to `last` each, and all added up."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["made"], kernel_shape=[3])]
    constants: dict[str, Any] = {"axis": np.array([1], np.int64)}
    for number, (first, last) in enumerate(ends):
        constants[f"first{number}"] = np.array([first], np.int64)
        constants[f"last{number}"] = np.array([last], np.int64)
        inputs = ["made", f"first{number}", f"last{number}", "axis"]
        nodes.append(helper.make_node("Slice", inputs, [f"part{number}"]))
    nodes.append(
        helper.make_node("Concat", [f"part{n}" for n in range(len(ends))], ["out"], axis=1)
    )
    return graph(nodes, ("out", *outputs), **constants)


def kinds(model: ModelProto) -> list[str]:
    return sorted(node.op_type for node in model.graph.node)


def same_numbers(model: ModelProto) -> bool:
    x = np.random.default_rng(1).standard_normal((1, CHANNELS, 19)).astype(np.float32)
    made, expected = (
        onnxruntime.InferenceSession(each.SerializeToString()).run(None, {"x": x})
        for each in (with_wider_convolutions(model), model)
    )
    return all(np.allclose(a, b, atol=1e-6) for a, b in zip(made, expected, strict=True))


@pytest.mark.parametrize("fill", ["", "zero"])
def test_zeros_before_and_after_are_the_convolutions_own(fill: str) -> None:
    model = padded([0, 0, 2, 0, 0, 1], fill=fill)
    assert kinds(with_wider_convolutions(model)) == ["Conv"]
    assert same_numbers(model)


@pytest.mark.parametrize(
    "model",
    [
        padded([0, 0, 2, 0, 0, 1], fill="two"),
        padded([0, 0, 2, 0, 0, 1], mode="edge"),
        padded([0, 0, -2, 0, 0, 1]),
    ],
)
def test_what_is_no_zeros_stays(model: ModelProto) -> None:
    assert kinds(with_wider_convolutions(model)) == ["Conv", "Pad"]
    assert same_numbers(model)


def test_channels_in_parts_are_a_convolution_each() -> None:
    model = parted((4, MANY), (0, 2), (2, -2))
    made = with_wider_convolutions(model)
    assert kinds(made) == ["Concat", "Conv", "Conv", "Conv"]
    assert sum(tensor.name == "w" for tensor in made.graph.initializer) == 0
    assert same_numbers(model)


@pytest.mark.parametrize(
    "model",
    [
        parted((0, 2), (3, 6)),  # one channel is read by nobody
        parted((0, 4), (2, 6)),  # two are read twice
        parted((0, 6)),
        parted((0, 2), (2, 6), outputs=["made"]),
    ],
)
def test_channels_that_are_not_all_read_once_stay_together(model: ModelProto) -> None:
    assert kinds(with_wider_convolutions(model)).count("Conv") == 1
    assert same_numbers(model)
