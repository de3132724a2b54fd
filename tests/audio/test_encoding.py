"""Every format decodes back to what was spoken, streamed and whole alike."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
import soundfile

from greenroom.audio.encoding import FORMATS, Encoder, Format, encoder_for
from greenroom.errors import InvalidInputError

SECONDS = 2.0
CODED = [name for name, made in FORMATS.items() if not made.is_raw]
PADDING_S = {"mp3": 0.2, "aac": 0.3, "opus": 0.03, "flac": 0.0, "wav": 0.0}
"""What a codec adds before and after, at its lowest rate: a frame or two of silence."""


G711 = {"mulaw": "mulaw", "alaw": "alaw", "wav_mulaw": "mulaw", "wav_alaw": "alaw"}


def tone(rate: int, seconds: float = SECONDS) -> bytes:
    """Return a sine of 440 Hz as s16le mono."""
    at = np.arange(int(rate * seconds))
    return (np.sin(2 * np.pi * 440 * at / rate) * 9_000).astype("<i2").tobytes()


def frames(pcm: bytes, rate: int) -> list[bytes]:
    """Return frames of 20 ms."""
    size = rate // 50 * 2
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


def written(encoder: Encoder, pieces: list[bytes]) -> list[bytes]:
    return [*(encoder.feed(piece) for piece in pieces), encoder.finish()]


def decoded(file: bytes) -> tuple[np.ndarray, int, int]:
    """Return samples as float, their rate in Hz and the number of channels."""
    with av.open(io.BytesIO(file), "r") as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("flt")
        parts = [
            part.to_ndarray()
            for frame in container.decode(stream)
            for part in resampler.resample(frame)
        ]
        return np.concatenate(parts, axis=1)[0], stream.rate, stream.channels


def rates(made: Format) -> list[int]:
    return sorted({made.default_rate, *(made.rates or (8_000, 22_050, 48_000))})


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        (name, rate)
        for name in ("mp3", "opus", "aac", "flac", "wav")
        for rate in rates(FORMATS[name])
    ],
)
def test_every_format_decodes_to_the_right_rate_channels_and_duration(name: str, rate: int) -> None:
    made = FORMATS[name]
    file = b"".join(written(encoder_for(made, made.rate(rate)), frames(tone(rate), rate)))
    samples, found, channels = decoded(file)
    assert channels == 1
    assert found == (48_000 if name == "opus" else rate)
    assert SECONDS - 0.03 <= len(samples) / found <= SECONDS + PADDING_S[name]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum) * found / len(samples) == pytest.approx(440, abs=2)
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    assert np.abs(middle).max() == pytest.approx(9_000 / 32_768, rel=0.15)


@pytest.mark.parametrize("name", ["wav", "mp3", "opus"])
def test_soundfile_reads_it_as_well(name: str) -> None:
    """Not FLAC: libsndfile wants to seek in it, and a stream's header says no length."""
    made = FORMATS[name]
    rate = made.default_rate
    file = b"".join(written(encoder_for(made, rate), frames(tone(rate), rate)))
    heard = 0
    with soundfile.SoundFile(io.BytesIO(file)) as sound:
        assert (sound.samplerate, sound.channels) == (rate, 1)
        while len(block := sound.read(4_096)):
            heard += len(block)
    assert heard / rate == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("name", FORMATS)
def test_streamed_and_whole_are_the_same_audio(name: str) -> None:
    made = FORMATS[name]
    rate = made.default_rate
    streamed = b"".join(written(encoder_for(made, rate), frames(tone(rate), rate)))
    whole = b"".join(written(encoder_for(made, rate), [tone(rate)]))
    if name == "opus":  # each file has a random number of its own
        assert len(streamed) == len(whole)
        streamed, whole = (decoded(file)[0].tobytes() for file in (streamed, whole))
    assert streamed == whole


@pytest.mark.parametrize("name", FORMATS)
def test_first_bytes_come_within_a_fifth_of_a_second_of_audio(name: str) -> None:
    made = FORMATS[name]
    rate = made.default_rate
    pieces = written(encoder_for(made, rate), frames(tone(rate), rate))
    assert any(pieces[:10])
    later = [len(piece) for piece in pieces[10:-1]]
    quiet = max(len(run) for run in "".join("x" if n else "." for n in later).split("x"))
    assert quiet <= 10, "audio is held back"


@pytest.mark.parametrize("name", CODED)
def test_an_encoder_that_is_not_finished_can_be_closed(name: str) -> None:
    made = FORMATS[name]
    encoder = encoder_for(made, made.default_rate)
    encoder.feed(tone(made.default_rate, 0.1))
    encoder.close()
    encoder.close()


@pytest.mark.parametrize("name", FORMATS)
def test_silence_of_no_length_is_a_file_all_the_same(name: str) -> None:
    made = FORMATS[name]
    encoder = encoder_for(made, made.default_rate)
    assert encoder.feed(b"") == b"" or name.startswith("wav")
    encoder.finish()
    encoder.close()


@pytest.mark.parametrize(("name", "law"), G711.items())
def test_g711_is_what_ffmpeg_decodes_to_the_nearest_sample(name: str, law: str) -> None:
    every = np.arange(-32_768, 32_768).astype("<i2")
    pieces = [every[at : at + 160].tobytes() for at in range(0, len(every), 160)]
    file = b"".join(written(encoder_for(FORMATS[name], 8_000), pieces))
    kind, options = (None, {}) if name.startswith("wav") else (law, {"sample_rate": "8000"})
    with av.open(io.BytesIO(file), "r", format=kind, options=options) as container:
        stream = container.streams.audio[0]
        assert (stream.rate, stream.channels, stream.codec_context.name) == (8_000, 1, f"pcm_{law}")
        parts = [frame.to_ndarray()[0] for frame in container.decode(stream)]
    found = np.concatenate(parts).astype(int)
    assert len(found) == len(every)
    far = np.abs(found - every)
    assert (far <= np.maximum(8, np.abs(every.astype(int)) / 30)).mean() > 0.99
    assert far.max() <= 650  # half of the widest step, and what is above the loudest code


def test_wav_of_g711_says_so_and_has_no_end() -> None:
    file = b"".join(written(encoder_for(FORMATS["wav_mulaw"], 8_000), [b"\0\0" * 8]))
    assert file[:4] + file[8:16] == b"RIFFWAVEfmt "
    assert int.from_bytes(file[20:22], "little") == 7
    assert file[-16:-8] == b"data\xff\xff\xff\xff"
    assert file[-8:] == b"\xff" * 8, "silence is 0xFF in µ-law"


def test_pcm_is_headerless_and_24_khz_unless_asked_otherwise() -> None:
    made = FORMATS["pcm"]
    assert made.rate(None) == 24_000
    assert b"".join(written(encoder_for(made, 24_000), [b"ab", b"cd"])) == b"abcd"


def test_wav_of_unknown_length_has_the_sizes_that_mean_until_the_end() -> None:
    file = b"".join(written(encoder_for(FORMATS["wav"], 24_000), [b"ab"]))
    assert file[:4] == b"RIFF"
    assert file[4:8] == file[40:44] == b"\xff\xff\xff\xff"
    assert file[44:] == b"ab"


@pytest.mark.parametrize(
    ("name", "rate"), [("mp3", 11_025), ("opus", 22_050), ("aac", 192_000), ("pcm", 7), ("wav", 1)]
)
def test_rates_that_a_format_cannot_have_are_refused_with_those_it_can(
    name: str, rate: int
) -> None:
    with pytest.raises(InvalidInputError, match=str(rate)):
        FORMATS[name].rate(rate)
