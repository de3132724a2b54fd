"""Verify that the files of a voice are what its index says: nothing from the disk is believed."""

from __future__ import annotations

import os
from pathlib import Path

from greenroom.adapters.piper.prepared.store.identity import FileStat, digest_of, graph_id_of
from greenroom.adapters.piper.prepared.store.index import CorruptFileError, Index
from greenroom.adapters.piper.prepared.store.paths import Layout

_verified: dict[Path, FileStat | dict[str, FileStat]] = {}
"""What weights and graphs looked like when this process found their content to be right."""


def check_voice(layout: Layout, path: Path, index: Index) -> FileStat:
    """Return the stat of the weights file that is known to be right.

    Reads the weights only if they look different from before, the graph once a process. Raises
    `CorruptFileError` or `OSError` unless all files of the voice are what they should be.
    """
    if path != layout.index_of(index.content) or index.runtime != layout.runtime:
        raise CorruptFileError(path, "is the index of another voice")
    check_graph(layout, index)
    weights = layout.weights_of(index)
    stat = FileStat.of(weights)
    if stat.size != index.weights_size:
        raise CorruptFileError(weights, f"has {stat.size} bytes instead of {index.weights_size}")
    if stat != index.weights_stat and _verified.get(weights) != stat:
        if digest_of(weights) != index.weights:
            raise CorruptFileError(weights, "was altered")
        _verified[weights] = stat
    return stat


def check_graph(layout: Layout, index: Index) -> None:
    """Raise `CorruptFileError` or `OSError` unless the graph's folder holds exactly its blobs."""
    folder = layout.graph_of(index)
    with os.scandir(folder) as found:
        files = {file.name: FileStat.read(file.stat()) for file in found}
    if _verified.get(folder) == files:
        return
    size = sum(stat.size for stat in files.values())
    if size != index.graph_size:
        raise CorruptFileError(folder, f"has {size} bytes instead of {index.graph_size}")
    if graph_id_of({name: (folder / name).read_bytes() for name in files}) != index.graph:
        raise CorruptFileError(folder, "was altered")
    _verified[folder] = files
