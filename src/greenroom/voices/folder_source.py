"""Voices in a folder of this machine: a copy of a collection with its index, or loose voices."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from greenroom.adapter import ModelSpec
from greenroom.adapters.voice_files import find_voices
from greenroom.errors import PullError
from greenroom.untrusted.bounded_files import read_bounded, read_failure
from greenroom.untrusted.printable import printable
from greenroom.voices.voice_index import (
    MAX_INDEX_BYTES,
    IndexedFile,
    IndexedVoice,
    VoiceIndex,
    is_key,
    parsed,
)
from greenroom.voices.voice_source import INDEX_NAME, Content, CutError

_CHUNK = 256 * 1024


class FolderSource:
    """A source that is one or more folders; those without an index are searched for voices."""

    def __init__(self, folders: Sequence[Path], name: str) -> None:
        self.name = printable(name)
        self._folders = list(folders)

    def index(self) -> VoiceIndex:
        """Return the voices of the first folder with an index, else those that lie in them."""
        for folder in self._folders:
            path = folder / INDEX_NAME
            if path.exists():
                try:
                    return parsed(read_bounded(path, MAX_INDEX_BYTES), printable(path))
                except OSError as error:
                    raise PullError("", f"{printable(path)} {read_failure(error)}") from None
        return VoiceIndex(_loose_voices(self._folders))

    @contextlib.contextmanager
    def open(
        self, file: IndexedFile, offset: int = 0, validator: str | None = None
    ) -> Iterator[Content]:
        """Give the content from `offset` on, if the file was not changed since, else all of it."""
        try:
            found = _opened(next(filter(Path.exists, self._places(file)), Path(file.path)))
        except OSError as error:
            raise PullError("", f"{printable(file.path)} {read_failure(error)}") from None
        with found:
            seen = os.fstat(found.fileno())
            if not stat.S_ISREG(seen.st_mode) or seen.st_size != file.size:
                raise PullError(
                    "",
                    f"{printable(file.path)} has {seen.st_size:,} bytes at {self.name} and "
                    f"{file.size:,} in the index",
                )
            fresh = f"{seen.st_ino}-{seen.st_mtime_ns}"
            offset = offset if validator == fresh else 0
            found.seek(offset)
            yield Content(_chunks(found), offset, fresh)

    def _places(self, file: IndexedFile) -> Iterator[Path]:
        return (folder / file.path for folder in self._folders)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


def _opened(path: Path) -> BinaryIO:
    """Open a file without waiting for a writer, which one of a pipe would."""
    return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except OSError as error:
        raise CutError(read_failure(error)) from None


def _loose_voices(folders: Sequence[Path]) -> Iterator[IndexedVoice]:
    """Yield the voices below the folders; without checksums, as nobody states any."""
    for folder in folders:
        for spec in find_voices([folder], family="piper", adapter="piper"):
            if isinstance(spec, ModelSpec) and isinstance(spec.path, Path):
                voice = _loose_voice(spec, spec.path, folder)
                if voice is not None:
                    yield voice


def _loose_voice(spec: ModelSpec, model: Path, root: Path) -> IndexedVoice | None:
    def file(path: Path) -> IndexedFile | None:
        with contextlib.suppress(OSError):
            if path.is_file():
                return IndexedFile(path.relative_to(root).as_posix(), path.stat().st_size, None)
        return None

    key = model.name.removesuffix(".onnx")
    found, settings = file(model), file(model.with_name(f"{model.name}.json"))
    if found is None or settings is None or not is_key(key):
        return None
    return IndexedVoice(
        key,
        found,
        settings,
        file(model.with_name("MODEL_CARD")),
        "".join(spec.languages[:1]).replace("-", "_"),
        quality=key.rpartition("-")[2] if "-" in key else "",
        aliases=(spec.model_id,),
    )
