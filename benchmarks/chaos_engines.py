"""Engines that break when they are told to, in whatever process they live.

What is to be done lies in a file, `told(group)`, and is done once, before the next chunk of any
stream of that process. The file's name is the group of models that share a process.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from greenroom import AudioChunk, TTSAdapter
from greenroom.adapters.piper.piper_adapter import PiperTTSAdapter
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.memory.usage import MIB

_SPARE_BYTES = 128 * MIB
_FLOOD_LINES = 10_000


def told(group: str) -> Path:
    """Return where the fault is written that a group is to have."""
    return Path(os.environ["GREENROOM_CACHE_DIR"]) / f"fault-of-{group}"


def tell(group: str, fault: str) -> None:
    """Have a group break."""
    draft = told(group).with_suffix(".draft")
    draft.write_text(fault)
    draft.replace(told(group))


def _fill_memory() -> None:
    """Take memory until the system refuses more, and end as C++ does then."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmData"))
    size = int(line.split()[1]) * 1024 + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    taken = []
    with contextlib.suppress(MemoryError):
        while True:
            taken.append(np.ones(MIB))
    os.abort()


def _truncate_mapping() -> None:
    """Read a mapped file that somebody has made shorter."""
    with tempfile.TemporaryFile() as file:
        file.truncate(16 * mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        file.truncate(0)
        mapped[8 * mmap.PAGESIZE]


def _flood() -> None:
    """Print 10 MB at once."""
    for _ in range(_FLOOD_LINES):
        sys.stderr.write("x" * 1_000 + "\n")


INSIDE: dict[str, Callable[[], object]] = {
    "segmentation fault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "_exit": lambda: os._exit(3),
    "deadlock that holds the lock": lambda: ctypes.PyDLL(None).sleep(3_600),
    "hang": lambda: time.sleep(3_600),
    "memory until the limit": _fill_memory,
    "truncated mapping": _truncate_mapping,
    "standard error flooded": _flood,
}
"""What an engine does to its own process."""


def _break_if_told(group: str) -> None:
    place = told(group)
    if place.exists():
        fault = place.read_text()
        with contextlib.suppress(FileNotFoundError):  # another stream was faster
            place.unlink()
            INSIDE[fault]()


class _Breaking(TTSAdapter):
    group: ClassVar[str]
    is_warm = False

    def warm_up(self, text: str) -> Iterator[AudioChunk]:
        """Speak the first words, and break no load."""
        try:
            yield from super().warm_up(text)
        finally:
            self.is_warm = True

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Speak as the engine does, or break before a chunk."""
        for chunk in super().synthesize(text, options):  # type: ignore[safe-super]
            if self.is_warm:
                _break_if_told(self.group)
            yield chunk


class BreakingTone(_Breaking, ToneTTSAdapter):
    """A tone that breaks."""

    group = "breaking-tone"


class BreakingVoice(_Breaking, PiperTTSAdapter):
    """A Piper voice that breaks."""

    group = "breaking-voice"
