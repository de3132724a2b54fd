"""From 16-bit PCM to the formats that callers ask for, piece by piece.

A format is its container and codec, what they are called on the wire, and the rates it can have.
Nothing is buffered beyond what the codec itself holds back, and nothing written is changed later:
what comes out may be sent at once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, cast

import av
import numpy as np
from numpy.typing import NDArray

from greenroom.audio.framing import SampleRate, check_rate
from greenroom.audio.wav import A_LAW, LINEAR, MU_LAW, streaming_header
from greenroom.errors import InvalidInputError, SynthesisError

_SPEECH_RATE = 24_000
_TELEPHONE_RATE = 8_000
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
    """FFmpeg's name of the muxer; empty where samples are written one by one."""
    rates: tuple[int, ...] = ()
    """Hz that the codec knows; empty: every rate that can be framed."""
    default_rate: int = _SPEECH_RATE
    """Hz unless the caller asks for another."""
    options: dict[str, str] = field(default_factory=dict)
    """Of the muxer, for what is sent as it is made."""
    wav_tag: int | None = None
    """Which WAV header goes before samples that are written one by one, if any."""

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
        """Whether samples are written one by one, so that no thread is needed for it."""
        return not self.container

    @property
    def sample_bytes(self) -> int | None:
        """Bytes of a sample, where each has as many."""
        if not self.is_raw:
            return None
        return 1 if self.codec else 2


def _telephone(name: str, media_type: str, codec: str, wav_tag: int | None = None) -> Format:
    return Format(
        name,
        media_type,
        codec,
        rates=(_TELEPHONE_RATE,),
        default_rate=_TELEPHONE_RATE,
        wav_tag=wav_tag,
    )


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
        Format("wav", "audio/wav", wav_tag=LINEAR),
        Format("pcm", "audio/pcm"),
        _telephone("mulaw", "audio/basic", "pcm_mulaw"),
        _telephone("alaw", "audio/x-alaw-basic", "pcm_alaw"),
        _telephone("wav_mulaw", "audio/wav", "pcm_mulaw", MU_LAW),
        _telephone("wav_alaw", "audio/wav", "pcm_alaw", A_LAW),
    )
}
"""By name: six that OpenAI has, and G.711 as telephones have it.

The media types of the latter are those of RFC 2046 (section 4.3) and of VoiceXML 2.0 (appendix E).
"""

_OTHER_NAMES = {
    "mulaw": ("ulaw", "pcmu", "g711_ulaw", "pcm_mulaw", "ulaw_8000", "mu-law", "µ-law", "μ-law"),
    "alaw": ("pcma", "g711_alaw", "pcm_alaw", "alaw_8000", "a-law"),
    "wav_mulaw": ("wav_ulaw",),
}
"""ElevenLabs says `ulaw_8000`, Cartesia `pcm_mulaw`, OpenAI's Realtime `g711_ulaw`, RTP PCMU."""

FORMAT_NAMES: dict[str, str] = {
    **{name: name for name in FORMATS},
    **{other: name for name, others in _OTHER_NAMES.items() for other in others},
}
"""Every name of a format, in small letters, with that of `FORMATS`."""


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
    if not made.is_raw:
        return _Coded(made, sample_rate, _Written(), made.options)
    header = b"" if made.wav_tag is None else streaming_header(sample_rate, made.wav_tag)
    return _Raw(header, _codes(made.codec) if made.codec else None)


def file_encoder(made: Format, sample_rate: int, file: BinaryIO) -> Encoder:
    """Return an encoder that writes to `file`, which can seek, and gives nothing itself.

    So the head of a compressed file tells how long it is; `made` is none that is raw.
    """
    assert not made.is_raw, made
    return _Coded(made, sample_rate, _OnDisk(file), {})


@functools.cache
def _codes(codec: str) -> NDArray[np.uint8]:
    """Return the byte for each sample (s16, as u16), which FFmpeg's encoder is asked for once."""
    samples = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
    encoder = cast("av.AudioCodecContext", av.CodecContext.create(codec, "w"))
    encoder.format, encoder.layout, encoder.sample_rate = "s16", "mono", _TELEPHONE_RATE
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = _TELEPHONE_RATE
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    return np.frombuffer(b"".join(map(bytes, packets)), np.uint8)


class _Raw:
    """Sample for sample, as it is or by a table of codes, after a header if there is one."""

    def __init__(self, header: bytes, codes: NDArray[np.uint8] | None = None) -> None:
        self._header = header
        self._codes = codes

    def feed(self, pcm: bytes) -> bytes:
        header, self._header = self._header, b""
        if self._codes is not None:
            pcm = self._codes[np.frombuffer(pcm, "<u2")].tobytes()
        return header + pcm

    def finish(self) -> bytes:
        return self.feed(b"")

    def close(self) -> None:
        pass


class _Coded:
    """What FFmpeg writes; not to be called by two threads at once.

    Raises `SynthesisError` when FFmpeg fails.
    """

    def __init__(
        self,
        made: Format,
        sample_rate: int,
        written: _Written | _OnDisk,
        options: Mapping[str, str],
    ) -> None:
        """`options` are those of the muxer."""
        self._rate = int(sample_rate)  # FFmpeg's binding takes no other kind of int
        self._written = written
        self._at = 0  # in samples
        self._container = av.open(written, "w", format=made.container, options=dict(options))
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


class _OnDisk:
    """A file that can seek: FFmpeg completes its head at the end.

    An error is raised by `take`: FFmpeg's binding would print it, and go on.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._problem: OSError | None = None

    def write(self, part: Any) -> int:
        if self._problem is None:
            try:
                self._file.write(part)
            except OSError as error:
                self._problem = error
        return len(part)

    def seek(self, offset: int, whence: int = 0) -> int:
        if self._problem is None:
            try:
                return self._file.seek(offset, whence)
            except OSError as error:
                self._problem = error
        return offset

    def tell(self) -> int:
        return self._file.tell()

    def take(self) -> bytes:
        if self._problem is not None:
            raise self._problem
        return b""
