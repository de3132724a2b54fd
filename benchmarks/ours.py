"""Greenroom with prepared voices, in the process that calls: adapters, and a manager that stays."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks import talkers
from benchmarks.playback import Piece
from benchmarks.rounds import Stopwatch
from benchmarks.voice_files import models, weights_of
from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.piper.prepared.run.shared_graphs import GRAPHS, Graph
from greenroom.adapters.piper.prepared.store.store import default_store
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.concurrency.cores import cores
from greenroom.errors import ModelManagerError

_runner = asyncio.Runner()
_managers: list[ModelManager] = []


def begin(paths: list[Path]) -> None:
    """Start a manager of these voices that never runs out of room."""
    os.environ.pop("GREENROOM_PREPARE", None)
    tone = ModelSpec("tone", ToneTTSAdapter)
    manager = ModelManager(
        catalog=Catalog([tone, *models(paths)]),
        default_model_id="tone",
        resident_cap=len(paths) + 1,
    )
    _runner.run(manager.initialize())
    _managers.append(manager)


def end() -> None:
    """Shut the manager down."""
    _runner.run(_managers.pop().shutdown(drain_timeout_ms=0))


def keep(path: Path) -> None:
    """Load a voice that stays."""
    _runner.run(_managers[-1].load(path.stem))
    assert len(GRAPHS) == 1, f"{path.name} is not prepared, or its graph is not shared"


def drop(path: Path) -> None:
    """Unload a voice that was kept."""

    async def leave() -> None:
        manager = _managers[-1]
        await manager.release(path.stem)
        await manager.unload(path.stem, drain=True)

    _runner.run(leave())


def load_adapter(path: Path) -> float:
    """Return the seconds that the adapter alone takes to load the voice; unload it again."""
    (spec,) = models([path])
    gc.collect()
    watch = Stopwatch()
    adapter = PiperTTSAdapter(spec)
    adapter.load()
    took = watch.read()
    assert len(GRAPHS) == 1, f"{path.name} is not prepared, or its graph is not shared"
    adapter.unload()
    return took


def load(path: Path) -> float:
    """Return the seconds of `manager.load`, warmup included; unload the voice again."""
    gc.collect()
    watch = Stopwatch()
    keep(path)
    took = watch.read()
    drop(path)
    return took


def load_and_say(path: Path, text: str) -> float:
    """Return the seconds from asking for a voice to its first frame; unload it again."""
    gc.collect()
    watch = Stopwatch()
    keep(path)
    before = watch.read()
    first, _ = say(path, text)
    drop(path)
    return before + first


def say(path: Path, text: str, **options: int) -> tuple[float, float]:
    """Speak with a voice that was kept; return the seconds to the first frame and to the last."""
    return _runner.run(_hear(path.stem, text, options))


def say_often(model_id: str, text: str, times: int, at_once: int, **options: int) -> float:
    """Speak so many times, by so many callers at once; return how often a second."""
    left = iter(range(times))

    async def call() -> None:
        for _ in left:
            await _hear(model_id, text, options)

    async def all_call() -> float:
        watch = Stopwatch()
        await asyncio.gather(*(call() for _ in range(at_once)))
        return times / watch.read()

    return _runner.run(all_call())


async def _hear(model_id: str, text: str, options: dict[str, int]) -> tuple[float, float]:
    watch = Stopwatch()
    first = 0.0
    async with _managers[-1].lease(model_id) as lease:
        async for _ in lease.synthesize_stream(text, **options):
            first = first or watch.read()
    return first, watch.read()


def talk(
    text: str,
    voices: Sequence[str],
    callers: int,
    seconds: float,
    *,
    at_once: bool = False,
    pause_s: float | None = None,
) -> talkers.Run:
    """Have callers of kept voices play and ask again; the processor's time is theirs too."""
    return _runner.run(
        talkers.talk(
            _say,
            text,
            voices,
            callers,
            seconds,
            pid=os.getpid(),
            at_once=at_once,
            pause_s=pause_s,
        )
    )


def work(text: str, voices: Sequence[str], callers: int, speeches: int) -> talkers.Run:
    """Have callers of kept voices ask without a pause; the processor's time is theirs too."""
    return _runner.run(talkers.work(_say, text, voices, callers, speeches, pid=os.getpid()))


async def _say(text: str, model_id: str) -> list[Piece]:
    watch = Stopwatch()
    try:
        async with _managers[-1].lease(model_id) as lease:
            stream = lease.synthesize_stream(text, sample_rate=talkers.RATE)
            return [
                Piece(watch.read(), frame.samples / frame.sample_rate) async for frame in stream
            ]
    except ModelManagerError as error:
        again = getattr(error, "retry_after", None)
        if again is None:
            raise ValueError(str(error)) from error
        raise talkers.RefusedError(type(error).__name__, again) from error


def floor_of_weights(path: Path) -> float:
    """Return the seconds to map the weights and to make an onnxruntime value of each."""
    from onnxruntime import OrtValue

    watch = Stopwatch()
    values = [OrtValue.ortvalue_from_numpy(array) for _, array in weights_of(path)]
    took = watch.read()
    assert values
    return took


def floor_of_graph(path: Path) -> float:
    """Return the seconds to read the graph's files and to build its sessions."""
    files = default_store().find(path)
    assert files is not None
    watch = Stopwatch()
    graph = Graph.read(files.graph_id, files.graph, cores())
    took = watch.read()
    assert graph.sessions
    return took


def sizes(path: Path) -> tuple[int, int, int]:
    """Return the bytes of the weights file, the weights in it, and the nodes of the graph."""
    import onnx

    files = default_store().find(path)
    assert files is not None
    nodes = sum(len(onnx.load(blob).graph.node) for blob in files.graph.glob("*.onnx"))
    return files.weights.stat().st_size, len(files.tensors), nodes
