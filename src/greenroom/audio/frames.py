"""The audio that travels: chunks as an engine makes them, frames as a transport wants them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
