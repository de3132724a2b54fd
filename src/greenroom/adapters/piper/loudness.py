"""Measure one gain for a voice, so that voices are alike loud and its sentences stay as spoken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TARGET = 0.1
"""Root mean square of speech, pauses left out: -20 dBFS, as telephony and podcasts have it."""

_HEADROOM = 0.7
"""The loudest sample of the utterance that was measured; others may be louder."""

_MOST, _LEAST = 8.0, 0.125
"""However loud the utterance was: 18 dB either way."""

_BLOCK = 256
"""Samples, about a hundredth of a second: shorter than any pause."""

_QUIET = 0.05
"""Blocks whose loudness is below this part of the loudest block's are pauses."""


def gain_of(samples: NDArray[np.float32]) -> float:
    """Return the gain that brings speech to the target; shape `(n,)`, any rate."""
    whole = samples[: len(samples) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).astype(np.float64)
    if not len(whole) or not np.any(whole):
        return 1.0
    power = np.mean(whole**2, axis=1)
    spoken = power[power > power.max() * _QUIET**2]
    gain = min(TARGET / np.sqrt(spoken.mean()), _HEADROOM / np.abs(samples).max())
    return float(min(_MOST, max(_LEAST, gain)))
