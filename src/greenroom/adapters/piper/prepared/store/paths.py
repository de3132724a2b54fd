"""The folders and file names of the store.

::

    voices/KEY.json         index of a voice; KEY is of its source's content and the runtime
    weights/DIGEST.weights  its arrays, each aligned; named by content
    graphs/ID/              the blobs of a graph; named by content, shared by voices
    sources/PATH.json       which content the source at that path has
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from greenroom.adapters.piper.prepared.store.identity import name_of
from greenroom.adapters.piper.prepared.store.index import Index, Tensor

_LAYOUT = "3"
"""Part of every key; goes up when what is in the files changes its meaning."""

SOURCES = "sources"
"""The folder of what is known of sources."""


def default_root() -> Path:
    """Return where prepared voices are kept: `$GREENROOM_CACHE_DIR` or the user's cache."""
    chosen = os.environ.get("GREENROOM_CACHE_DIR")
    if chosen:
        return Path(chosen) / "prepared"
    return _in_users_cache(os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME"))


@cache
def _in_users_cache(*_: str | None) -> Path:
    """Return the place there, found once for each setting of the environment: lists ask often."""
    return platformdirs.user_cache_path("greenroom") / "prepared"


@dataclass(frozen=True, slots=True)
class PreparedFiles:
    """The files of a prepared voice, never written again under these names.

    Another process may prune them at any time, so opening them may raise `FileNotFoundError`;
    once mapped, they stay.
    """

    graph_id: str
    graph: Path
    """The folder of the graph's blobs."""
    weights: Path
    tensors: tuple[Tensor, ...]
    """In the order in which they were put; all inside the weights file."""
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a store for one runtime."""

    root: Path
    runtime: str

    @property
    def voices(self) -> Path:
        """The folder of indexes."""
        return self.root / "voices"

    @property
    def weights(self) -> Path:
        """The folder of weights files."""
        return self.root / "weights"

    @property
    def graphs(self) -> Path:
        """The folder of graphs' folders."""
        return self.root / "graphs"

    @property
    def sources(self) -> Path:
        """The folder of what is known of sources."""
        return self.root / SOURCES

    @property
    def folders(self) -> tuple[Path, ...]:
        """All of them."""
        return self.voices, self.weights, self.graphs, self.sources

    def index_of(self, content: str) -> Path:
        """Where the index of the voice with this content is, if there is one."""
        return self.voices / f"{name_of(_LAYOUT, self.runtime, content)}.json"

    def weights_of(self, index: Index) -> Path:
        """Where the weights file of a voice is."""
        return self.weights / f"{index.weights}.weights"

    def graph_of(self, index: Index) -> Path:
        """Where the blobs of a voice's graph are."""
        return self.graphs / index.graph

    def files_of(self, index: Index) -> PreparedFiles:
        """All files of a voice."""
        return PreparedFiles(
            index.graph,
            self.graph_of(index),
            self.weights_of(index),
            index.tensors,
            index.facts,
        )
