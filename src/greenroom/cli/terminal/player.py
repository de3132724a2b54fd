"""Play on this machine's loudspeaker: by `sounddevice`, else by an installed player program."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from greenroom.audio.wav import streaming_header, write_wav
from greenroom.cli.terminal.console import CommandError

_PLAYERS = {
    "aplay": ("-q", "-t", "wav", "-"),
    "paplay": ("--raw", "--format=s16le", "--channels=1", "--rate={rate}"),
    "ffplay": ("-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"),
}
_HEADERLESS = "paplay"
_FILE_PLAYER = "afplay"
_ADVICE = "use -o FILE.wav."


class Loudspeaker:
    """The loudspeaker, by the first way to play sound that this machine has."""

    name = "the loudspeaker"

    def __init__(self, sample_rate: int) -> None:
        """Raises `CommandError` if this machine has no way to play sound."""
        self._way = _sound_device(sample_rate) or _program(sample_rate)
        if self._way is None:
            raise CommandError(
                "nothing here can play sound; install the extra `play` (sounddevice) or one of "
                f"{', '.join(_PLAYERS)}, or {_ADVICE}"
            )

    def write(self, pcm: bytes) -> None:
        """Play the next piece; returns when there is room for more."""
        self._way.write(pcm)

    def finish(self) -> None:
        """Return when everything was played."""
        self._way.finish()

    def abandon(self) -> None:
        """Stop playing at once."""
        self._way.abandon()


def _sound_device(sample_rate: int) -> Any:
    try:
        import sounddevice
    except (ImportError, OSError):  # OSError: the package without the PortAudio library
        return None
    try:
        stream = sounddevice.RawOutputStream(samplerate=sample_rate, channels=1, dtype="int16")
        stream.start()
    except sounddevice.PortAudioError:
        return None
    return _Device(stream)


class _Device:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, pcm: bytes) -> None:
        self._stream.write(pcm)

    def finish(self) -> None:
        self._stream.stop()
        self._stream.close()

    def abandon(self) -> None:
        self._stream.abort(ignore_errors=True)
        self._stream.close()


def _program(sample_rate: int) -> Any:
    for name, arguments in _PLAYERS.items():
        if path := shutil.which(name):
            head = b"" if name == _HEADERLESS else streaming_header(sample_rate)
            command = [path, *(each.format(rate=sample_rate) for each in arguments)]
            return _Program(name, command, head)
    if path := shutil.which(_FILE_PLAYER):
        return _FileProgram(path, sample_rate)
    return None


class _Program:
    """A player program that reads from its standard input."""

    def __init__(self, name: str, command: list[str], head: bytes) -> None:
        self._name = name
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `abandon`
        self._running = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._complaints
        )
        self._ahead = head

    def write(self, pcm: bytes) -> None:
        assert self._running.stdin is not None
        try:
            self._running.stdin.write(self._ahead + pcm)
            self._running.stdin.flush()
        except BrokenPipeError:
            self._check()
            raise
        self._ahead = b""

    def finish(self) -> None:
        assert self._running.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._running.stdin.close()
        self._check()

    def _check(self) -> None:
        if self._running.wait() != 0:
            self._complaints.seek(0)
            said = self._complaints.read().decode(errors="replace").strip().splitlines()
            problem = said[-1] if said else f"exit code {self._running.returncode}"
            raise CommandError(f"{self._name} cannot play: {problem}; {_ADVICE}")

    def abandon(self) -> None:
        if self._running.poll() is None:
            self._running.kill()
            self._running.wait()
        assert self._running.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._running.stdin.close()
        self._complaints.close()


class _FileProgram:
    """A player program that reads a whole file only."""

    def __init__(self, path: str, sample_rate: int) -> None:
        self._path = path
        self._rate = sample_rate
        self._pcm = bytearray()

    def write(self, pcm: bytes) -> None:
        self._pcm += pcm

    def finish(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "speech.wav"
            write_wav(file, bytes(self._pcm), self._rate)
            if subprocess.run([self._path, str(file)], check=False).returncode:
                raise CommandError(f"{_FILE_PLAYER} cannot play; {_ADVICE}")

    def abandon(self) -> None:
        self._pcm.clear()
