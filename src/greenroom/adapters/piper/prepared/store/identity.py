"""Identify files: by their stat, which is cheap to compare, and by their content, for certain.

A source (a voice's own file, 63 MB) is read once to learn its content; a small record remembers
the content together with the stat, and is believed for as long as the stat stays the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from greenroom.adapters.piper.prepared.store.atomic_files import listed, remove, write_beside

STEP = 1024 * 1024
"""Bytes read at a time."""


class StoreError(OSError):
    """The store cannot keep this voice; the message is one plain sentence, the cause is chained."""


class SourceChangedError(StoreError):
    """The source is not the file any more that was prepared."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """What changes when a file is written, replaced, touched or copied."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, path: Path) -> FileStat:
        """Look at `path`, following links. Raises `OSError`."""
        return cls.read(path.stat())

    @classmethod
    def read(cls, seen: os.stat_result) -> FileStat:
        """Take what counts from a result of `os.stat`."""
        return cls(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_dev)


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """A source as it was before it was read for preparing."""

    stat: FileStat


@dataclass(frozen=True, slots=True)
class Record:
    """The content that a source had when it had this stat."""

    source: str
    stat: FileStat
    content: str

    def holds(self) -> bool:
        """Whether the source still looks the same."""
        try:
            return FileStat.of(Path(self.source)) == self.stat
        except (OSError, ValueError):
            return False


_RECORD = TypeAdapter(Record)


def digest_of(path: Path) -> str:
    """Read all of `path`, and return its BLAKE2b digest: 64 hex digits. Raises `OSError`."""
    digest = hashlib.blake2b(digest_size=32)
    buffer = memoryview(bytearray(STEP))
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            digest.update(buffer[:got])
    return digest.hexdigest()


def resolved(path: Path) -> Path:
    """Return the absolute path of the file itself, all links followed."""
    return Path(os.path.realpath(path))


def name_of(*parts: str) -> str:
    """Return a file name, 64 hex digits, for texts that belong together."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        text = os.fsencode(part)
        digest.update(len(text).to_bytes(8, "big") + text)
    return digest.hexdigest()


def graph_id_of(blobs: Mapping[str, bytes]) -> str:
    """Return the name of a graph: a SHA-256 over its blobs' names, lengths and bytes."""
    digest = hashlib.sha256()
    for name in sorted(blobs):
        digest.update(f"{len(os.fsencode(name))} {name} {len(blobs[name])} ".encode())
        digest.update(blobs[name])
    return digest.hexdigest()


def shown(path: Path) -> str:
    """Return `path` as text that JSON can hold; only a name that is no UTF-8 loses by it."""
    return os.fsencode(path).decode(errors="replace")


_learned: dict[Path, Record] = {}
"""What this process knows of sources, so that a store that cannot be written costs one reading."""


class Sources:
    """Which content each source has. A record that cannot be read is as good as none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def known(self, source: Path, stat: FileStat) -> str | None:
        """Return the content of `source`, resolved, if it is known for this stat."""
        record = _learned.get(source) or self._read(self._record_path(source))
        if record is None or record.stat != stat or record.source != shown(source):
            return None
        _learned[source] = record
        return record.content

    def learn(self, source: Path, stat: FileStat) -> str:
        """Return the content of `source`, resolved, which must have this stat all the while.

        Raises `SourceChangedError` if it has another before or after the reading, and `OSError`
        if it cannot be read.
        """
        content = self.known(source, stat) or digest_of(source)
        if FileStat.of(source) != stat:
            raise SourceChangedError(f"{source} changed while it was prepared")
        _learned[source] = Record(shown(source), stat, content)
        return content

    def write(self, source: Path) -> None:
        """Record what was learned of `source`, by the holder of the store's lock."""
        write_beside(self._record_path(source), _RECORD.dump_json(_learned[source]))

    def records(self) -> Iterator[Record]:
        """Read every record, from the disk."""
        for path in listed(self._folder):
            if record := self._read(path):
                yield record

    def prune(self, *, everything: bool) -> int:
        """Remove records that no longer hold; return the bytes freed."""
        freed = 0
        for path in listed(self._folder):
            record = self._read(path)
            if everything or record is None or not record.holds():
                freed += remove(path)
        return freed

    @classmethod
    def is_known(cls, folder: str, source: str) -> bool:
        """Whether there may be a record of `source`, resolved, in `folder`: cheap, for lists."""
        seen = bool(_learned) and Path(source) in _learned
        return seen or os.path.exists(f"{folder}/{name_of(source)}.json")

    def _record_path(self, source: Path) -> Path:
        return self._folder / f"{name_of(str(source))}.json"

    def _read(self, path: Path) -> Record | None:
        try:
            return _RECORD.validate_json(path.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None
