"""The memory limits of this process's control groups, and of all above them.

The smallest limit counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from greenroom.untrusted.control_groups import PROC, binding_folders, positive, text_of

_V2_FILES = ("memory.max", "memory.high")
"""`memory.high` kills no process, but one above it is slowed down until it is below: speech
would falter long before `memory.max`, so either counts as the limit."""

_V1_FILE = "memory.limit_in_bytes"
_V1_INHERITED = "hierarchical_memory_limit"
"""In `memory.stat`: the smallest limit of the group and its parents, those not mounted included."""


def memory_limits(proc: Path = PROC) -> list[int]:
    """Return every limit, in bytes, that binds this process; none where there is no group."""
    return [
        limit
        for version, folder in binding_folders("memory", proc)
        for limit in _limits_at(folder, version)
    ]


def _limits_at(folder: Path, version: int) -> Iterator[int]:
    texts = [text_of(folder / name) for name in (_V2_FILES if version == 2 else (_V1_FILE,))]
    if version == 1:
        lines = (line.split() for line in text_of(folder / "memory.stat").splitlines())
        texts += [line[1] for line in lines if len(line) == 2 and line[0] == _V1_INHERITED]
    yield from filter(None, map(positive, texts))
