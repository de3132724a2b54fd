"""Audio: no seam at chunk borders, no wrap at full scale, no frame short."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from greenroom import InvalidInputError, SynthesisError
from greenroom.audio import Framer, check_rate, write_wav
from greenroom.audio.wav import streaming_header


def sweep(seconds: float, rate: int) -> np.ndarray:
    """A chirp from 100 Hz to a third of the rate: every seam would be heard, and seen."""
    at = np.arange(int(seconds * rate)) / rate
    return (0.8 * np.sin(2 * np.pi * (100 + (rate / 6 / seconds) * at) * at)).astype(np.float32)


def pcm_of(framer: Framer, chunks: list[np.ndarray]) -> np.ndarray:
    frames = [frame for chunk in chunks for frame in framer.feed(chunk)] + framer.finish()
    return np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2")


@given(
    borders=st.lists(st.integers(0, 22_050), max_size=12),
    rates=st.sampled_from([(22_050, 48_000), (16_000, 48_000), (24_000, 48_000), (48_000, 24_000)]),
)
def test_resampling_in_chunks_equals_resampling_the_whole(
    borders: list[int], rates: tuple[int, int]
) -> None:
    source, output = rates
    whole = sweep(1.0, source)
    chunks = np.split(whole, sorted(min(b, len(whole)) for b in borders))
    got = pcm_of(Framer(source, output), chunks).astype(np.int32)
    expected = np.rint(np.clip(soxr.resample(whole, source, output), -1, 1) * 32767)
    assert len(got) - len(expected) in range(-1, output // 50 + 1)
    shared = min(len(got), len(expected))
    assert np.abs(got[:shared] - expected[:shared]).max() <= 1
    assert not got[shared:].any()


def test_without_resampling_every_sample_is_kept() -> None:
    whole = sweep(0.5, 48_000)
    got = pcm_of(Framer(48_000), np.split(whole, [7, 1_000, 1_001, 20_000]))
    assert np.array_equal(got, np.rint(whole * 32767).astype(np.int16))


def test_what_is_above_full_scale_is_clipped_and_never_wraps() -> None:
    got = pcm_of(Framer(48_000), [np.array([1.5, -1.5, 1.0, -1.0, 0.0], np.float32)])
    assert got[:5].tolist() == [32767, -32767, 32767, -32767, 0]


@pytest.mark.parametrize(("rate", "samples"), [(48_000, 960), (24_000, 480), (22_050, 441)])
def test_every_frame_is_twenty_milliseconds_and_the_last_is_padded(rate: int, samples: int) -> None:
    framer = Framer(rate, rate)
    frames = framer.feed(np.ones(samples + 3, np.float32)) + framer.finish()
    assert [frame.samples for frame in frames] == [samples, samples]
    assert [frame.sample_rate for frame in frames] == [rate, rate]
    last = np.frombuffer(frames[1].pcm, "<i2")
    assert last[:3].all()
    assert not last[3:].any()


def test_nothing_in_gives_nothing_out() -> None:
    assert Framer(48_000).feed(np.zeros(0, np.float32)) == []
    assert Framer(48_000).finish() == []


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([0.0, np.nan], np.float32), "not numbers"),
        (np.array([np.inf], np.float32), "not numbers"),
        (np.zeros((2, 3), np.float32), r"shape \(2, 3\)"),
    ],
)
def test_samples_that_are_no_mono_audio_are_an_error(samples: np.ndarray, message: str) -> None:
    with pytest.raises(SynthesisError, match=message):
        Framer(48_000).feed(samples)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_common_rates_can_be_framed(rate: int) -> None:
    assert check_rate(rate) == rate


@pytest.mark.parametrize("rate", [7_950, 192_050, 11_025, 0, -48_000, 48_000.0, True, None])
def test_other_rates_are_refused(rate: int) -> None:
    with pytest.raises(InvalidInputError, match="cannot be framed"):
        check_rate(rate)


def test_a_wav_file_holds_what_was_written() -> None:
    file = io.BytesIO()
    write_wav(file, b"\x01\x00\x02\x00", 24_000)
    file.seek(0)
    with wave.open(file) as read:
        assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (24_000, 1, 2)
        assert read.readframes(9) == b"\x01\x00\x02\x00"


def test_a_streaming_wav_header_says_until_the_end() -> None:
    header = streaming_header(48_000)
    assert len(header) == 44
    assert header[4:8] == header[40:44] == b"\xff" * 4
    assert header[:4] + header[8:12] == b"RIFFWAVE"
