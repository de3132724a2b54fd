"""A voice's index: what is in its weights file, and which files it consists of."""

from __future__ import annotations

import fcntl
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError

from greenroom.adapters.piper.prepared.store.atomic_files import (
    discard,
    temporary_name,
    write_beside,
)
from greenroom.adapters.piper.prepared.store.identity import FileStat

ALIGNMENT = 64
"""Bytes: a cache line, and what vector instructions like best."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class CorruptFileError(Exception):
    """A file of the store is not what it should be; the message says which and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a float32 array lies in the weights file; `offset` in bytes."""

    name: str
    offset: Annotated[int, Field(ge=0, multiple_of=ALIGNMENT)]
    shape: tuple[Count, ...]

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + 4 * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Index:
    """All that is known of one prepared voice; sizes in bytes."""

    runtime: str
    content: Digest
    """Of the source that was prepared."""
    source: str
    graph: Digest
    graph_size: Count
    weights: Digest
    weights_size: Count
    weights_stat: FileStat
    """The weights file as it was when its digest was last known to be right."""
    tensors: tuple[Tensor, ...]
    facts: dict[str, Any]
    seal: str = ""
    """A digest of the rest, as it was written: names and shapes can be wrong in ways that fit."""

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The files that it may share with other voices, and their sizes."""
        return (self.graph, self.graph_size), (self.weights, self.weights_size)


_INDEX = TypeAdapter(Index)


def read_index(path: Path) -> Index:
    """Read and check an index. Raises `CorruptFileError`, or `OSError` if it is unreadable."""
    try:
        index = _INDEX.validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CorruptFileError(path, f"is no index of a voice: {place} {first['msg']}") from error
    if any(tensor.end > index.weights_size for tensor in index.tensors):
        raise CorruptFileError(path, "has a tensor that does not lie inside the weights file")
    if not _is_gapless(index):
        raise CorruptFileError(path, "has a tensor that does not lie where it was put")
    if index.seal != _seal_of(index):
        raise CorruptFileError(path, "was altered")
    return index


def _is_gapless(index: Index) -> bool:
    """Whether the tensors lie one behind the other, each aligned, to the end of the file."""
    end = 0
    for tensor in index.tensors:
        if tensor.offset != end + -end % ALIGNMENT:
            return False
        end = tensor.end
    return end == index.weights_size


def _seal_of(index: Index) -> str:
    """Return a digest of all that an index says but its seal."""
    content = _INDEX.dump_json(replace(index, seal=""))
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def write_index(path: Path, index: Index) -> None:
    """Write an index in one step. Raises `ValueError` if its facts are not JSON."""
    write_beside(path, _INDEX.dump_json(replace(index, seal=_seal_of(index))))


class WeightsDraft:
    """A weights file that is being written; locked, so that no other process sweeps it.

    Made by the holder of the store's lock, and written without it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / temporary_name()
        self._file = self.path.open("xb")
        self._digest = hashlib.blake2b(digest_size=32)
        self.size = 0
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise

    @property
    def digest(self) -> str:
        """The digest of what was written so far, as `digest_of` would return it."""
        return self._digest.hexdigest()

    def write(self, weights: Iterable[tuple[str, npt.NDArray[np.float32]]]) -> tuple[Tensor, ...]:
        """Append the arrays in order, each aligned, and return where they lie.

        Raises `ValueError` for two of one name, and `TypeError` for another type of number.
        """
        tensors: dict[str, Tensor] = {}
        for name, array in weights:
            if name in tensors:
                raise ValueError(f"there are two weights named {name!r}")
            if array.dtype != np.float32:
                raise TypeError(f"weights {name!r} are {array.dtype}, not float32")
            self._append(bytes(-self.size % ALIGNMENT))
            tensors[name] = Tensor(name, self.size, array.shape)
            self._append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._file.flush()
        return tuple(tensors.values())

    def place(self, path: Path) -> FileStat:
        """Give the file its final name, by the holder of the store's lock."""
        self._file.close()
        self.path.replace(path)
        return FileStat.of(path)

    def close(self) -> None:
        """Drop the file unless it was placed."""
        try:
            self._file.close()  # flushes, which fails again where the disk is full
        except OSError:
            pass
        finally:
            discard(self.path)

    def _append(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self._digest.update(content)
        self.size += len(content)
