"""WAV files, and the open-ended WAV header that pipes get."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import BinaryIO


def write_wav(target: Path | str | BinaryIO, pcm: bytes, sample_rate: int) -> None:
    """Write signed 16-bit mono `pcm` at `sample_rate` Hz as a WAV file."""
    with wave.open(str(target) if isinstance(target, Path) else target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm)


def streaming_header(sample_rate: int) -> bytes:
    """Return a WAV header for mono 16-bit audio of unknown length.

    Both sizes are 0xFFFFFFFF, which players and the OpenAI API take for "until the end".
    """
    blank = io.BytesIO()
    write_wav(blank, b"", sample_rate)
    header = bytearray(blank.getvalue())
    header[4:8] = header[40:44] = b"\xff\xff\xff\xff"
    return bytes(header)
