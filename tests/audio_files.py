"""What an audio file sounds like, decoded by FFmpeg."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np


@dataclass(frozen=True)
class Sound:
    """A decoded file."""

    samples: np.ndarray
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def frequency(self) -> float:
        """The loudest frequency in Hz."""
        spectrum = np.abs(np.fft.rfft(self.samples * np.hanning(len(self.samples))))
        return float(spectrum.argmax()) * self.rate / len(self.samples)

    @property
    def loudness(self) -> float:
        """Root mean square, of 1.0 at full scale."""
        return float(np.sqrt((self.samples.astype(float) ** 2).mean()))


def heard(file: bytes, name: str) -> Sound:
    """Decode a file of one of OpenAI's formats, or G.711; `pcm` is 24 kHz."""
    if name == "pcm":
        return Sound(np.frombuffer(file, "<i2") / 32_768, 24_000, 1)
    headerless = {
        "mulaw": ("mulaw", {"sample_rate": "8000"}),
        "alaw": ("alaw", {"sample_rate": "8000"}),
    }
    container_format, options = headerless.get(name, (None, {}))
    with av.open(io.BytesIO(file), "r", format=container_format, options=options) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("flt")
        parts = [
            part.to_ndarray()
            for frame in container.decode(stream)
            for part in resampler.resample(frame)
        ]
        samples = np.concatenate(parts, axis=1)[0]
        return Sound(samples, stream.rate, stream.channels)
