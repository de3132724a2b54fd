"""Where speech goes: a WAV file that appears when it is whole, standard output, a loudspeaker."""

from __future__ import annotations

import contextlib
import secrets
import sys
import wave
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from greenroom.audio.wav import streaming_header
from greenroom.cli.terminal.console import CommandError
from greenroom.cli.terminal.player import Loudspeaker
from greenroom.cli.terminal.streams import write_some
from greenroom.concurrency.threads import Lane


class ClosedPipeError(Exception):
    """The reader of our output has gone; there is nothing left to do."""


class Sink(Protocol):
    """A place for PCM. Its methods may block."""

    name: str

    def write(self, pcm: bytes) -> None:
        """Take the next piece."""

    def finish(self) -> None:
        """Take no more: everything was written."""

    def abandon(self) -> None:
        """Take no more: the rest will not come. Called after `finish` it does nothing."""


def sink_for(target: str | None, sample_rate: int) -> Sink:
    """Return the place that `-o` names; raises `CommandError` when there is none."""
    if target is None:
        return Loudspeaker(sample_rate)
    if target == "-":
        return _standard_output(sample_rate)
    path = Path(target).expanduser()
    if path.exists() and not path.is_file() and not path.is_dir():
        return Pipe(path.open("wb", buffering=0), str(path), sample_rate)
    return WavFile(path, sample_rate)


def _standard_output(sample_rate: int) -> Pipe:
    if sys.stdout.isatty():
        raise CommandError("standard output is a terminal; redirect it, or use -o FILE.wav.")
    sys.stdout.flush()
    file = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
    return Pipe(file, "standard output", sample_rate)


class Output:
    """A sink as the event loop sees it: writing never blocks the loop."""

    def __init__(self, sink: Sink) -> None:
        self.name = sink.name
        self._sink = sink
        self._lane = Lane("output", 1)

    async def write(self, pcm: bytes) -> None:
        """Write, in order; raises `CommandError` or `ClosedPipeError`."""
        await self._lane.submit(partial(_told, self._sink.name, partial(self._sink.write, pcm)))

    async def finish(self) -> None:
        """Wait until everything is where it belongs."""
        await self._lane.submit(partial(_told, self._sink.name, self._sink.finish))

    async def close(self) -> None:
        """Leave nothing half-written behind, even while a write hangs."""
        await self._lane.submit(self._sink.abandon)
        self._lane.close()


@contextlib.asynccontextmanager
async def opened(sink: Sink) -> AsyncIterator[Output]:
    """Give an output; what was not finished at the end is taken back."""
    output = Output(sink)
    try:
        yield output
    finally:
        await output.close()


def _told(name: str, step: Callable[[], None]) -> None:
    try:
        step()
    except BrokenPipeError:
        raise ClosedPipeError(name) from None
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror or error}.") from None


class WavFile:
    """A file that is written beside its place and moved there when it is whole."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.name = str(path)
        self._place = path.resolve()
        if self._place.is_dir():
            raise CommandError(f"{path} is a folder; name a file in it, such as {path}/speech.wav.")
        if not self._place.parent.is_dir():
            raise CommandError(f"there is no folder {self._place.parent}; create it.")
        self._beside = self._place.with_name(f".{self._place.name}.{secrets.token_hex(4)}.part")
        try:
            file = self._beside.open("xb")
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
        self._file: BinaryIO | None = file
        self._wave = wave.open(file, "wb")  # noqa: SIM115 - closed by `finish` or `abandon`
        self._wave.setparams((1, 2, sample_rate, 0, "NONE", ""))

    def write(self, pcm: bytes) -> None:
        """Take the next piece."""
        self._wave.writeframesraw(pcm)

    def finish(self) -> None:
        """Put the file in its place."""
        self._wave.close()
        if self._file is not None:
            self._file.close()
            self._file = None
            self._beside.replace(self._place)

    def abandon(self) -> None:
        """Leave what was there before, and no other trace."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._wave.close()
            self._file.close()
            self._file = None
            self._beside.unlink(missing_ok=True)


class Pipe:
    """A file that is read while it is written: WAV of unknown length."""

    def __init__(self, file: BinaryIO, name: str, sample_rate: int) -> None:
        self.name = name
        self._file = file
        self._ahead = streaming_header(sample_rate)

    def write(self, pcm: bytes) -> None:
        """Take the next piece; returns when the reader has room for it."""
        rest = memoryview(self._ahead + pcm)
        self._ahead = b""
        while rest:
            rest = rest[write_some(self._file.fileno(), rest) :]

    def finish(self) -> None:
        """End."""
        self._file.close()

    def abandon(self) -> None:
        """End."""
        self._file.close()
