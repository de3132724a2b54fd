"""The values that travel: what can be loaded, and the audio that comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from greenroom.adapter import TTSAdapter

FRAME_MS = 20
"""Length of one `AudioFrame` in milliseconds."""

OUTPUT_RATE = 48_000
"""Sample rate of streams in Hz unless the caller asks for another."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Audio of natural length, as an engine makes it (usually one sentence)."""

    samples: NDArray[np.float32]
    """Mono, float32 in [-1, 1], shape `(n,)`."""
    sample_rate: int
    """Hz."""


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """Audio of fixed duration (20 ms), as a transport wants it."""

    pcm: bytes
    """Signed 16-bit little-endian mono."""
    sample_rate: int
    """Hz."""

    @property
    def samples(self) -> int:
        """The number of samples in the frame."""
        return len(self.pcm) // 2


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model that could be loaded: an entry of the catalog."""

    model_id: str
    adapter: type[TTSAdapter] | str
    """An adapter class, or the name under which one is registered."""
    path: Path | str | None = None
    """The engine's main file, or `None` for an engine that needs none."""
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Defaults for every synthesis; a caller's options override them."""
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    footprint_mb: float | None = None
    """Memory to book before it was ever measured; `None` estimates from the file size."""
    ttl_ms: int | None = None
    """Idle time of this model alone; `None` takes the manager's."""
    aliases: tuple[str, ...] = ()
    """Other names that find this model."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What an adapter found and cannot serve; it is named to users, and the others are served."""

    name: str
    """The file or folder."""
    reason: str
    """One clause, with the fix; the line first where the reason is in one."""
