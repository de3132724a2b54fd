"""WAV files, and the open-ended WAV header that pipes get."""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import BinaryIO

LINEAR, A_LAW, MU_LAW = 1, 6, 7
"""What the samples of a WAV file are, by the numbers that Microsoft gave."""

_UNKNOWN = 0xFFFF_FFFF
"""The size of what is not finished yet."""


def write_wav(target: Path | str | BinaryIO, pcm: bytes, sample_rate: int) -> None:
    """Write signed 16-bit mono `pcm` at `sample_rate` Hz as a WAV file."""
    with wave.open(str(target) if isinstance(target, Path) else target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm)


def streaming_header(sample_rate: int, tag: int = LINEAR) -> bytes:
    """Return a WAV header for mono audio of unknown length, 16-bit or (G.711) 8-bit.

    Both sizes are 0xFFFFFFFF, which players and the OpenAI API take for "until the end". What is
    not linear has the size of its extension behind its format, as Microsoft's definition wants.
    """
    width, extension = (2, b"") if tag == LINEAR else (1, b"\0\0")
    rates = (sample_rate, sample_rate * width, width, width * 8)
    form = struct.pack("<HHIIHH", tag, 1, *rates) + extension
    head = struct.pack("<4sI4s4sI", b"RIFF", _UNKNOWN, b"WAVE", b"fmt ", len(form))
    return head + form + struct.pack("<4sI", b"data", _UNKNOWN)
