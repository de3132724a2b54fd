"""Partition a speech graph into stages that can be run piece by piece.

A VITS voice (Kim et al. 2021, https://arxiv.org/abs/2106.06103) is text encoder and duration
predictor, then a flow, then a convolutional decoder. From a certain tensor on, every node is
*local*: a sample depends on a few frames to its left and right, so a window of frames gives the
samples in its middle exactly. The stages are found from the graph's structure alone:

- the *decoder* is the largest end of the graph made of convolutions and elementwise nodes that
  one tensor of frames enters, and it turns frames into samples;
- the decoder's end may be a stage of its own, the *waveform*: most of the work is done there, at
  many columns a frame, where convolutions reach less than a frame far;
- the *flow* is the largest stretch before it that also splits and joins channels, and that at
  most two tensors enter (the frames and their mask);
- the rest is the *text* stage.

Tensors that depend on neither text nor its length (speaker, scales) may enter any stage.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from greenroom.adapters.piper.prepared.build.receptive_field import (
    ReceptiveField,
    multiplications_of,
    receptive_field_of,
)
from greenroom.adapters.piper.prepared.windows import LARGEST

_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Pow", "Sqrt", "Exp", "Log", "Sin", "Cos")
_ACTIVATIONS = ("Tanh", "Sigmoid", "Softplus", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu")
_ELEMENTWISE = frozenset((*_ARITHMETIC, *_ACTIVATIONS, "Erf", "Clip", "Cast", "Identity"))
_CONVOLUTIONS = frozenset(("Conv", "ConvTranspose"))
_SHAPE = frozenset(("Unsqueeze", "Squeeze"))
_MOVING = frozenset(["Split", "Slice", "Concat", "Gather", "Shape", "ConstantOfShape"])
_MOST_FRAMES = 64
"""A stage that needs more frames than this on one side is not worth cutting."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the graph: its nodes, and the tensors that enter and leave it."""

    name: str
    nodes: tuple[NodeProto, ...]
    enter: tuple[str, ...]
    leave: tuple[str, ...]
    timed: tuple[str, ...] = ()
    """Those of `enter` that have a column for each frame; they are cut into windows."""
    receptive_field: ReceptiveField = field(default_factory=ReceptiveField)


def cut(model: ModelProto) -> tuple[Stage, ...]:
    """Return the stages in order, one stage if the graph cannot be cut."""
    graph = _Graph(model.graph)
    decoder = graph.tail("decoder", _ELEMENTWISE | _CONVOLUTIONS | _SHAPE, 1, graph.outputs)
    if decoder is None or decoder.receptive_field.rate < 2:
        return whole(model)
    stages = list(graph.halved(decoder))
    done = set(map(id, decoder.nodes))
    flow = graph.tail("flow", _ELEMENTWISE | _CONVOLUTIONS | _MOVING, 2, decoder.timed, done)
    if flow is not None and flow.receptive_field.rate == 1:
        stages.insert(0, flow)
        done |= set(map(id, flow.nodes))
    wanted = dict.fromkeys(name for stage in stages for name in stage.enter)
    made = {name for stage in stages for name in stage.leave}
    return (graph.rest("text", done, [name for name in wanted if name not in made]), *stages)


def whole(model: ModelProto) -> tuple[Stage, ...]:
    """Return the graph as one stage."""
    graph = _Graph(model.graph)
    return (graph.rest("whole", (), graph.outputs),)


def durations_of(stages: tuple[Stage, ...]) -> str:
    """Return the tensor that may be the number of frames of each text id; empty if none may.

    The durations are the one thing that a VITS voice rounds up. Whether they are the frames indeed
    is seen when the stages are run.
    """
    found = [node.output[0] for node in stages[0].nodes if node.op_type == "Ceil"]
    return found[0] if len(found) == 1 else ""


def leaving(stages: tuple[Stage, ...], name: str) -> tuple[Stage, ...]:
    """Return the stages, with a tensor that the first one makes leaving it as well."""
    first, *others = stages
    if name in first.leave:
        return stages
    return replace(first, leave=(*first.leave, name)), *others


class _Graph:
    """What the search needs to know of every tensor."""

    def __init__(self, graph: GraphProto) -> None:
        self.nodes = list(graph.node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [i for i in graph.input if i.name not in self.constants]
        self.outputs = (graph.output[0].name,)  # the samples; voices may also tell durations
        self.readers: dict[str, set[int]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, set()).add(id(node))
        self.runtime = self._after(i.name for i in self.inputs)
        self.timed = self._after(i.name for i in self.inputs if _is_text(i))

    def _after(self, names: Iterable[str]) -> set[str]:
        """Return `names` and every tensor that depends on one of them."""
        found = set(names)
        for node in self.nodes:
            if not found.isdisjoint(_reads(node)):
                found.update(node.output)
        return found

    def tail(
        self,
        name: str,
        allowed: frozenset[str],
        most: int,
        leave: Iterable[str],
        after: Iterable[int] = (),
    ) -> Stage | None:
        """Return the largest stage that ends in `leave`, which at most `most` timed tensors enter.

        Nodes in `after` come after it.
        """
        leave = tuple(leave)
        taken, sizes = self._taken(allowed, most, leave, after)

        def stage(size: int) -> Stage | None:
            return self._stage(name, taken[:size], leave)

        # What is not local in a small end is not local in a larger one.
        local = bisect_left(sizes, True, key=lambda size: stage(size) is None)
        return stage(sizes[local - 1]) if local else None

    def halved(self, decoder: Stage) -> tuple[Stage, ...]:
        """Return the decoder in two where that saves work on overlaps, else as it is."""
        allowed = _ELEMENTWISE | _CONVOLUTIONS | _SHAPE
        taken, sizes = self._taken(allowed, 1, decoder.leave, ())
        best: tuple[Stage, ...] = (decoder,)
        for size in sizes:
            late = self._stage("waveform", taken[:size], decoder.leave)
            ids = set(map(id, taken[:size]))
            before = [n for n in decoder.nodes if id(n) not in ids and id(n) in map(id, taken)]
            if late is None or not before:
                continue
            early = self._stage("decoder", before[::-1], late.timed)
            if early is not None and early.timed == decoder.timed:
                best = min(best, (early, late), key=self._work)
        return best

    def _work(self, stages: tuple[Stage, ...]) -> float:
        """Return what decoding a piece costs, with what it repeats of its neighbours' work."""
        work, frames = 0.0, float(LARGEST)
        for number in reversed(range(len(stages))):
            stage = stages[number]
            rate = math.prod(each.receptive_field.rate for each in stages[:number])
            frames += (stage.receptive_field.left + stage.receptive_field.right) / rate
            work += frames * rate * multiplications_of(stage.nodes, stage.timed, self.constants)
        return work

    def _taken(
        self, allowed: frozenset[str], most: int, leave: tuple[str, ...], after: Iterable[int]
    ) -> tuple[list[NodeProto], list[int]]:
        """Take in nodes from `leave` on backwards, as long as no node outside reads their output.

        Returns them, and after how many of them at most `most` timed tensors enter.
        """
        taken: list[NodeProto] = []
        inside, entering = set(after), set(leave)
        sizes = []  # of the ends of the graph that few enough tensors enter
        for node in reversed(self.nodes):
            if id(node) in inside or entering.isdisjoint(node.output):
                continue
            if node.op_type not in allowed or not self._only_for(node, inside, leave):
                continue
            taken.append(node)
            inside.add(id(node))
            entering.difference_update(node.output)
            entering.update(i for i in node.input if i in self.timed)
            if len(entering) <= most:
                sizes.append(len(taken))
        return taken, sizes

    def _only_for(self, node: NodeProto, inside: set[int], leave: tuple[str, ...]) -> bool:
        return all(
            o in leave or (self.readers.get(o, set()) <= inside and o not in self.outputs)
            for o in node.output
        )

    def _stage(self, name: str, backwards: list[NodeProto], leave: tuple[str, ...]) -> Stage | None:
        nodes = backwards[::-1]
        made = {o for node in nodes for o in node.output}
        read = dict.fromkeys(i for node in nodes for i in node.input if i not in made)
        timed = tuple(i for i in read if i in self.timed)
        around = receptive_field_of(nodes, timed, leave, self.constants)
        if around is None or max(around.left, around.right) > _MOST_FRAMES:
            return None
        enter = tuple(i for i in read if i in self.runtime)
        return Stage(name, self._with_constants(nodes), enter, leave, timed, around)

    def rest(self, name: str, done: Iterable[int], leave: Iterable[str]) -> Stage:
        """Return the stage of every node that is needed for `leave` and not done elsewhere."""
        done, leave = set(done), tuple(leave)
        wanted, nodes = set(leave), []
        for node in reversed(self.nodes):
            if id(node) not in done and not wanted.isdisjoint(node.output):
                nodes.append(node)
                wanted.update(_reads(node))
        enter = tuple(i.name for i in self.inputs if i.name in wanted)
        return Stage(name, tuple(reversed(nodes)), enter, leave)

    def _with_constants(self, nodes: list[NodeProto]) -> tuple[NodeProto, ...]:
        """Add the nodes that only work on constants for `nodes`."""
        chosen = set(map(id, nodes))
        wanted = {i for node in nodes for i in node.input if i not in self.runtime}
        for node in reversed(self.nodes):
            if id(node) not in chosen and not wanted.isdisjoint(node.output):
                chosen.add(id(node))
                wanted.update(node.input)
        return tuple(node for node in self.nodes if id(node) in chosen)


def _reads(node: NodeProto) -> set[str]:
    """Return what a node reads, also inside its branches."""
    inner = [a.g for a in node.attribute if a.HasField("g")]
    return {*node.input, *(i for graph in inner for n in graph.node for i in _reads(n))}


def _is_text(value: onnx.ValueInfoProto) -> bool:
    """Whether an input is the text or says how long it is: integers, at least one per sentence.

    A speaker's number is an integer too, but no length: see `SPEAKER`.
    """
    kind = value.type.tensor_type
    return kind.elem_type == onnx.TensorProto.INT64 and value.name != SPEAKER


SPEAKER = "sid"
"""Piper's name for the input with the speaker's number."""


def extracted(model: ModelProto, stage: Stage) -> ModelProto:
    """Return `stage` as a model of its own."""
    graph = model.graph
    read = {i for node in stage.nodes for i in _reads(node)}
    known = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}

    def declared(name: str) -> onnx.ValueInfoProto:
        if name in known:
            return known[name]
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

    part = onnx.helper.make_graph(
        stage.nodes,
        stage.name,
        [declared(name) for name in stage.enter],
        [declared(name) for name in stage.leave],
        [tensor for tensor in graph.initializer if tensor.name in read],
    )
    return onnx.helper.make_model(
        part, opset_imports=model.opset_import, ir_version=model.ir_version
    )
