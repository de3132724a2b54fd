"""Evict the least recently used voices when the store is over its limit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from greenroom.adapters.piper.prepared.store.atomic_files import listed, remove
from greenroom.adapters.piper.prepared.store.identity import StoreError
from greenroom.adapters.piper.prepared.store.index import CorruptFileError, Index, read_index
from greenroom.adapters.piper.prepared.store.paths import Layout
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A prepared voice, as a list shows it."""

    source: Path
    """The file with this voice's content; the one it was prepared from if there is none left."""
    copies: tuple[Path, ...]
    """Other files known to have the same content, and so to be prepared as well."""
    size_bytes: int
    """Of its weights; its graph, 1 to 2 MB, may be shared."""
    last_used: float
    """Seconds since 1970, exact to an hour."""
    current: bool
    """False for another runtime's, or when no source has this content any more."""


@dataclass(frozen=True, slots=True)
class StoredVoice:
    """A voice in the store: the path of its index, and the index unless it is unsound."""

    path: Path
    index: Index | None
    used: float
    """Seconds since 1970."""
    stale: bool

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The files that it may share with other voices, and their sizes in bytes."""
        return self.index.parts if self.index else ()


def stored_voices(layout: Layout, contents: Container[str]) -> list[StoredVoice]:
    """Read every index there is, also of other runtimes.

    A voice is stale if it is another runtime's, or none of `contents`, or cannot be read.
    """
    voices = []
    for path in listed(layout.voices):
        try:
            used = path.stat().st_mtime
            index: Index | None = read_index(path)
        except FileNotFoundError:  # removed by another process since it was listed
            continue
        except (OSError, CorruptFileError):
            used, index = 0.0, None
        stale = index is None or index.runtime != layout.runtime or index.content not in contents
        voices.append(StoredVoice(path, index, used, stale))
    return voices


def to_evict(voices: Sequence[StoredVoice], limit_bytes: int) -> list[StoredVoice]:
    """Choose the voices to remove so that the rest fits: stale ones, then least recently used.

    What voices share counts once, and is removed with the last of them.
    """
    uses = Counter(part for voice in voices for part in voice.parts)
    total = sum(size for _, size in uses)
    chosen = []
    for voice in sorted(voices, key=lambda voice: (not voice.stale, voice.used)):
        if total <= limit_bytes:
            break
        chosen.append(voice)
        uses.subtract(voice.parts)
        total -= sum(part[1] for part in voice.parts if not uses[part])
    return chosen


def evict_to_fit(layout: Layout, contents: Container[str], new: Index, limit_bytes: int) -> None:
    """Remove voices until `new` fits beside the rest. Raises `StoreError` if it never will."""
    path = layout.index_of(new.content)
    voices = [voice for voice in stored_voices(layout, contents) if voice.path != path]
    arriving = StoredVoice(path, new, math.inf, stale=False)
    going = to_evict([*voices, arriving], limit_bytes)
    if arriving in going:
        raise StoreError(
            f"a prepared voice of {sum(size for _, size in new.parts)} bytes does not fit the "
            f"limit of {limit_bytes} bytes for all in {layout.root}"
        )
    for voice in going:
        logger.info("the prepared voice %s leaves to make room", voice.path)
        remove(voice.path)
    remove_unused(layout, stored_voices(layout, contents))


def remove_stale(layout: Layout, contents: Container[str], limit_bytes: int) -> int:
    """Remove voices that are stale, or that exceed the limit; return the bytes freed."""
    voices = stored_voices(layout, contents)
    going = [voice for voice in voices if voice.stale]
    going += to_evict([voice for voice in voices if not voice.stale], limit_bytes)
    freed = sum(remove(voice.path) for voice in going)
    return freed + remove_unused(layout, [voice for voice in voices if voice not in going])


def remove_unused(layout: Layout, staying: Iterable[StoredVoice]) -> int:
    """Remove graphs and weights that no voice of `staying` consists of; return the bytes."""
    used = {name for voice in staying for name, _ in voice.parts}
    paths = listed(layout.weights) + listed(layout.graphs)
    return sum(remove(path) for path in paths if path.stem not in used)
