"""A normalisation over channels in one node makes what its steps made."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from greenroom.adapters.piper.prepared.build.layer_norm import with_layer_norms

CHANNELS = 12


def normalised(
    *, axis: int = 1, power: float = 2.0, learned: tuple[int, ...] = (1, CHANNELS, 1), tap: str = ""
) -> ModelProto:
    random = np.random.default_rng(2)
    constants = {
        "power": np.float32(power),
        "more": np.float32(1e-5),
        "scale": random.standard_normal(learned).astype(np.float32),
        "bias": random.standard_normal(learned).astype(np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[axis]),
        helper.make_node("Sub", ["x", "mean"], ["distance"]),
        helper.make_node("Pow", ["distance", "power"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["variance"], axes=[axis]),
        helper.make_node("Add", ["variance", "more"], ["positive"]),
        helper.make_node("Sqrt", ["positive"], ["deviation"]),
        helper.make_node("Div", ["distance", "deviation"], ["even"]),
        helper.make_node("Mul", ["even", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["out"]),
    ]
    if tap:
        nodes.append(helper.make_node("Neg", [tap], ["tapped"]))
    outputs = ["out", *(["tapped"] if tap else [])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, None])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.array(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def ran(model: ModelProto) -> list[np.ndarray]:
    x = 3 * np.random.default_rng(1).standard_normal((1, CHANNELS, 12)).astype(np.float32) + 2
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return list(
        onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    )


def test_the_steps_are_one_node_that_makes_the_same() -> None:
    model = normalised()
    made = with_layer_norms(model)
    kinds = [node.op_type for node in made.graph.node]
    assert kinds == ["Transpose", "LayerNormalization", "Transpose", "Relu"]
    assert np.allclose(ran(made)[0], ran(model)[0], atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        normalised(axis=2),
        normalised(power=3.0),
        normalised(learned=(1, 1, 12)),
        *(normalised(tap=tap) for tap in ("mean", "distance", "square", "deviation", "scaled")),
    ],
)
def test_other_steps_stay_as_they_are(model: ModelProto) -> None:
    assert with_layer_norms(model) == model
