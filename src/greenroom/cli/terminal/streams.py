"""Standard output and standard error that never raise, even when a reader has closed them.

Python's own streams keep what could not be written and try again at exit, which then fails with
code 120; rich ends the process when a reader has gone. With these a command goes on, and reports
at its end that its output could not be written.
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

_READER_GONE = {errno.EPIPE, errno.EIO}
"""The reader or the terminal has gone: not an error, as there is no reader to miss anything."""


def open_missing() -> None:
    """Open the null device for each standard stream that was closed before the start.

    Else the next file or socket would take its number, and printed text would go into that.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def write_some(descriptor: int, content: memoryview) -> int:
    """Write as much as fits and return how much; wait for space, also if not blocking."""
    while True:
        try:
            return os.write(descriptor, content)
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()


class StandardStream(io.TextIOBase):
    """A standard stream without a buffer of its own. Any thread may write."""

    def __init__(self, stream: TextIO | None, *, lasting: bool) -> None:
        """`lasting` tries later text after a failure; without, the first failure is the end."""
        self._stream = stream
        self._lasting = lasting
        self._cut_off = False
        self._descriptor = _descriptor_of(stream)
        self.problem: OSError | None = None
        """The error of the last write, if it failed."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the wrapped stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> BinaryIO:
        """The binary stream below."""
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
        """Write text; what cannot be written is dropped."""
        if self.problem is None or self._lasting:
            with contextlib.suppress(OSError):
                self.send(text)
        return len(text)

    def send(self, text: str) -> None:
        """Write all of a text, or raise `OSError`; a new line comes first if one was cut off."""
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
        """The message about output that was not written; `None` if its reader has gone."""
        if self.problem is None or self.problem.errno in _READER_GONE:
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
    """Replace `sys.stdout` and `sys.stderr` by streams that never raise; give standard output.

    For the block, or `to_the_end` of the process: what is printed at exit must not raise either.
    """
    before = sys.stdout, sys.stderr
    out = StandardStream(sys.stdout, lasting=False)
    sys.stdout, sys.stderr = out, StandardStream(sys.stderr, lasting=True)
    try:
        yield out
    finally:
        if not to_the_end:
            sys.stdout, sys.stderr = before
