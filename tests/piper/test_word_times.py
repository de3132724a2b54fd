"""When each word is heard: by the durations of its phonemes, and beside pauses by the audio."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from benchmarks import words as bench
from greenroom import ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.piper.phoneme_runs import LONGEST_IDS
from greenroom.adapters.piper.prepared.build.pipeline import prepare
from greenroom.adapters.piper.prepared.manifest import FILE_NAME, Manifest
from greenroom.adapters.piper.prepared.store.store import Store, default_store
from greenroom.audio.frames import WordTime
from tests.piper import synthetic_voice
from tests.piper.real_voice import MODEL, PATIENT
from tests.piper.synthetic_voice import HOP, LETTERS

RATE = 22_050
STILL = {"noise_scale": 0.0, "noise_w_scale": 0.0}


@pytest.fixture(autouse=True)
def _prepared_voices_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENROOM_PREPARE", raising=False)


@pytest.fixture
def voice(tmp_path: Path) -> Iterator[PiperTTSAdapter]:
    """A synthetic voice, prepared; it says letters."""
    model = synthetic_voice.write_voice(tmp_path)
    prepare(model, default_store())
    adapter = PiperTTSAdapter(ModelSpec("voice", PiperTTSAdapter, model))
    adapter.load()
    yield adapter
    adapter.unload()


def heard(
    adapter: PiperTTSAdapter, text: str, **options: Any
) -> tuple[list[WordTime], NDArray[np.float32]]:
    """Return the words from the text's first sample on, and the samples, without noise."""
    return bench.heard(adapter, text, {**STILL, **options})


def expected(adapter: PiperTTSAdapter, text: str, length: float) -> list[tuple[str, float, float]]:
    """Return the words by the durations that the voice's own file gives the ids.

    The first begins and the last ends with the sound, which this voice makes all the time.
    """
    model = onnx.load(str(adapter.spec.path))
    (ceil,) = (node.output[0] for node in model.graph.node if node.op_type == "Ceil")
    model.graph.output.append(onnx.ValueInfoProto(name=ceil))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids = [1, 0, *(n for letter in text for n in (LETTERS.index(letter) + 3, 0)), 2]
    given = {
        "input": np.array([ids]),
        "input_lengths": np.array([len(ids)]),
        "scales": np.array([0.0, length, 0.0], np.float32),
    }
    ends = np.concatenate([[0], np.cumsum(session.run([ceil], given)[0].ravel())]) * HOP / RATE
    found = []
    for word in re.finditer(r"\S+", text):
        letters = [at for at in range(word.start(), word.end()) if text[at] not in ".,!?"]
        first, last = 2 + 2 * letters[0], 2 + 2 * letters[-1]
        end = (
            ends[last + 2] if text[letters[-1]] in "szfv" else (ends[last + 1] + ends[last + 2]) / 2
        )
        found.append((word[0], ends[first], end))
    (first_word, _, end), *others = found
    found = [(first_word, 0.0, end), *others]
    (last_word, start, _) = found[-1]
    return [*found[:-1], (last_word, start, ends[-1])]


@pytest.mark.parametrize("length", [1.0, 2.5])
def test_words_in_the_midst_of_sound_are_exact_to_the_durations_of_the_voice(
    voice: PiperTTSAdapter, length: float
) -> None:
    text = "it is said, quite so. words of any kind!"
    words, samples = heard(voice, text, length_scale=length)
    for word, (written, start, end) in zip(words, expected(voice, text, length), strict=True):
        assert word.text == written
        assert word.start_s == pytest.approx(start, abs=2e-6)
        assert word.end_s == pytest.approx(end, abs=1 / RATE)
    assert words[-1].end_s <= samples.size / RATE + 1e-6


def test_they_change_nothing_of_the_samples(voice: PiperTTSAdapter) -> None:
    asked = heard(voice, "a few words.")[1]
    unasked = list(voice.synthesize("a few words.", STILL))
    assert np.array_equal(asked, np.concatenate([chunk.samples for chunk in unasked]))
    assert {chunk.words for chunk in unasked} == {None}


def test_speed_and_the_silence_between_sentences_move_them(voice: PiperTTSAdapter) -> None:
    plain, _ = heard(voice, "so it is.")
    slow, samples = heard(voice, "so it is.", speed=0.5, sentence_silence=1.0)
    assert [word.text for word in slow] == [word.text for word in plain]
    assert slow[-1].end_s > 1.5 * plain[-1].end_s
    assert slow[-1].end_s <= samples.size / RATE - 1.0 + 1e-6


def test_a_text_of_several_runs_has_one_clock(voice: PiperTTSAdapter) -> None:
    text = " ".join(f"{'abcdefgh' * 4} word," for _ in range(LONGEST_IDS // 40))
    words, samples = heard(voice, text)
    assert [word.text for word in words] == text.split()
    assert all(before.end_s <= after.start_s for before, after in pairwise(words))
    assert words[-1].end_s == pytest.approx(samples.size / RATE, abs=1e-6)


def test_a_word_that_two_runs_share_is_told_once_with_both_its_ends(
    voice: PiperTTSAdapter,
) -> None:
    ((word,), samples) = heard(voice, "ab" * LONGEST_IDS)
    assert word.start_s < 0.1 < 0.95 * samples.size / RATE < word.end_s


def test_where_ids_are_not_made_as_espeaks_are_all_words_are_one_span(
    voice: PiperTTSAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_ids = voice._speech.phonemes_to_ids
    monkeypatch.setattr(voice._speech, "phonemes_to_ids", lambda p: to_ids(p)[:-1])
    ((word,), samples) = heard(voice, "not so sure.")
    assert (word.text, word.start_s) == ("not so sure.", 0.0)
    assert word.end_s == pytest.approx(samples.size / RATE, abs=1e-6)


def test_a_voice_that_is_not_prepared_has_none_and_speaks(tmp_path: Path) -> None:
    model = synthetic_voice.write_voice(tmp_path)
    adapter = PiperTTSAdapter(ModelSpec("voice", PiperTTSAdapter, model))
    adapter.load()
    assert not adapter.has_word_times
    chunks = list(adapter.synthesize("a few words.", {**STILL, "word_times": True}))
    assert {chunk.words for chunk in chunks} == {None}
    prepare(model, default_store())
    assert adapter.upgrade()
    assert adapter.has_word_times
    adapter.unload()


@pytest.mark.parametrize(
    "says", [{}, {"durations": True}, {"normalised": True}, {"raw": True}, {"speakers": 2}]
)
def test_durations_are_found_in_every_kind_of_graph(tmp_path: Path, says: dict[str, Any]) -> None:
    files = prepare(synthetic_voice.write_voice(tmp_path, **says), Store(tmp_path / "s", "r"))
    manifest = Manifest.model_validate_json((files.graph / FILE_NAME).read_bytes())
    assert manifest.durations == "durations"
    assert manifest.durations in manifest.stages[0].leave


def test_what_is_rounded_up_but_no_duration_is_left_alone(tmp_path: Path) -> None:
    model = synthetic_voice.graph_of(synthetic_voice.Kind())
    (ceil,) = (node for node in model.graph.node if node.op_type == "Ceil")
    doubled = onnx.helper.make_node("Add", [ceil.input[0], ceil.input[0]], ["double"])
    up = onnx.helper.make_node("Ceil", ["double"], ["up"])
    half = onnx.helper.make_node("Mul", ["up", "half"], ["halved"])
    down = onnx.helper.make_node("Floor", ["halved"], [ceil.output[0]])
    at = list(model.graph.node).index(ceil)
    model.graph.node.remove(ceil)
    for node in (down, half, up, doubled):
        model.graph.node.insert(at, node)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    odd = tmp_path / "odd.onnx"
    onnx.save(model, odd)
    files = prepare(odd, Store(tmp_path / "store", "runtime"))
    manifest = Manifest.model_validate_json((files.graph / FILE_NAME).read_bytes())
    assert manifest.durations == ""
    assert manifest.stages[0].name == "text"


BESIDE_PAUSES = [
    "Hello there, my friend.",
    "One of the best, in 1999, was the old man.",
    "Stop, please!",
    "She asked, quietly, whether the train had left.",
    "Turn left, drive two miles, then turn right.",
    "Nobody moved, nobody spoke.",
    "We need milk, bread, and a dozen eggs.",
    "Sorry, what did you say?",
    "Good night, sleep well.",
]
"""Their words end in stops of every kind, and begin with what the phonemes tell late."""


@pytest.fixture
def joe(prepared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PiperTTSAdapter]:
    """The real voice, prepared, without noise: it speaks alike each time."""
    monkeypatch.setenv("GREENROOM_CACHE_DIR", str(prepared_cache))
    adapter = PiperTTSAdapter(ModelSpec("joe", PiperTTSAdapter, MODEL))
    adapter.load()
    yield adapter
    adapter.unload()


@PATIENT
async def test_words_beside_pauses_begin_and_end_with_the_sound_of_a_real_voice(
    joe: PiperTTSAdapter,
) -> None:
    far: list[tuple[str, str, float]] = []
    pauses = 0
    for text in BESIDE_PAUSES:
        stream = joe.synthesize_stream(text, word_times=True, sample_rate=RATE, **STILL)
        frames = [frame async for frame in stream]
        words = [word for frame in frames for word in frame.words or ()]
        assert [word.text for word in words] == text.split()
        assert all(word.start_s < word.end_s for word in words)
        assert all(before.end_s <= after.start_s for before, after in pairwise(words))
        pcm = np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2")
        sounds = bench.sounding(pcm.astype(np.float32), RATE)
        borders = [("begins", words[0], words[0].start_s - sounds[0][0])]
        borders.append(("ends", words[-1], words[-1].end_s - sounds[-1][1]))
        for word, following in pairwise(words):
            pause = bench.pause_between(sounds, word, following)
            if word.text[-1] == "," and pause is not None:
                pauses += 1
                borders.append(("ends", word, word.end_s - pause[0]))
                borders.append(("begins", following, following.start_s - pause[1]))
        far += [(word.text, kind, by) for kind, word, by in borders if abs(by) > 0.03]
    assert far == []
    assert pauses >= 8
