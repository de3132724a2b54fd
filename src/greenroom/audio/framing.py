"""Chunks of any length and rate in, frames of 20 ms at one rate out, without a seam."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import soxr
from numpy.typing import NDArray

from greenroom.audio.frames import FRAME_MS, OUTPUT_RATE, AudioFrame, WordTime
from greenroom.errors import InvalidInputError, SynthesisError

_FULL_SCALE = 32767.0


class SampleRate(int):
    """Hz that frames of 20 ms can be made at; made by `check_rate` alone, so checked once."""

    __slots__ = ()


def check_rate(sample_rate: int) -> SampleRate:
    """Return `sample_rate` if frames of 20 ms can be made at it (8 to 192 kHz, whole samples).

    Raises `InvalidInputError`.
    """
    if isinstance(sample_rate, SampleRate):
        return sample_rate
    whole = isinstance(sample_rate, int) and not isinstance(sample_rate, bool)
    if not whole or not 8_000 <= sample_rate <= 192_000 or sample_rate * FRAME_MS % 1000:
        raise InvalidInputError(
            f"sample_rate {sample_rate!r} Hz cannot be framed; use a whole number between 8000 and "
            "192000 that is divisible by 50, such as 16000, 22050, 24000 or 48000."
        )
    return SampleRate(sample_rate)


class Framer:
    """A stateful converter for one stream: float32 chunks to s16le frames of 20 ms.

    The resampler (soxr, high quality) keeps its state between chunks, so that the result equals
    resampling the whole at once: what is heard at a time of the chunks is heard at the same time of
    the frames. What is above full scale is clipped, never wrapped.
    """

    def __init__(self, source_rate: int, output_rate: int = OUTPUT_RATE) -> None:
        self.source_rate = source_rate
        self.output_rate = int(check_rate(output_rate))
        self._frame_bytes = self.output_rate * FRAME_MS // 1000 * 2
        self._resampler: soxr.ResampleStream | None = None
        self._rest = b""
        self._fed = 0
        """Samples, at the source's rate."""
        self._made = 0
        """Frames."""
        self._tells_words = False
        self._words: deque[WordTime] = deque()
        """Those that begin in a frame yet to be made, from the stream's first sample on."""

    def feed(
        self, samples: NDArray[np.float32], words: Iterable[WordTime] | None = None
    ) -> list[AudioFrame]:
        """Return the frames that `samples` (float32 mono, shape `(n,)`) completes.

        `words` are those of the chunk, from its first sample on; each comes with the frame that it
        begins in. `None` where they are not known. Raises `SynthesisError` for samples that are not
        finite.
        """
        self._tells_words = words is not None
        began_s = self._fed / self.source_rate
        for word in words or ():
            # Of one moment, told from two chunks, the sums may differ in the last digit.
            start_s, end_s = (max(0.0, round(began_s + at, 6)) for at in (word.start_s, word.end_s))
            self._words.append(WordTime(word.text, start_s, end_s))
        self._fed += len(samples)
        return self._frames(self._convert(samples, last=False))

    def finish(self) -> list[AudioFrame]:
        """Return what is left, the last frame padded with silence."""
        frames = self._frames(self._convert(np.zeros(0, np.float32), last=True))
        if self._rest:
            frames += self._frames(bytes(self._frame_bytes - len(self._rest)))
        return frames

    def _convert(self, samples: NDArray[np.float32], *, last: bool) -> bytes:
        mono = np.ascontiguousarray(samples, dtype=np.float32)
        if mono.ndim != 1:
            raise SynthesisError(f"the engine made audio of shape {mono.shape}, not mono `(n,)`.")
        if not np.isfinite(mono).all():
            raise SynthesisError("the engine made samples that are not numbers.")
        if self.source_rate != self.output_rate:
            mono = self._resampled(mono, last=last)
        scaled = np.rint(np.clip(mono, -1.0, 1.0) * _FULL_SCALE)
        return bytes(scaled.astype("<i2").tobytes())

    def _resampled(self, mono: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        if self._resampler is None:  # made with the first samples, in the engine's thread
            self._resampler = soxr.ResampleStream(
                self.source_rate, self.output_rate, 1, dtype="float32"
            )
        resampled: NDArray[np.float32] = self._resampler.resample_chunk(mono, last=last)
        return resampled

    def _frames(self, pcm: bytes) -> list[AudioFrame]:
        pcm = self._rest + pcm
        size = self._frame_bytes
        whole = len(pcm) - len(pcm) % size
        self._rest = pcm[whole:]
        rate, parts = self.output_rate, [pcm[at : at + size] for at in range(0, whole, size)]
        if self._tells_words or self._words:
            return [AudioFrame(part, rate, self._next_words()) for part in parts]
        self._made += len(parts)
        return [AudioFrame(part, rate) for part in parts]

    def _next_words(self) -> tuple[WordTime, ...]:
        """Return the words that begin in the next frame, or before it."""
        self._made += 1
        words = []
        while self._words and self._words[0].start_s * 1000 < self._made * FRAME_MS:
            words.append(self._words.popleft())
        return tuple(words)
