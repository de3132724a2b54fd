"""Voices that differ: the real one, altered a little, each in a file of its own.

They are written beside the run's cache, once for all benchmarks of the run.
"""

from __future__ import annotations

import math
import mmap
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.voices import piper_voices
from greenroom import ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.piper.piper_preparation import PiperPreparation
from greenroom.adapters.piper.prepared.store.store import default_store
from greenroom.concurrency.cores import cores

_CHANGE = 1e-3
"""By how much of itself a weight is changed, as a standard deviation: the voice still speaks."""


def folder() -> Path:
    """Return where the files of this run are: in its cache, which is dropped at the end."""
    place = Path(os.environ["GREENROOM_CACHE_DIR"]) / "voices"
    place.mkdir(parents=True, exist_ok=True)
    return place


def own_files(count: int) -> list[Path]:
    """Return `count` voice files `voice-0.onnx`, …, each with weights of its own, none prepared."""
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(_altered, range(count)))


def prepared_files(count: int) -> list[Path]:
    """Return the first `count` voice files, prepared the way a user's are."""
    paths = own_files(count)
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(_prepare, paths))
    return paths


def prepare_real_voice() -> None:
    """Prepare it, so that nothing does so while something is measured."""
    _prepare(_real_voice())


def prepared_crowd(count: int) -> list[Path]:
    """Return `count` prepared voices, each with 62 MB of weights of its own.

    Their weights are put into the store directly, the real voice's times a factor near 1. Their
    source files are stubs: nobody reads the source of a prepared voice.
    """
    first = _real_voice()
    _prepare(first)
    store = default_store()
    files = store.find(first)
    assert files is not None
    graph = {blob.name: blob.read_bytes() for blob in files.graph.iterdir()}
    place = folder() / "crowd"
    place.mkdir(exist_ok=True)
    paths = [place / f"crowd-{number}.onnx" for number in range(count)]
    for number, path in enumerate(paths):
        if path.exists() and store.find(path) is not None:
            continue
        path.write_bytes(b"voice %d" % number)
        _settings(path).unlink(missing_ok=True)
        _settings(path).symlink_to(_settings(first))
        factor = np.float32(1 + (number + 1) * 1e-5)
        weights = ((name, array * factor) for name, array in weights_of(first))
        store.put(path, store.snapshot(path), graph, weights, files.facts)
    return paths


def weights_of(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the weights of a prepared voice, over its mapped file."""
    files = default_store().find(path)
    assert files is not None
    with files.weights.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for tensor in files.tensors:
        yield tensor.name, np.ndarray(tensor.shape, np.float32, whole, tensor.offset)


def models(paths: list[Path]) -> list[ModelSpec]:
    """Return a model for each voice file, named like it."""
    return [ModelSpec(path.stem, PiperTTSAdapter, path) for path in paths]


def _prepare(path: Path) -> None:
    if default_store().find(path) is None:
        subprocess.run(PiperPreparation().command(ModelSpec("", "piper", path)), check=True)


def _real_voice() -> Path:
    (voice,) = piper_voices(1)
    return Path(voice.path or "")


def _altered(number: int) -> Path:
    import onnx
    from onnx import TensorProto, numpy_helper

    path = folder() / f"voice-{number}.onnx"
    if path.exists():
        return path
    source = _real_voice()
    _settings(path).write_bytes(_settings(source).read_bytes())
    model = onnx.load(source)
    noise = np.random.default_rng(number).standard_normal(1 << 16).astype(np.float32)
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims)
        if tensor.data_type == TensorProto.FLOAT and size > 1:
            array = numpy_helper.to_array(tensor)
            changed = array * (1 + _CHANGE * np.resize(noise, size).reshape(array.shape))
            tensor.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), tensor.name))
    draft = path.with_suffix(".draft")
    onnx.save(model, draft)
    draft.replace(path)
    return path


def _settings(path: Path) -> Path:
    return path.with_name(path.name + ".json")
