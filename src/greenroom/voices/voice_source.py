"""What every source of voices can do, and how its index and small files are read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self

from greenroom.errors import PullError
from greenroom.voices.voice_index import IndexedFile, VoiceIndex

INDEX_NAME = "voices.json"


class CutError(Exception):
    """A source broke off, or cannot be reached; the rest may come later.

    `retry_after` is in seconds from now, where the source says when.
    """

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Content:
    """A file, or the rest of one, while it comes."""

    chunks: Iterator[bytes]
    """Raises `CutError` when it breaks off."""
    offset: int
    """Where in the file it begins: where it was asked for, or 0."""
    validator: str | None = None
    """What tells this version of the file from others, to ask for the rest of it later."""


class VoiceSource(Protocol):
    """Has an index and the files in it. Its methods block, each for a limited time."""

    name: str
    """What messages call it; without a password."""

    def index(self) -> VoiceIndex:
        """Return the voices that there are; raises `CutError`, or `PullError` where it has none."""

    def open(
        self, file: IndexedFile, offset: int = 0, validator: str | None = None
    ) -> AbstractContextManager[Content]:
        """Give the content from `offset` on, if it is still what `validator` tells, else all.

        Raises `CutError`, or `PullError` for a file that is not there or has another size.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def index_of(source: VoiceSource, *, tries: int = 3, pause_s: float = 0.5) -> VoiceIndex:
    """Return the index of a source; raises `PullError` when it cannot be had after some tries."""
    for number in range(1, tries + 1):
        try:
            return source.index()
        except CutError as cut:
            problem = str(cut)
        if number < tries:
            time.sleep(pause_s * number)
    # What broke off names where, most often.
    where = "" if source.name in problem else f" from {source.name}"
    raise PullError("", f"the index of voices cannot be had{where}: {problem}")


def read_small(source: VoiceSource, file: IndexedFile, limit: int) -> bytes:
    """Return the first `limit` bytes of a file; raises what `VoiceSource.open` raises."""
    content = b""
    with source.open(file) as opened:
        for chunk in opened.chunks:
            content += chunk
            if len(content) >= limit:
                break
    return content[:limit]
