"""From 16-bit PCM to the formats that callers ask for, piece by piece.

A format is its container and codec, what they are called on the wire, and the rates it can have.
Nothing is buffered beyond what the codec itself holds back, and nothing written is changed later:
what comes out may be sent at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import av
import numpy as np

from greenroom.audio.framing import SampleRate, check_rate
from greenroom.audio.wav import streaming_header
from greenroom.errors import InvalidInputError, SynthesisError

_SPEECH_RATE = 24_000
_BIT_RATE = 64_000
"""Of the lossy formats: transparent for one voice."""


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write audio, always mono."""

    name: str
    media_type: str
    """What `Content-Type` says."""
    codec: str = ""
    """FFmpeg's name of the encoder; empty for PCM that is sent as it is."""
    container: str = ""
    """FFmpeg's name of the muxer."""
    rates: tuple[int, ...] = ()
    """Hz that the codec knows; empty: every rate that can be framed."""
    default_rate: int = _SPEECH_RATE
    """Hz unless the caller asks for another."""
    options: dict[str, str] = field(default_factory=dict)
    """Of the muxer."""

    def rate(self, asked: int | None) -> SampleRate:
        """Return the rate to speak at, in Hz; raises `InvalidInputError` for an impossible one."""
        if asked is None:
            return check_rate(self.default_rate)
        if self.rates and asked not in self.rates:
            known = ", ".join(map(str, self.rates))
            raise InvalidInputError(f"{self.name} cannot have {asked} Hz; use one of {known}.")
        return check_rate(asked)

    @property
    def is_raw(self) -> bool:
        """Whether encoding is copying, so that no thread is needed for it."""
        return not self.codec


_AT_ONCE = {"flush_packets": "1"}
FORMATS: dict[str, Format] = {
    made.name: made
    for made in (
        Format(
            "mp3",
            "audio/mpeg",
            "libmp3lame",
            "mp3",
            (8_000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
            options={**_AT_ONCE, "write_xing": "0", "id3v2_version": "0"},
        ),
        Format(
            "opus",
            "audio/opus",
            "libopus",
            "ogg",
            (8_000, 12_000, 16_000, 24_000, 48_000),
            default_rate=48_000,
            options={**_AT_ONCE, "page_duration": "20000"},
        ),
        Format(
            "aac",
            "audio/aac",
            "aac",
            "adts",
            (8_000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 96_000),
            options=_AT_ONCE,
        ),
        Format("flac", "audio/flac", "flac", "flac", options=_AT_ONCE),
        Format("wav", "audio/wav"),
        Format("pcm", "audio/pcm"),
    )
}
"""By the names that OpenAI gives them."""


class Encoder(Protocol):
    """Writes one stream; `feed` any number of times, then `finish`, and `close` in any case."""

    def feed(self, pcm: bytes) -> bytes:
        """Return what can be written once `pcm` (s16le mono) has come."""

    def finish(self) -> bytes:
        """Return the rest."""

    def close(self) -> None:
        """Free what the codec holds; the stream need not be finished."""


def encoder_for(made: Format, sample_rate: int) -> Encoder:
    """Return an encoder of audio at `sample_rate` Hz, a rate that `Format.rate` returned."""
    if made.is_raw:
        return _Raw(streaming_header(sample_rate) if made.name == "wav" else b"")
    return _Coded(made, sample_rate)


class _Raw:
    """PCM as it is, after a header if there is one."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def feed(self, pcm: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + pcm

    def finish(self) -> bytes:
        return self.feed(b"")

    def close(self) -> None:
        pass


class _Coded:
    """What FFmpeg writes; not to be called by two threads at once.

    Raises `SynthesisError` when FFmpeg fails.
    """

    def __init__(self, made: Format, sample_rate: int) -> None:
        self._rate = int(sample_rate)  # FFmpeg's binding takes no other kind of int
        self._written = _Written()
        self._at = 0  # in samples
        self._container = av.open(
            self._written, "w", format=made.container, options=dict(made.options)
        )
        stream = self._container.add_stream(made.codec, rate=self._rate, layout="mono")
        self._stream = cast("av.AudioStream", stream)
        if made.codec != "flac":
            self._stream.bit_rate = _BIT_RATE

    def feed(self, pcm: bytes) -> bytes:
        samples = np.frombuffer(pcm, "<i2").reshape(1, -1)
        if not samples.size:
            return b""
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._at
        self._at += samples.size
        self._write(frame)
        return self._written.take()

    def finish(self) -> bytes:
        self._write(None)
        self.close()
        return self._written.take()

    def close(self) -> None:
        self._container.close()

    def _write(self, frame: av.AudioFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except av.FFmpegError as error:
            raise SynthesisError(f"the audio cannot be encoded: {error}.") from error


class _Written:
    """A file that cannot seek, so that FFmpeg goes back to nothing it wrote."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
