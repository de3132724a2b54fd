"""Where speech goes: a file that appears once it is whole, a pipe, or the loudspeaker."""

from __future__ import annotations

import contextlib
import secrets
import sys
import wave
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from greenroom.audio.wav import streaming_header
from greenroom.cli.terminal.console import CommandError
from greenroom.cli.terminal.player import Loudspeaker
from greenroom.cli.terminal.streams import write_some
from greenroom.concurrency.threads import DaemonExecutor

if TYPE_CHECKING:
    from greenroom.audio.encoding import Encoder, Format

_WAV = "wav"
_SUFFIXES = {f".{name}": name for name in (_WAV, "mp3", "opus", "flac", "aac", "pcm")}
"""The formats of files; `.pcm` has samples alone."""


class ClosedPipeError(Exception):
    """The reader of our output has closed it; there is nothing left to do."""


class Sink(Protocol):
    """Takes PCM, to a file or a device. Its methods may block."""

    name: str

    def write(self, pcm: bytes) -> None:
        """Take the next piece."""

    def finish(self) -> None:
        """End: everything was written."""

    def abandon(self) -> None:
        """End early: the rest will not come. Called after `finish` it does nothing."""


def sink_for(target: str | None, sample_rate: int) -> Sink:
    """Return the sink for the value of `-o`; raises `CommandError` if it cannot be written."""
    if target is None:
        return Loudspeaker(sample_rate)
    if target == "-":
        return _standard_output(sample_rate)
    path = Path(target).expanduser()
    if path.exists() and not path.is_file() and not path.is_dir():
        return Pipe(path.open("wb", buffering=0), str(path), sample_rate)
    return SpeechFile(path, sample_rate)


def _standard_output(sample_rate: int) -> Pipe:
    if sys.stdout.isatty():
        raise CommandError("standard output is a terminal; redirect it, or use -o FILE.wav.")
    sys.stdout.flush()
    file = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
    return Pipe(file, "standard output", sample_rate)


class Output:
    """An asynchronous sink: a thread writes, in order, so that the event loop is not blocked."""

    def __init__(self, sink: Sink) -> None:
        self.name = sink.name
        self._sink = sink
        self._executor = DaemonExecutor("output", 1)

    async def write(self, pcm: bytes) -> None:
        """Write, in order; raises `CommandError` or `ClosedPipeError`."""
        await self._executor.submit(
            partial(_with_command_errors, self._sink.name, partial(self._sink.write, pcm))
        )

    async def finish(self) -> None:
        """Finish the sink: when this returns, everything is written or heard."""
        await self._executor.submit(
            partial(_with_command_errors, self._sink.name, self._sink.finish)
        )

    async def close(self) -> None:
        """Abandon the sink if it was not finished: nothing half-written is left behind."""
        await self._executor.submit(self._sink.abandon)
        self._executor.close()


@contextlib.asynccontextmanager
async def opened(sink: Sink) -> AsyncIterator[Output]:
    """Give an output for `sink`; if the block does not finish it, it is abandoned."""
    output = Output(sink)
    try:
        yield output
    finally:
        await output.close()


def _with_command_errors(name: str, step: Callable[[], None]) -> None:
    try:
        step()
    except BrokenPipeError:
        raise ClosedPipeError(name) from None
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror or error}.") from None


class SpeechFile:
    """A file, written beside its place and moved there once it is whole."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        """The format is that of the suffix, without one WAV.

        Raises `CommandError`, and `InvalidInputError` for a rate that the format does not have.
        """
        self.name = str(path)
        made = _format_of(path)
        rate = made.rate(sample_rate)
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
        self._content = _content_of(file, made, rate)

    def write(self, pcm: bytes) -> None:
        """Take the next piece."""
        self._content.write(pcm)

    def finish(self) -> None:
        """Close the file and move it to its place."""
        self._content.finish()
        if self._file is not None:
            self._file.close()
            self._file = None
            self._beside.replace(self._place)

    def abandon(self) -> None:
        """Delete what was written; a file that was there before stays as it was."""
        if self._file is not None:
            for each in (self._content.abandon, self._file.close):
                with contextlib.suppress(OSError):  # a full disk, which was told of
                    each()
            self._file = None
            self._beside.unlink(missing_ok=True)


def _format_of(path: Path) -> Format:
    """Return the format that a file is to have; raises `CommandError` for an unknown suffix."""
    from greenroom.audio.encoding import FORMATS

    if not path.suffix:
        return FORMATS[_WAV]
    name = _SUFFIXES.get(path.suffix.lower())
    if name is None:
        known = ", ".join(_SUFFIXES)
        raise CommandError(f"{path}: no format has the suffix {path.suffix}; there are {known}.")
    return FORMATS[name]


class _Content(Protocol):
    """What is in a file, in its format."""

    def write(self, pcm: bytes) -> None: ...

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


def _content_of(file: BinaryIO, made: Format, sample_rate: int) -> _Content:
    from greenroom.audio.encoding import encoder_for, file_encoder

    if made.name == _WAV:
        return _Wav(file, sample_rate)
    if made.is_raw:
        return _Encoded(file, encoder_for(made, sample_rate))
    return _Encoded(file, file_encoder(made, sample_rate, file))


class _Wav:
    """A WAV file, with its length in its header."""

    def __init__(self, file: BinaryIO, sample_rate: int) -> None:
        self._wave = wave.open(file, "wb")  # noqa: SIM115 - closed by `finish` or `abandon`
        self._wave.setparams((1, 2, sample_rate, 0, "NONE", ""))
        self.write = self._wave.writeframesraw
        self.finish = self.abandon = self._wave.close


class _Encoded:
    """What an encoder makes."""

    def __init__(self, file: BinaryIO, encoder: Encoder) -> None:
        self._file = file
        self._encoder = encoder
        self.abandon = encoder.close

    def write(self, pcm: bytes) -> None:
        self._file.write(self._encoder.feed(pcm))

    def finish(self) -> None:
        self._file.write(self._encoder.finish())
        self._encoder.close()


class Pipe:
    """A stream that is read while it is written: a WAV of unknown length."""

    def __init__(self, file: BinaryIO, name: str, sample_rate: int) -> None:
        self.name = name
        self._file = file
        self._ahead = streaming_header(sample_rate)

    def write(self, pcm: bytes) -> None:
        """Write the next piece; returns when the reader has taken it, or its buffer has."""
        rest = memoryview(self._ahead + pcm)
        self._ahead = b""
        while rest:
            rest = rest[write_some(self._file.fileno(), rest) :]

    def finish(self) -> None:
        """Close the stream."""
        self._file.close()

    def abandon(self) -> None:
        """Close the stream."""
        self._file.close()
