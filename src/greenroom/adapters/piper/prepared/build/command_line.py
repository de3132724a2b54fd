"""How a voice is prepared: the command line, and the memory that its process takes."""

from __future__ import annotations

import sys
from pathlib import Path

from greenroom.memory.usage import MIB

_PYTHON = 80 * MIB
_FILE_FACTOR = 4.6
"""Times the file: measured 4.5, for two parsed copies and what a stage is optimised with."""


def command(source: Path) -> list[str]:
    """Return the command line that prepares a voice.

    If its standard input is a pipe, it ends when that is closed: with whoever started it.
    """
    return [sys.executable, "-m", "greenroom.adapters.piper.prepared.build.pipeline", str(source)]


def bytes_taken(source: Path) -> int:
    """Return the anonymous memory that preparing takes at its peak; raises `OSError`."""
    return _PYTHON + int(source.stat().st_size * _FILE_FACTOR)
