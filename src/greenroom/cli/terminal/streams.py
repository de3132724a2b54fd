"""Standard output and standard error that never raise, whatever has become of their readers.

Python's own keep what could not be written and try again at exit, which then fails with code 120;
rich ends the process when a reader has gone. Here a command goes on, and says in the end what it
could not say.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import BinaryIO, TextIO

_QUIET = {errno.EPIPE, errno.EIO}
"""The reader, or the terminal, has gone: nobody is left who wants to know."""


def open_missing() -> None:
    """Put the null device where standard input, output or error were closed before the start.

    Else the next file or socket takes their numbers, and is written to by whoever prints.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def write_some(descriptor: int, content: memoryview) -> int:
    """Write as much as fits, and return how much; waits, also where the descriptor does not."""
    while True:
        try:
            return os.write(descriptor, content)
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()


class StandardStream(io.TextIOBase):
    """A stream of the process, without a buffer of its own. Any thread may write."""

    def __init__(self, stream: TextIO | None, *, lasting: bool) -> None:
        """`lasting` tries again after a failure, else the first one is the end of it."""
        self._stream = stream
        self._lasting = lasting
        self._cut_off = False
        self._descriptor = _descriptor_of(stream)
        self.problem: OSError | None = None
        """Why the last writing failed."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream it stands for."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> BinaryIO:
        """The stream below, for bytes."""
        if self._stream is None:
            raise AttributeError("buffer")
        return self._stream.buffer

    def fileno(self) -> int:
        """Return the descriptor; raises `OSError` when there is none."""
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self.problem is None or self._lasting:
            with contextlib.suppress(OSError):
                self.send(text)
        return len(text)

    def send(self, text: str) -> None:
        """Write all of it; raises `OSError`. What was cut off is followed by a new line."""
        try:
            self._send(f"\n{text}" if self._cut_off else text)
        except OSError as error:
            self.problem = error
            raise
        except ValueError as error:  # what Python says of a file that was closed
            self.problem = OSError(errno.EBADF, str(error))
            raise self.problem from None
        self.problem = None

    def _send(self, text: str) -> None:
        if self._descriptor is None:
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()
            return
        content = rest = memoryview(text.encode(self.encoding, "backslashreplace"))
        try:
            while rest:
                rest = rest[write_some(self._descriptor, rest) :]
        finally:
            if len(rest) < len(content):
                self._cut_off = bool(rest)

    @property
    def complaint(self) -> str | None:
        """What to say about what was not written: nothing where its reader has gone."""
        if self.problem is None or self.problem.errno in _QUIET:
            return None
        return f"standard output cannot be written: {self.problem.strerror or self.problem}."


def _descriptor_of(stream: TextIO | None) -> int | None:
    try:
        if stream is None:
            return None
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


@contextlib.contextmanager
def safe_streams(*, to_the_end: bool) -> Iterator[StandardStream]:
    """Have Python's streams never raise inside the block, or to the end of the process.

    Gives standard output.
    """
    before = sys.stdout, sys.stderr
    out = StandardStream(sys.stdout, lasting=False)
    sys.stdout, sys.stderr = out, StandardStream(sys.stderr, lasting=True)
    try:
        yield out
    finally:
        if not to_the_end:
            sys.stdout, sys.stderr = before
