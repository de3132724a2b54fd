"""What a graph computes of lengths is left out, and only that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from greenroom.adapters.piper.prepared.build.lengths import drop_masks, share_shapes

CONSTANTS: dict[str, Any] = {
    "zero": np.int64(0),
    "one": np.int64(1),
    "two": np.int64(2),
    "ones": np.array([1], np.int64),
    "bound": np.float32(0.5),
    "unit": np.float32(1.0),
}

node = helper.make_node


def mask(name: str, count: str, until: str) -> list[NodeProto]:
    """Ones for each place below `until`, of `count` places."""
    return [
        node("Range", ["zero", count, "one"], [f"{name}.places"]),
        node("Less", [f"{name}.places", until], [f"{name}.below"]),
        node("Cast", [f"{name}.below"], [name], to=TensorProto.FLOAT),
    ]


LENGTH = [node("Shape", ["input"], ["shape"]), node("Gather", ["shape", "one"], ["length"])]
VALUES = [node("Cast", ["input"], ["values"], to=TensorProto.FLOAT)]
FRAMES = [
    node("Gather", ["scales", "one"], ["slowness"]),
    node("Mul", ["values", "slowness"], ["slow"]),
    node("ReduceSum", ["slow"], ["sum"], keepdims=0),
    node("Add", ["sum", "unit"], ["positive"]),
    node("Cast", ["positive"], ["frames"], to=TensorProto.INT64),
]


def graph(*nodes: NodeProto) -> ModelProto:
    made = helper.make_graph(
        list(nodes),
        "g",
        [
            helper.make_tensor_value_info("input", TensorProto.INT64, [1, None]),
            helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(value), name) for name, value in CONSTANTS.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def kinds(model: ModelProto) -> list[str]:
    return [each.op_type for each in model.graph.node]


def said(model: ModelProto, length: int) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {
        "input": np.random.default_rng((3, length)).integers(0, 20, (1, length)),
        "input_lengths": np.array([length], np.int64),
        "scales": np.array([0.0, 1.3, 0.0], np.float32),
    }
    return session.run(None, feeds)[0]


def rewritten(
    rewrite: Callable[[ModelProto, Path], None], model: ModelProto, folder: Path
) -> ModelProto:
    """Rewrite a copy, which must say the same at lengths that were not tried."""
    copy = ModelProto()
    copy.CopyFrom(model)
    rewrite(copy, folder / "scratch.onnx")
    for length in (1, 3, 7, 120):
        expected, made = said(model, length), said(copy, length)
        assert made.shape == expected.shape
        assert np.array_equal(made, expected)
    return copy


def test_a_mask_of_the_text_is_left_out(tmp_path: Path) -> None:
    model = graph(
        *LENGTH,
        *VALUES,
        *mask("mask", "length", "input_lengths"),
        node("Mul", ["values", "mask"], ["masked"]),
        node("Neg", ["masked"], ["out"]),
    )
    assert kinds(rewritten(drop_masks, model, tmp_path)) == ["Cast", "Neg"]


def test_a_mask_on_the_left_is_left_out_too(tmp_path: Path) -> None:
    model = graph(
        *LENGTH,
        *VALUES,
        *mask("mask", "length", "input_lengths"),
        node("Mul", ["mask", "values"], ["masked"]),
        node("Neg", ["masked"], ["out"]),
    )
    assert kinds(rewritten(drop_masks, model, tmp_path)) == ["Cast", "Neg"]


def test_a_mask_of_frames_is_left_out(tmp_path: Path) -> None:
    model = graph(
        *VALUES,
        *FRAMES,
        *mask("mask", "frames", "frames"),
        node("Range", ["zero", "frames", "one"], ["places"]),
        node("Cast", ["places"], ["all"], to=TensorProto.FLOAT),
        node("Mul", ["all", "sum"], ["said"]),
        node("Mul", ["said", "mask"], ["masked"]),
        node("Neg", ["masked"], ["out"]),
    )
    made = kinds(rewritten(drop_masks, model, tmp_path))
    assert "Less" not in made
    assert made[-4:] == ["Range", "Cast", "Mul", "Neg"]


def test_a_mask_that_depends_on_what_is_said_stays(tmp_path: Path) -> None:
    model = graph(
        *VALUES,
        node("Greater", ["values", "unit"], ["loud"]),
        node("Cast", ["loud"], ["mask"], to=TensorProto.FLOAT),
        node("Mul", ["values", "mask"], ["masked"]),
        node("Neg", ["masked"], ["out"]),
    )
    assert kinds(rewritten(drop_masks, model, tmp_path)) == kinds(model)


def test_a_mask_that_leaves_something_out_stays(tmp_path: Path) -> None:
    model = graph(
        *LENGTH,
        *VALUES,
        node("Sub", ["length", "one"], ["fewer"]),
        *mask("mask", "length", "fewer"),
        node("Mul", ["values", "mask"], ["masked"]),
        node("Neg", ["masked"], ["out"]),
    )
    assert kinds(rewritten(drop_masks, model, tmp_path)) == kinds(model)


def test_ones_that_make_a_tensor_larger_stay(tmp_path: Path) -> None:
    model = graph(
        *LENGTH,
        *VALUES,
        *mask("mask", "length", "input_lengths"),
        node("ReduceSum", ["values"], ["sum"], keepdims=1),
        node("Mul", ["sum", "mask"], ["spread"]),
        node("Neg", ["spread"], ["out"]),
    )
    assert kinds(rewritten(drop_masks, model, tmp_path)) == kinds(model)


def test_zeros_of_a_tensors_shape_are_left_out(tmp_path: Path) -> None:
    model = graph(
        *VALUES,
        node("Shape", ["values"], ["shape"]),
        node("ConstantOfShape", ["shape"], ["none"]),
        node("Add", ["values", "none"], ["more"]),
        node("Neg", ["more"], ["out"]),
    )
    assert kinds(rewritten(drop_masks, model, tmp_path)) == ["Cast", "Neg"]


def test_a_shape_is_computed_once(tmp_path: Path) -> None:
    def turned(name: str, read: str) -> list[NodeProto]:
        return [
            node("Shape", [read], [f"{name}.shape"]),
            node("Gather", [f"{name}.shape", "one"], [f"{name}.length"]),
            node("Unsqueeze", [f"{name}.length", "zero1"], [f"{name}.many"]),
            node("Concat", [f"{name}.many", "ones"], [f"{name}.to"], axis=0),
            node("Reshape", [read, f"{name}.to"], [f"{name}.turned"]),
            node("ReduceSum", [f"{name}.turned"], [name], keepdims=0),
        ]

    model = graph(
        *VALUES,
        node("Neg", ["values"], ["less"]),
        *turned("a", "values"),
        *turned("b", "less"),
        node("Add", ["a", "b"], ["out"]),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "zero1"))
    made = kinds(rewritten(share_shapes, model, tmp_path))
    assert [made.count(kind) for kind in ("Shape", "Gather", "Unsqueeze", "Concat")] == [1] * 4
    assert made.count("Reshape") == 2


def test_what_is_the_same_for_every_length_is_a_constant(tmp_path: Path) -> None:
    model = graph(
        *VALUES,
        node("Shape", ["values"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"]),
        node("Cast", ["batch"], ["count"], to=TensorProto.FLOAT),
        node("Mul", ["values", "count"], ["out"]),
    )
    assert kinds(rewritten(share_shapes, model, tmp_path)) == ["Cast", "Mul"]


def test_the_length_of_what_is_chosen_by_its_values_is_its_own(tmp_path: Path) -> None:
    """In all runs as long as the text, but not in a sentence that has noise in it."""
    model = graph(
        *LENGTH,
        *VALUES,
        node("Gather", ["scales", "two"], ["noise"]),
        node("Add", ["values", "noise"], ["noisy"]),
        node("Less", ["noisy", "most"], ["small"]),
        node("NonZero", ["small"], ["places"]),
        node("Transpose", ["places"], ["rows"]),
        node("Shape", ["rows"], ["rows.shape"]),
        node("Gather", ["rows.shape", "zero"], ["count"]),
        node("Add", ["count", "length"], ["both"]),
        node("Cast", ["both"], ["out"], to=TensorProto.FLOAT),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(20.0, np.float32), "most"))
    assert kinds(rewritten(share_shapes, model, tmp_path)) == kinds(model)


def test_lengths_that_agree_at_a_few_points_only_stay_two(tmp_path: Path) -> None:
    """The number of frames is that of text for one text, and twice as much for another."""
    model = graph(
        *LENGTH,
        *VALUES,
        *FRAMES,
        node("Range", ["zero", "frames", "one"], ["places"]),
        node("Shape", ["places"], ["made"]),
        node("Add", ["made", "length"], ["both"]),
        node("Cast", ["both"], ["out"], to=TensorProto.FLOAT),
    )
    assert kinds(rewritten(share_shapes, model, tmp_path)) == kinds(model)


@pytest.mark.parametrize("rewrite", [drop_masks, share_shapes])
def test_outputs_are_those_of_before(
    rewrite: Callable[[ModelProto, Path], None], tmp_path: Path
) -> None:
    model = graph(*VALUES, node("Identity", ["values"], ["out"]))
    outputs = [value.name for value in model.graph.output]
    rewrite(model, tmp_path / "scratch.onnx")
    assert [value.name for value in model.graph.output] == outputs
