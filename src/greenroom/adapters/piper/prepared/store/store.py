"""The store of prepared voices, in the user's cache directory.

Nothing that is read from it is believed unchecked, and nothing in it is written in place.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from greenroom.adapters.piper.prepared.fingerprint import runtime
from greenroom.adapters.piper.prepared.store.atomic_files import (
    discard,
    listed,
    locked,
    remove,
    sweep,
    temporary_name,
    write_folder,
)
from greenroom.adapters.piper.prepared.store.eviction import (
    Entry,
    evict_to_fit,
    remove_stale,
    remove_unused,
    stored_voices,
)
from greenroom.adapters.piper.prepared.store.identity import (
    FileStat,
    Sources,
    SourceSnapshot,
    StoreError,
    graph_id_of,
    resolved,
    shown,
)
from greenroom.adapters.piper.prepared.store.index import (
    CorruptFileError,
    Index,
    WeightsDraft,
    read_index,
    write_index,
)
from greenroom.adapters.piper.prepared.store.paths import Layout, PreparedFiles, default_root
from greenroom.adapters.piper.prepared.store.verify import check_graph, check_voice
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

LIMIT_BYTES = 4 * 1024**3
"""About 65 voices of medium quality."""

USE_IS_NOTED_AFTER_S = 3600.0
"""A use is noted at most so often: a load that writes nothing is quicker, and eviction needs no
finer order."""


def default_store() -> Store:
    """Return the store in the user's cache directory, for this engine and processor."""
    return _store_at(default_root())


@functools.cache
def _store_at(root: Path) -> Store:
    return Store(root, runtime())


class Store:
    """Prepared voices under `root`, of which at most `limit_bytes` are kept.

    `runtime` is all that a prepared voice depends on besides its source: voices of another
    runtime are not found, and are the first to leave when room is needed. Every call blocks, and
    may be made from any thread. The directory may vanish at any time; `put` makes it anew.
    """

    def __init__(self, root: Path, runtime: str, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._layout = Layout(root, runtime)
        self._limit_bytes = limit_bytes
        self._sources = Sources(self._layout.sources)

    def __repr__(self) -> str:
        return f"<Store {self._layout.root}>"

    def find(self, source: Path) -> PreparedFiles | None:
        """Return the prepared files of the voice in `source`, checked; `None` if there are none.

        Reads no large file if neither the source nor the weights look different from before.
        Never raises: files that are there and cannot be used are one warning.
        """
        path = None
        try:
            content = self._content_of(source)
            if content is None:
                return None
            path = self._layout.index_of(content)
            index = read_index(path)
            self._note_stat(path, index, check_voice(self._layout, path, index))
        except (OSError, ValueError, CorruptFileError) as error:
            absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
            if not (absent and _is_gone(source, path)):
                logger.warning("the prepared voice of %s is not used: %s", source, error)
            return None
        _note_use(path)
        return self._layout.files_of(index)

    def snapshot(self, source: Path) -> SourceSnapshot:
        """Look at a source before it is read for preparing. Raises `OSError`."""
        return SourceSnapshot(FileStat.of(source))

    def put(
        self,
        source: Path,
        seen: SourceSnapshot,
        graph: Mapping[str, bytes],
        weights: Iterable[tuple[str, npt.NDArray[np.float32]]],
        facts: Mapping[str, Any],
    ) -> PreparedFiles:
        """Keep a prepared voice, in place of an earlier one of the same source and runtime.

        Removes what dead writers left, and voices that exceed the limit. Raises
        `SourceChangedError` if the source is not as it was `seen`, `StoreError` if the directory
        cannot be written or the voice alone exceeds the limit, `ValueError` or `TypeError` if
        graph, weights or facts cannot be kept. A voice that is refused leaves nothing behind.
        """
        layout = self._layout
        if unfit := [name for name in graph if Path(name).name != name]:
            raise ValueError(f"{unfit[0]!r} is no file name for a part of a graph")
        with self._as_store_error(f"the prepared voice of {source} cannot be kept"):
            source = resolved(source)
            with locked(layout.root):
                for folder in layout.folders:
                    folder.mkdir(exist_ok=True)
                    sweep(folder)
                draft = WeightsDraft(layout.weights)
            with contextlib.closing(draft):
                tensors = draft.write(weights)
                index = Index(
                    runtime=layout.runtime,
                    content=self._sources.learn(source, seen.stat),
                    source=shown(source),
                    graph=graph_id_of(graph),
                    graph_size=sum(map(len, graph.values())),
                    weights=draft.digest,
                    weights_size=draft.size,
                    weights_stat=FileStat.of(draft.path),  # until it has its name
                    tensors=tensors,
                    facts=dict(facts),
                )
                with locked(layout.root):
                    return self._keep(source, index, graph, draft)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Have a file of the store to write to inside the block; gone after it, or when swept."""
        with locked(self._layout.root):
            path = self._layout.root / temporary_name()
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield path
        finally:
            file.close()
            discard(path)

    def sweep(self) -> None:
        """Remove what dead writers left; best effort."""
        with contextlib.suppress(OSError), locked(self._layout.root, wait=False):
            for folder in (self._layout.root, *self._layout.folders):
                sweep(folder)

    def remember(self, source: Path, **facts: Any) -> None:
        """Merge into the facts of a voice that was found or put before; best effort.

        Raises `ValueError` for facts that are not JSON.
        """
        with contextlib.suppress(OSError, CorruptFileError):
            content = self._sources.known(resolved(source), FileStat.of(source))
            if content and (path := self._layout.index_of(content)).exists():
                with locked(self._layout.root):
                    index = read_index(path)
                    write_index(path, replace(index, facts={**index.facts, **facts}))

    def entries(self) -> list[Entry]:
        """List what is kept. A source that was touched since it was last found is read.

        Raises `OSError` if the directory cannot be read.
        """
        living = self._sources_by_content()
        entries = []
        for voice in stored_voices(self._layout, living):
            if (index := voice.index) is not None:
                first = Path(index.source)
                paths = living.get(index.content, [first])
                source, *copies = sorted(paths, key=lambda path: (path != first, path))
                entries.append(
                    Entry(source, tuple(copies), index.weights_size, voice.used, not voice.stale)
                )
        return sorted(entries, key=lambda entry: (entry.source, not entry.current))

    def prune(self, *, everything: bool = False) -> int:
        """Remove all that is stale, then what exceeds the limit; return the bytes freed.

        Raises `StoreError` if the directory cannot be written.
        """
        layout = self._layout
        if not layout.root.is_dir():
            return 0
        with self._as_store_error("prepared voices cannot be removed"):
            living = {} if everything else self._sources_by_content()
            with locked(layout.root):
                freed = sum(map(sweep, (layout.root, *layout.folders)))
                freed += remove_stale(layout, living, self._limit_bytes)
                return freed + self._sources.prune(everything=everything)

    def _keep(
        self, source: Path, index: Index, graph: Mapping[str, bytes], draft: WeightsDraft
    ) -> PreparedFiles:
        """Make room, and give everything its name: the index last, so that it is never early."""
        layout = self._layout
        path = layout.index_of(index.content)
        contents = {record.content for record in self._sources.records() if record.holds()}
        evict_to_fit(layout, contents, index, self._limit_bytes)
        try:
            try:
                check_graph(layout, index)
            except (OSError, CorruptFileError):
                write_folder(layout.graph_of(index), graph)
            index = replace(index, weights_stat=self._place(path, index, draft))
            self._sources.write(source)
            write_index(path, index)
        finally:
            with contextlib.suppress(OSError):
                remove_unused(layout, stored_voices(layout, ()))
        return layout.files_of(index)

    def _place(self, path: Path, index: Index, draft: WeightsDraft) -> FileStat:
        """Place the weights, unless another process just did: so both map one file."""
        place = self._layout.weights_of(index)
        with contextlib.suppress(OSError, CorruptFileError):
            there = read_index(path)
            if there.weights == index.weights and FileStat.of(place) == there.weights_stat:
                return there.weights_stat
        if place.is_dir():
            remove(place)
        return draft.place(place)

    def _content_of(self, source: Path) -> str | None:
        """Return the content of `source`, read only if need be; `None` if it is no use to know."""
        source = resolved(source)
        stat = FileStat.of(source)
        content = self._sources.known(source, stat)
        if content is None and listed(self._layout.voices):
            content = self._sources.learn(source, stat)
            with contextlib.suppress(OSError), locked(self._layout.root, wait=False):
                self._sources.write(source)
        return content

    def _sources_by_content(self) -> dict[str, list[Path]]:
        """Return recorded sources by their present content; those that were touched are read."""
        living: dict[str, list[Path]] = {}
        for record in self._sources.records():
            with contextlib.suppress(OSError, ValueError):
                source = Path(record.source)
                if content := self._content_of(source):
                    living.setdefault(content, []).append(source)
        return living

    def _note_stat(self, path: Path, index: Index, stat: FileStat) -> None:
        """Note what the weights look like now, so that the next process need not read them."""
        if stat != index.weights_stat:
            with (
                contextlib.suppress(OSError, CorruptFileError),
                locked(self._layout.root, wait=False),
            ):
                now = read_index(path)
                if now.weights == index.weights:
                    write_index(path, replace(now, weights_stat=stat))

    @contextlib.contextmanager
    def _as_store_error(self, what: str) -> Iterator[None]:
        """Turn what the system reports into one sentence."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(f"{what} in {self._layout.root}: {reason}") from error


def _is_gone(source: Path, index: Path | None) -> bool:
    """Whether the source, or the voice's index, is simply not there (any more)."""
    return not (os.path.exists(source) and (index is None or os.path.exists(index)))


def _note_use(path: Path) -> None:
    """Note the use of a voice in the time stamp of its index, at most once an hour."""
    with contextlib.suppress(OSError):
        if abs(time.time() - path.stat().st_mtime) > USE_IS_NOTED_AFTER_S:
            os.utime(path)
