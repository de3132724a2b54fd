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
class WordTime:
    """When a word of the text is heard."""

    text: str
    """As written, up to the spaces around it; several words, with what is between them, where only
    the time of all together is known."""
    start_s: float
    """Seconds from the stream's first sample; in an `AudioChunk` from the chunk's first."""
    end_s: float
    """When it has been said, without the pause that may follow."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Audio of natural length, as an engine makes it (usually one sentence)."""

    samples: NDArray[np.float32]
    """Mono, float32 in [-1, 1], shape `(n,)`."""
    sample_rate: int
    """Hz."""
    words: tuple[WordTime, ...] | None = None
    """Words that begin in it or later, or did before and are known since: each once, in order.

    `None` from an engine that does not know; see `TTSAdapter.has_word_times`.
    """


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """Audio of fixed duration (20 ms), as a transport wants it."""

    pcm: bytes
    """Signed 16-bit little-endian mono."""
    sample_rate: int
    """Hz."""
    words: tuple[WordTime, ...] | None = None
    """The words that begin in it, or began before and are known since; `None` unless they are asked
    for and the engine knows them."""

    @property
    def samples(self) -> int:
        """The number of samples in the frame."""
        return len(self.pcm) // 2
