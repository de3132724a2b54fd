"""A chunk of audio as an engine made it, checked and converted once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.audio.frames import AudioChunk, WordTime
from greenroom.errors import SynthesisError
from greenroom.untrusted.printable import one_line, type_name

MOST_WORDS = 800
MOST_WORD_CHARS = 2_000
"""Of the words of one chunk: twice what the longest sentence has."""

_LATEST_S = 86_400.0


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


def words_of(chunk: AudioChunk) -> tuple[WordTime, ...] | None:
    """Return the words of a chunk, `None` where the engine does not tell them.

    Raises `SynthesisError` for what are no words, for times that are no seconds or run backwards,
    and for more than a sentence can have.
    """
    words: Any = chunk.words
    if words is None:
        return None
    if not isinstance(words, tuple) or not all(isinstance(word, WordTime) for word in words):
        raise SynthesisError("the engine told words that are no tuple of WordTime.")
    checked = tuple(map(_checked, words))
    is_long = sum(len(word.text) for word in checked) > MOST_WORD_CHARS
    if is_long or len(checked) > MOST_WORDS:
        raise SynthesisError("the engine told more words for a chunk than a sentence can have.")
    return checked


def _checked(word: WordTime) -> WordTime:
    text: Any = word.text
    times: tuple[Any, ...] = (word.start_s, word.end_s)
    if not isinstance(text, str) or not all(isinstance(time, int | float) for time in times):
        raise SynthesisError("the engine told a word whose text or times are none.")
    start, end = map(float, times)
    if not (math.isfinite(start) and -_LATEST_S <= start <= end <= _LATEST_S):
        raise SynthesisError(
            f"the engine told a word from {one_line(str(start), 40)} to {one_line(str(end), 40)} s."
        )
    return WordTime(str(text), start, end)
