"""One file on its way: fetched beside its place, resumed after a cut, checked before it is used."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from greenroom.errors import PullError
from greenroom.untrusted.printable import printable
from greenroom.voices.voice_index import IndexedFile
from greenroom.voices.voice_source import CutError, VoiceSource

SUFFIX, TAG_SUFFIX = ".part", ".part.tag"

_READ = 1024**2
_LONGEST_TAG = 400


@dataclass(frozen=True, slots=True)
class Patience:
    """How much of a bad connection is borne. Times in seconds."""

    tries: int = 5
    """One after the other that bring nothing."""
    pause_s: float = 0.5
    """Before the second one; each next pause is twice as long."""
    longest_pause_s: float = 30.0
    gain: int = 64 * 1024
    """Bytes that count as something."""
    window_s: float = 30.0
    least: int = 16 * 1024
    """Bytes that come in each window, or the connection is given up and made anew."""


class PullStoppedError(Exception):
    """The pull was stopped; what came is kept."""


class PartialFile:
    """A file that is not whole yet, `.NAME.SUM.part`; the sum tells versions apart.

    The lock on it belongs to who fetches it, so that two never write into one.
    """

    def __init__(self, folder: Path, name: str, file: IndexedFile) -> None:
        self.file = file
        stem = f".{name}.{(file.md5 or f'{file.size:x}')[:12]}"
        self.path = folder / f"{stem}{SUFFIX}"
        self._tag = folder / f"{stem}{TAG_SUFFIX}"

    @property
    def size(self) -> int:
        """Bytes that have come so far."""
        with contextlib.suppress(OSError):
            return min(self.path.stat().st_size, self.file.size)
        return 0

    def fetch(
        self,
        source: VoiceSource,
        *,
        progress: Callable[[int], None] = lambda come: None,
        stop: threading.Event | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Bring the file here whole, and check it; `progress` is told how much has come.

        Raises `PullError`: after a cut, which is `resumable`, what came is kept; after a wrong size
        or sum nothing is. Raises `PullStoppedError` soon after `stop` was set.
        """
        fetching = _Fetch(source, self, progress, stop or threading.Event(), patience or Patience())
        with self._locked() as out:
            kept = fetching.resume(out)
            fetching.run(out)
            if not fetching.is_right and kept:
                # What was there before may be of another version: once more, from the start.
                fetching.restart(out)
                fetching.run(out)
            if not fetching.is_right:
                self.discard()
                raise PullError("", f"{self._shown} has a wrong checksum; nothing of it was kept")
            os.fsync(out.fileno())

    @property
    def _shown(self) -> str:
        return printable(self.file.path.rpartition("/")[2])

    def tag(self) -> str | None:
        """Return what tells this version of the file, as it was kept beside it."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = self._tag.read_text(encoding="ascii")
            return text if text.isprintable() and 0 < len(text) <= _LONGEST_TAG else None
        return None

    def keep_tag(self, tag: str | None) -> None:
        """Keep it for a later `fetch`; losing it only costs a download from the start."""
        with contextlib.suppress(OSError):
            if tag is None:
                self._tag.unlink(missing_ok=True)
            else:
                self._tag.write_text(tag, encoding="ascii")

    def move_to(self, place: Path) -> None:
        """Give the whole file its name, in one step."""
        self.path.replace(place)
        self._tag.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what came."""
        for path in (self.path, self._tag):
            with contextlib.suppress(OSError):
                path.unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(self.path, flags, 0o644), "r+b", buffering=0) as out:
            try:
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PullError(
                    "", f"{self._shown} is being pulled already; wait for that", resumable=True
                ) from None
            yield out


class _Fetch:
    """What brings one file: how much has come, and its sum so far."""

    def __init__(
        self,
        source: VoiceSource,
        part: PartialFile,
        progress: Callable[[int], None],
        stop: threading.Event,
        patience: Patience,
    ) -> None:
        self._source = source
        self._part = part
        self._size = part.file.size
        self._progress = progress
        self._stop = stop
        self._patience = patience
        self._come = 0
        self._sum = hashlib.md5(usedforsecurity=False)

    @property
    def is_right(self) -> bool:
        """Whether what has come is the file; where no sum is known its size has to do."""
        expected = self._part.file.md5
        return self._come == self._size and expected in (None, self._sum.hexdigest())

    def resume(self, out: BinaryIO) -> bool:
        """Read what came before, and return whether there was some."""
        if os.fstat(out.fileno()).st_size > self._size:
            self.restart(out)
        while piece := out.read(_READ):
            self._take(piece)
        return self._come > 0

    def restart(self, out: BinaryIO) -> None:
        """Forget what came."""
        out.seek(0)
        out.truncate()
        self._come = 0
        self._sum = hashlib.md5(usedforsecurity=False)

    def run(self, out: BinaryIO) -> None:
        """Bring the rest, over as many cuts as are borne."""
        most, failed = self._come, 0
        while self._come < self._size:
            cut = self._attempt(out)
            if self._come == self._size:
                return
            # A source that always begins anew and breaks off brings nothing, however much it sends.
            failed = 0 if self._come >= most + self._patience.gain else failed + 1
            most = max(most, self._come)
            if failed >= self._patience.tries:
                raise PullError(
                    "",
                    f"{cut}; {self._come:,} of {self._size:,} bytes came and are kept, pull again "
                    "to go on",
                    resumable=True,
                )
            self._pause(failed, cut.retry_after)

    def _pause(self, failed: int, retry_after: float | None) -> None:
        pause = self._patience.pause_s * 2 ** max(0, failed - 1)
        pause = pause if retry_after is None else max(pause, retry_after)
        if self._stop.wait(min(pause, self._patience.longest_pause_s)):
            raise PullStoppedError

    def _attempt(self, out: BinaryIO) -> CutError:
        """Fetch until it is whole or cut off; return the cut."""
        tag = self._part.tag() if self._come else None
        try:
            with self._source.open(self._part.file, self._come, tag) as content:
                if content.offset != self._come:
                    self.restart(out)
                self._part.keep_tag(content.validator)
                self._write(content.chunks, out)
        except CutError as cut:
            return cut
        return CutError(f"{printable(self._part.file.path)} ended early")

    def _write(self, chunks: Iterator[bytes], out: BinaryIO) -> None:
        since, before = time.monotonic(), self._come
        for chunk in chunks:
            if self._stop.is_set():
                raise PullStoppedError
            if self._come + len(chunk) > self._size:
                self._part.discard()
                raise PullError(
                    "", f"{printable(self._part.file.path)} is longer than the index says"
                )
            _write_all(out, chunk)
            self._take(chunk)
            if time.monotonic() - since > self._patience.window_s:
                if self._come - before < self._patience.least:
                    raise CutError(f"{printable(self._part.file.path)} comes too slowly")
                since, before = time.monotonic(), self._come

    def _take(self, piece: bytes) -> None:
        self._come += len(piece)
        self._sum.update(piece)
        self._progress(self._come)


def _write_all(out: BinaryIO, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[out.write(rest) :]
