"""A chunk of audio as an engine made it, checked and converted once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.audio.frames import AudioChunk
from greenroom.errors import SynthesisError
from greenroom.untrusted.printable import one_line, type_name


def samples_of(chunk: Any, sample_rate: int) -> NDArray[np.float32]:
    """Return the samples of a chunk of a model that speaks at `sample_rate`: float32, `(n,)`.

    Raises `SynthesisError` for what is no chunk, and for samples that are no audio: of whole
    numbers (which would be played clipped), of several channels, infinite or not a number.
    """
    if not isinstance(chunk, AudioChunk):
        raise SynthesisError(f"the engine made a {type_name(chunk)} where an AudioChunk is due.")
    if chunk.sample_rate != sample_rate:
        raise SynthesisError(
            f"the engine made audio at {one_line(str(chunk.sample_rate), 40)} Hz, "
            f"but the model speaks at {sample_rate} Hz."
        )
    samples: Any = chunk.samples
    if not isinstance(samples, np.ndarray):
        raise SynthesisError(f"the engine made samples in a {type_name(samples)}, not an array.")
    if samples.dtype.kind != "f":
        raise SynthesisError(
            f"the engine made samples of type {samples.dtype}; they must be float32 in [-1, 1]."
        )
    if samples.ndim != 1:
        raise SynthesisError(f"the engine made audio of shape {samples.shape}, not mono `(n,)`.")
    with np.errstate(over="ignore"):
        mono = np.ascontiguousarray(samples, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise SynthesisError("the engine made samples that are not numbers.")
    return mono
