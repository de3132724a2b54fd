"""Synthetic Piper voices: small graphs of the same structure, with seeded weights.

Text: embedding, attention over the sentence, durations, expansion to frames, noise. Flow: flips,
splits, gated convolutions, a mask. Decoder: upsampling with dilated residual convolutions.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 8
SYMBOLS = 40
HOP = 16
"""Samples of a frame; Piper has 256."""

LETTERS = string.ascii_lowercase + " .,!?'-"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What there is to choose; two kinds that are equal but for `seed` have one structure."""

    seed: int = 0
    speakers: int = 1
    rate: int = 22_050
    dilation: int = 3
    """An attribute that is as good as another to the shape of all tensors."""
    keep: int = CHANNELS
    """An integer constant in the graph that changes nothing of its shape: channels sliced."""
    normalised: bool = False
    """Samples are divided by the sentence's loudest one: no piece can know it."""
    durations: bool = False
    """A second output."""
    branches: bool = False
    raw: bool = False
    """Constants are nodes, and weights come by way of others, as plain exporters write them."""


class _GraphWriter:
    """Collects nodes; each call returns the name of the first output."""

    def __init__(self, kind: Kind) -> None:
        self.random = np.random.default_rng(kind.seed)
        self.raw = kind.raw
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.count = 0

    def op(self, op_type: str, *inputs: str, outputs: Sequence[str] = (), **says: Any) -> str:
        names = list(outputs) or [self.name("t")]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, **says))
        return names[0]

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        tensor = numpy_helper.from_array(np.array(value, dtype), self.name("constant"))
        if self.raw:
            return self.op("Constant", value=tensor)
        self.weights.append(tensor)
        return str(tensor.name)

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        fan = int(np.prod(shape[1:])) or 1
        array = self.random.normal(0.0, scale / np.sqrt(fan), shape).astype(np.float32)
        tensor = numpy_helper.from_array(array, self.name("weight"))
        self.weights.append(tensor)
        if not self.raw:
            return str(tensor.name)
        return self.op("Mul", self.op("Identity", tensor.name), self.constant(1.1, np.float32))

    def conv(
        self, x: str, out: int, into: int, size: int = 1, dilation: int = 1, scale: float = 1.0
    ) -> str:
        pad = (size - 1) * dilation // 2
        return self.op(
            "Conv",
            x,
            self.weight(out, into, size, scale=scale),
            self.weight(out, scale=0.1),
            kernel_shape=[size],
            dilations=[dilation],
            pads=[pad, pad],
        )

    def upsampled(self, x: str, channels: int) -> str:
        weight = self.weight(channels, channels, 8, scale=2.0)
        return self.op("ConvTranspose", x, weight, kernel_shape=[8], strides=[4], pads=[2, 2])

    def channels(self, x: str, first: int, last: int, step: int = 1) -> str:
        at = [self.constant([number]) for number in (first, last, 1, step)]
        return self.op("Slice", x, *at)


def graph_of(kind: Kind) -> onnx.ModelProto:
    """Return the graph of a voice."""
    w = _GraphWriter(kind)
    speaker = _speaker(w, kind)
    frames, mask = _text(w, kind)
    if kind.branches:
        frames = _branch(w, frames)
    decoded = _flow(w, kind, frames, mask, speaker)
    samples = _decoder(w, kind, w.op("Mul", decoded, mask), speaker)
    w.op("Unsqueeze", samples, w.constant([1]), outputs=["output"])
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "phonemes"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    if kind.speakers > 1:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, ["batch"]))
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 1, "time"])]
    if kind.durations:
        outputs.append(helper.make_tensor_value_info("durations", TensorProto.FLOAT, [1, "n"]))
    graph = helper.make_graph(w.nodes, "voice", inputs, outputs, w.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _speaker(w: _GraphWriter, kind: Kind) -> str:
    if kind.speakers == 1:
        return ""
    row = w.op("Gather", w.weight(kind.speakers, CHANNELS, scale=3.0), "sid")
    return w.op("Unsqueeze", row, w.constant([-1]))


def _text(w: _GraphWriter, kind: Kind) -> tuple[str, str]:
    """Return the frames, (1, channels, frames), and their mask, (1, 1, frames)."""
    zero, one, two = (w.constant(number) for number in (0, 1, 2))
    noise, length, noise_w = (w.op("Gather", "scales", number) for number in (zero, one, two))
    length_in = w.op("Gather", w.op("Shape", "input"), one)
    spoken = w.op("Less", w.op("Range", zero, length_in, one), "input_lengths")
    spoken = w.op("Unsqueeze", w.op("Cast", spoken, to=TensorProto.FLOAT), w.constant([1]))
    x = w.op("Gather", w.weight(SYMBOLS, CHANNELS, scale=4.0), "input")
    x = w.op("Mul", x, spoken)
    alike = w.op("MatMul", x, w.op("Transpose", x, perm=[0, 2, 1]))
    x = w.op("Add", x, w.op("MatMul", w.op("Softmax", alike, axis=-1), x))

    # From a table, as sums differ in their last bit: rounding up must not be a close call.
    wide = w.op("Gather", w.weight(SYMBOLS, 1, scale=1.5), "input")
    wide = w.op("Squeeze", wide, w.constant([2]))
    wide = w.op("Add", wide, w.op("Mul", w.op("RandomNormalLike", wide), noise_w))
    wide = w.op("Mul", w.op("Sigmoid", wide), w.constant(5.5, np.float32))
    wide = w.op("Add", wide, w.constant(0.25, np.float32))
    wide = w.op("Ceil", w.op("Mul", wide, length), outputs=["durations"] if kind.durations else ())
    until = w.op("CumSum", wide, one)
    last = w.op("ReduceMax", until, keepdims=0)
    last = w.op("Cast", w.op("Clip", last, w.constant(1.0, np.float32)), to=TensorProto.INT64)
    times = w.op("Cast", w.op("Range", zero, last, one), to=TensorProto.FLOAT)
    passed = w.op("LessOrEqual", w.op("Unsqueeze", until, w.constant([2])), times)
    at = w.op("Cast", passed, to=TensorProto.FLOAT)
    at = w.op("ReduceSum", at, w.constant([0, 1]), keepdims=0)
    at = w.op("Cast", at, to=TensorProto.INT64)
    frames = w.op("Gather", w.op("Transpose", x, perm=[0, 2, 1]), at, axis=2)
    stray = w.op("Mul", w.op("RandomNormalLike", frames), noise)
    mask = w.op("Less", times, w.op("Cast", last, to=TensorProto.FLOAT))
    mask = w.op("Cast", w.op("Unsqueeze", mask, w.constant([0, 1])), to=TensorProto.FLOAT)
    return w.op("Add", frames, stray), mask


def _branch(w: _GraphWriter, x: str) -> str:
    """Choose at run time between two graphs."""
    grown = helper.make_node("Add", [x, x], ["grown"])
    value = helper.make_tensor_value_info("grown", TensorProto.FLOAT, None)
    same = helper.make_tensor_value_info("same", TensorProto.FLOAT, None)
    keep = helper.make_node("Identity", [x], ["same"])
    long = w.op("Greater", w.op("Gather", w.op("Shape", x), w.constant(2)), w.constant(100))
    return w.op(
        "If",
        long,
        then_branch=helper.make_graph([grown], "then", [], [value]),
        else_branch=helper.make_graph([keep], "else", [], [same]),
    )


def _flow(w: _GraphWriter, kind: Kind, x: str, mask: str, speaker: str) -> str:
    half = CHANNELS // 2
    for layer in range(2):
        if layer:
            x = w.op("Gather", x, w.constant(range(CHANNELS)[::-1]), axis=1)
        else:
            x = w.channels(x, -1, -(2**62), -1)
        first, second = w.name("first"), w.name("second")
        w.op("Split", x, w.constant([half, half]), outputs=[first, second], axis=1)
        h = w.op("Mul", w.conv(first, CHANNELS, half), mask)
        gated = w.conv(h, 2 * CHANNELS, CHANNELS, 5, scale=2.0)
        if speaker:
            gated = w.op("Add", gated, w.conv(speaker, 2 * CHANNELS, CHANNELS))
        loud = w.op("Tanh", w.channels(gated, 0, CHANNELS))
        open_ = w.op("Sigmoid", w.channels(gated, kind.keep, CHANNELS + kind.keep))
        h = w.op("Mul", w.op("Add", h, w.op("Mul", loud, open_)), mask)
        h = w.op("Mul", w.conv(h, half, CHANNELS), mask)
        second = w.op("Mul", w.op("Sub", second, h), mask)
        x = w.op("Concat", first, second, axis=1)
    return x


def _decoder(w: _GraphWriter, kind: Kind, x: str, speaker: str) -> str:
    x = w.conv(x, CHANNELS, CHANNELS, 7)
    if speaker:
        x = w.op("Add", x, w.conv(speaker, CHANNELS, CHANNELS))
    for _ in range(2):
        x = w.upsampled(w.op("LeakyRelu", x, alpha=0.1), CHANNELS)
        parts = []
        for size in (3, 5):
            part = x
            for dilation in (1, kind.dilation):
                near = w.op("LeakyRelu", part, alpha=0.1)
                part = w.op("Add", part, w.conv(near, CHANNELS, CHANNELS, size, dilation))
            parts.append(part)
        x = w.op("Div", w.op("Add", *parts), w.constant(2.0, np.float32))
    x = w.op("Tanh", w.conv(w.op("LeakyRelu", x), 1, CHANNELS, 7, scale=0.06))
    if kind.normalised:
        x = w.op("Div", x, w.op("ReduceMax", w.op("Abs", x), keepdims=1))
    return x


def settings_of(kind: Kind) -> dict[str, Any]:
    """Return the JSON beside the graph; text is spoken letter by letter."""
    return {
        "audio": {"sample_rate": kind.rate},
        "espeak": {"voice": "en-us"},
        "phoneme_type": "text",
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "phoneme_id_map": {
            "_": [0],
            "^": [1],
            "$": [2],
            **{letter: [number] for number, letter in enumerate(LETTERS, 3)},
        },
        "num_symbols": SYMBOLS,
        "num_speakers": kind.speakers,
        "speaker_id_map": {f"speaker{n}": n for n in range(kind.speakers)},
    }


def write_voice(folder: Path, name: str = "voice", **says: Any) -> Path:
    """Write the `.onnx` file of a `Kind(**says)` and its JSON; return the first."""
    kind = Kind(**says)
    model = folder / f"{name}.onnx"
    onnx.save(graph_of(kind), model)
    Path(f"{model}.json").write_text(json.dumps(settings_of(kind)))
    return model


def sentence(length: int, *, speaker: int = 0, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Return what a graph is fed with, without noise; leave `sid` out for a single speaker."""
    ids = np.random.default_rng((seed, length)).integers(0, SYMBOLS, (1, length))
    return {
        "input": ids,
        "input_lengths": np.array([length], np.int64),
        "scales": np.array([0.0, 1.0, 0.0], np.float32),
        "sid": np.array([speaker], np.int64),
    }


def spoken_by_itself(model: Path, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Return what a plain session of the file makes of a sentence."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    samples = session.run(None, {n: array for n, array in feeds.items() if n in wanted})[0]
    return np.asarray(samples, np.float32).ravel()
