"""Voices are cut where a window gives what the whole gives, and used whole where none does."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from greenroom.adapters.piper.prepared.build import partition, pipeline
from greenroom.adapters.piper.prepared.build.pipeline import CannotPrepareError, prepare
from greenroom.adapters.piper.prepared.build.receptive_field import (
    ReceptiveField,
    receptive_field_of,
)
from greenroom.adapters.piper.prepared.build.weights import externalised
from greenroom.adapters.piper.prepared.manifest import FILE_NAME, Manifest
from greenroom.adapters.piper.prepared.store.store import Store
from greenroom.adapters.piper.prepared.windows import FIRST, LARGEST, windows
from tests.piper import synthetic_voice

SHAPES: dict[str, dict[str, Any]] = {
    "single": {},
    "speakers": {"speakers": 3},
    "telling durations": {"durations": True},
    "as exporters write it": {"raw": True},
}


def prepared(folder: Path, **says: Any) -> Manifest:
    files = prepare(synthetic_voice.write_voice(folder, **says), Store(folder / "store", "runtime"))
    return Manifest.model_validate_json((files.graph / FILE_NAME).read_bytes())


@pytest.mark.parametrize("shape", SHAPES)
def test_text_flow_and_decoder_are_found_by_structure(tmp_path: Path, shape: str) -> None:
    text, flow, *decoders = prepared(tmp_path, **SHAPES[shape]).stages
    assert [text.name, flow.name, decoders[0].name] == ["text", "flow", "decoder"]
    assert [stage.name for stage in decoders[1:]] in ([], ["waveform"])
    assert flow.rate == 1
    assert math.prod(stage.rate for stage in decoders) == synthetic_voice.HOP
    assert len(flow.timed) == 2
    assert set(flow.timed) <= set(text.leave)
    for before, after in pairwise((flow, *decoders)):
        assert after.timed == before.leave
        assert len(after.timed) == 1


def test_a_speaker_enters_flow_and_decoder_and_is_no_frame(tmp_path: Path) -> None:
    text, flow, decoder, *_ = prepared(tmp_path, speakers=2).stages
    assert "sid" in text.enter
    # For each of its two layers, and how much noise there is.
    assert len(set(flow.enter) - set(flow.timed)) == 3
    assert len(set(decoder.enter) - set(decoder.timed)) == 1


def test_names_in_the_file_do_not_matter(tmp_path: Path) -> None:
    model = synthetic_voice.graph_of(synthetic_voice.Kind())
    outer = {"input", "input_lengths", "scales", "output"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"x/{name}" if name and name not in outer else name for name in names]
    for tensor in model.graph.initializer:
        tensor.name = f"x/{tensor.name}"
    renamed = tmp_path / "renamed.onnx"
    onnx.save(model, renamed)
    store = Store(tmp_path / "store", "runtime")
    plain = prepare(synthetic_voice.write_voice(tmp_path, seed=1), store)
    assert prepare(renamed, store).graph_id == plain.graph_id


@pytest.mark.parametrize("says", [{"normalised": True}, {"speakers": 2, "normalised": True}])
def test_a_graph_that_cannot_be_cut_is_one_stage(tmp_path: Path, says: dict[str, Any]) -> None:
    (only,) = prepared(tmp_path, **says).stages
    assert only.name == "whole"
    assert not only.timed


def test_stages_that_turn_out_wrong_or_do_not_run_are_given_up_for_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_cut = partition.cut

    def too_short(model: onnx.ModelProto) -> tuple[partition.Stage, ...]:
        *others, last = true_cut(model)
        return *others, replace(
            last, receptive_field=ReceptiveField(last.receptive_field.rate, 0, 0)
        )

    def not_running(model: onnx.ModelProto) -> tuple[partition.Stage, ...]:
        *others, last = true_cut(model)
        return *others, replace(last, nodes=last.nodes[1:])

    for number, wrong in enumerate((too_short, not_running)):
        monkeypatch.setattr(partition, "cut", wrong)
        folder = tmp_path / str(number)
        folder.mkdir()
        assert [stage.name for stage in prepared(folder).stages] == ["whole"]


def test_a_graph_with_branches_is_left_to_the_engine(tmp_path: Path) -> None:
    with pytest.raises(CannotPrepareError, match="branches"):
        prepared(tmp_path, branches=True)


def test_a_file_that_is_no_graph_cannot_be_prepared(tmp_path: Path) -> None:
    model = synthetic_voice.write_voice(tmp_path)
    whole = model.read_bytes()
    for content in (whole[: len(whole) // 2], b"no graph" * 100, b""):
        model.write_bytes(content)
        with pytest.raises(CannotPrepareError):
            prepare(model, Store(tmp_path / "store", "runtime"))


def test_a_graph_with_other_inputs_is_left_to_the_engine(tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "g", [given], [made])
    opsets = [helper.make_opsetid("", 15)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "x.onnx")
    with pytest.raises(CannotPrepareError, match="its inputs are x"):
        prepare(tmp_path / "x.onnx", Store(tmp_path / "store", "runtime"))


def test_preparing_that_fails_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    with pytest.raises(CannotPrepareError):
        prepared(tmp_path, branches=True)
    assert not list((tmp_path / "store").rglob("*.weights"))


def test_preparing_as_a_command_says_in_one_line_why_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = synthetic_voice.write_voice(tmp_path, branches=True)
    assert pipeline.main([str(model)]) == 1
    assert capsys.readouterr().err == "its graph has branches\n"


def test_only_what_sounds_is_taken_out_of_a_graph() -> None:
    model = synthetic_voice.graph_of(synthetic_voice.Kind())
    names = {value.name: value.name for value in (*model.graph.input, *model.graph.output)}
    bare, weights = externalised(model, names, "w.")
    assert all(array.dtype == np.float32 and array.ndim for array in weights.values())
    for tensor in bare.graph.initializer:
        assert tensor.data_type == TensorProto.INT64 or not tensor.dims
    assert list(weights) == [f"w.{number}" for number in range(len(weights))]
    assert set(weights) <= {value.name for value in bare.graph.input}


LAYERS = st.lists(
    st.one_of(
        st.tuples(st.just("Conv"), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3)),
        st.tuples(st.just("ConvTranspose"), st.integers(1, 4), st.integers(0, 3), st.just(0)),
    ),
    min_size=1,
    max_size=4,
)


@given(layers=LAYERS)
def test_reach_is_exact(layers: list[tuple[str, int, int, int]]) -> None:
    """Convolutions of nothing but ones show which frames a column is made of."""
    nodes, constants = _stack(layers)
    reach = receptive_field_of(nodes, ["x"], ["end"], constants)
    assert reach is not None
    run = _runner(nodes, list(constants.values()))
    middle, frames = 60, 121  # four layers reach 48 at most
    columns = []
    for frame in range(frames):
        pulse = np.zeros((1, 1, frames), np.float32)
        pulse[..., frame] = 1
        columns.append(run(pulse)[0, 0, middle * reach.rate : (middle + 1) * reach.rate] != 0)
    touching = [frame for frame, touched in enumerate(columns) if touched.any()]
    assert middle - touching[0] == reach.left
    assert touching[-1] - middle == reach.right


def _stack(
    layers: list[tuple[str, int, int, int]],
) -> tuple[list[onnx.NodeProto], dict[str, TensorProto]]:
    nodes, constants, x = [], {}, "x"
    for number, (kind, first, second, third) in enumerate(layers):
        if kind == "Conv":
            kernel, dilation = 2 * first - 1, second
            spread = (kernel - 1) * dilation
            left = max(spread // 2 - third, 0)
            says: dict[str, Any] = {"dilations": [dilation], "pads": [left, spread - left]}
        else:
            stride, more = first, second
            kernel = stride + 2 * more
            says = {"strides": [stride], "pads": [more, more]}
        name = f"w{number}"
        constants[name] = numpy_helper.from_array(np.ones((1, 1, kernel), np.float32), name)
        end = "end" if number == len(layers) - 1 else f"x{number}"
        nodes.append(helper.make_node(kind, [x, name], [end], **says))
        x = end
    return nodes, constants


def _runner(nodes: list[onnx.NodeProto], constants: list[TensorProto]) -> Any:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, None])
    made = helper.make_tensor_value_info("end", TensorProto.FLOAT, [1, 1, None])
    graph = helper.make_graph(nodes, "g", [given], [made], constants)
    opsets = [helper.make_opsetid("", 15)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = _session(model)
    return lambda array: session.run(None, {"x": array})[0]


@pytest.mark.parametrize("speakers", [1, 2])
def test_a_window_with_reach_is_the_whole_and_one_frame_less_is_not(speakers: int) -> None:
    model = onnx.shape_inference.infer_shapes(
        synthetic_voice.graph_of(synthetic_voice.Kind(speakers=speakers))
    )
    _, *stages = partition.cut(model)
    assert len(stages) > 1
    edges = _edges(model, [name for stage in stages for name in stage.enter])
    for stage in stages:
        left, right = stage.receptive_field.left, stage.receptive_field.right
        assert _difference(model, stage, edges, left, right) < 1e-6
        assert _difference(model, stage, edges, left - 1, right) > 1e-6
        assert _difference(model, stage, edges, left, right - 1) > 1e-6


def _difference(
    model: onnx.ModelProto, stage: partition.Stage, edges: dict[str, Any], before: int, after: int
) -> float:
    """Return by how much a window that reaches so far differs from the whole."""
    session, rate = _session(partition.extracted(model, stage)), stage.receptive_field.rate
    given = {name: edges[name] for name in stage.enter}
    part = {name: edges[name][..., 60 - before : 90 + after] for name in stage.timed}
    (whole,) = session.run(stage.leave, given)
    (made,) = session.run(stage.leave, {**given, **part})
    middle = made[..., before * rate : (before + 30) * rate]
    return float(np.abs(middle - whole[..., 60 * rate : 90 * rate]).max())


def _edges(model: onnx.ModelProto, names: list[str]) -> dict[str, Any]:
    """Return what is in these tensors while a sentence is spoken."""
    telling = onnx.ModelProto()
    telling.CopyFrom(model)
    known = {value.name: value for value in model.graph.value_info}
    names = list(dict.fromkeys(names))
    telling.graph.output.extend(known[name] for name in names)
    session = _session(telling)
    wanted = {value.name for value in session.get_inputs()}
    feeds = {n: array for n, array in synthetic_voice.sentence(80).items() if n in wanted}
    return dict(zip(names, session.run(names, feeds), strict=True))


def _session(model: onnx.ModelProto) -> Any:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize(
    ("op_type", "says"),
    [
        ("Conv", {"strides": [2]}),
        ("Conv", {"auto_pad": "SAME_UPPER"}),
        ("Conv", {"pads": [1, 0]}),
        ("ConvTranspose", {"strides": [2]}),
        ("ConvTranspose", {"strides": [3], "output_shape": [9]}),
    ],
)
def test_a_convolution_that_changes_the_number_of_frames_otherwise_is_not_local(
    op_type: str, says: dict[str, Any]
) -> None:
    weight = numpy_helper.from_array(np.ones((1, 1, 3), np.float32), "w")
    node = helper.make_node(op_type, ["x", "w"], ["y"], **says)
    assert receptive_field_of([node], ["x"], ["y"], {"w": weight}) is None


@given(st.integers(0, 5_000), st.integers(0, 40), st.integers(0, 40))
def test_pieces_partition_the_frames_and_reach_over_their_neighbours(
    frames: int, left: int, right: int
) -> None:
    pieces = list(windows(frames, left, right))
    assert [f for piece in pieces for f in range(piece.start, piece.end)] == list(range(frames))
    for piece in pieces:
        assert piece.first == max(0, piece.start - left)
        assert piece.last == min(frames, piece.end + right)


@given(st.integers(1, 5_000))
def test_the_first_piece_is_small_and_later_ones_grow_to_a_limit(frames: int) -> None:
    sizes = [piece.end - piece.start for piece in windows(frames, 9, 9)]
    assert sizes[0] < 2 * FIRST
    assert all(size < LARGEST + FIRST for size in sizes)
    assert all(before <= after for before, after in pairwise(sizes[:-1]))
    assert min(sizes) >= min(frames, FIRST)
