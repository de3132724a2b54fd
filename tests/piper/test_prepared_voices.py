"""The Piper adapter takes the prepared voice if there is one, else the voice's own file."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom import ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter, session
from greenroom.adapters.piper.loudness import TARGET, gain_of
from greenroom.adapters.piper.piper_preparation import PiperPreparation
from greenroom.adapters.piper.prepared.build import pipeline
from greenroom.adapters.piper.prepared.build.pipeline import prepare
from greenroom.adapters.piper.prepared.run.prepared_voice import (
    GRAPH_BYTES,
    VOICE_BYTES,
    PreparedVoice,
)
from greenroom.adapters.piper.prepared.run.shared_graphs import GRAPHS
from greenroom.adapters.piper.prepared.store.index import _INDEX, write_index
from greenroom.adapters.piper.prepared.store.lookup import UNWEIGHED, is_prepared
from greenroom.adapters.piper.prepared.store.store import default_store
from greenroom.adapters.piper.session import CpuSession
from tests.piper import synthetic_voice

TEXT = "the quick brown fox jumps over the lazy dog"
STILL = {"noise_scale": 0.0, "noise_w_scale": 0.0}


@pytest.fixture
def prepares(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let prepared voices be used."""
    monkeypatch.setenv("GREENROOM_PREPARE", "on")
    yield
    assert len(GRAPHS) == 0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return synthetic_voice.write_voice(tmp_path)


def loaded(model: Path, **options: Any) -> PiperTTSAdapter:
    adapter = PiperTTSAdapter(ModelSpec("voice", PiperTTSAdapter, model, options=options))
    adapter.load()
    return adapter


def said(adapter: PiperTTSAdapter, text: str = TEXT, **options: Any) -> np.ndarray:
    chunks = adapter.synthesize(text, {**adapter.spec.options, **STILL, **options})
    return np.concatenate([chunk.samples for chunk in chunks])


def warmed(model: Path, **options: Any) -> PiperTTSAdapter:
    adapter = loaded(model, **options)
    assert list(adapter.warm_up(TEXT))
    return adapter


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_the_prepared_voice_sounds_as_the_file_itself(
    tmp_path: Path, prepares: None, rate: int
) -> None:
    model = synthetic_voice.write_voice(tmp_path, rate=rate)
    own = loaded(model)
    assert isinstance(own._session, CpuSession)
    prepare(model, default_store())
    ours = loaded(model)
    assert isinstance(ours._session, PreparedVoice)
    assert own.sample_rate == ours.sample_rate == rate
    for text in ("a", TEXT, TEXT * 5):
        assert np.abs(said(own, text) - said(ours, text)).max() < 1e-4
    own.unload()
    ours.unload()


def test_it_says_which_form_is_in_memory_and_which_the_next_load_takes(
    model: Path, prepares: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = PiperPreparation()
    own = loaded(model)
    assert (own.form, preparation.next_form(own.spec)) == ("own file", "own file")
    prepare(model, default_store())
    ours = loaded(model)
    assert (own.form, ours.form) == ("own file", "prepared")
    assert preparation.next_form(ours.spec) == "prepared"
    as_it_is = ModelSpec("voice", PiperTTSAdapter, model, options={"prepare": 0})
    assert preparation.next_form(as_it_is) == "own file"
    monkeypatch.setenv("GREENROOM_PREPARE", "off")
    assert preparation.next_form(ours.spec) == "own file"
    own.unload()
    ours.unload()
    assert own.form == ""


def test_a_preparation_that_was_ended_before_it_weighed_the_voice_is_taken_up_again(
    model: Path, prepares: None
) -> None:
    files = prepare(model, default_store(), {UNWEIGHED: True})
    assert VOICE_BYTES not in files.facts
    assert not is_prepared(model)
    assert pipeline.main([str(model)]) == 0
    weighed = default_store().find(model)
    assert weighed is not None
    assert weighed.facts[VOICE_BYTES] > 0
    assert weighed.weights == files.weights
    assert is_prepared(model)


def test_every_speaker_sounds_as_in_the_file_itself(tmp_path: Path, prepares: None) -> None:
    model = synthetic_voice.write_voice(tmp_path, speakers=3)
    own = loaded(model)
    prepare(model, default_store())
    ours = loaded(model)
    audio = [said(ours, speaker=f"speaker{number}") for number in range(3)]
    for number, heard in enumerate(audio):
        expected = said(own, speaker=number)
        assert heard.shape == expected.shape
        assert np.abs(heard - expected).max() < 1e-4
    assert len({heard.tobytes() for heard in audio}) == 3
    own.unload()
    ours.unload()


def test_each_states_its_own_memory_and_beside_it_the_graph_that_they_share(
    model: Path, prepares: None
) -> None:
    prepare(model, default_store(), {GRAPH_BYTES: 1_000, VOICE_BYTES: 10})
    one, other = loaded(model), loaded(model)
    assert one.footprint_bytes() == other.footprint_bytes() == 10
    name, size = one.shared_memory() or ("", 0)
    assert (name[:6], size) == ("graph ", 1_000)
    assert other.shared_memory() == (name, size)
    one.unload()
    assert one.shared_memory() is None
    assert other.shared_memory() == (name, size)
    other.unload()


def test_loading_another_model_of_the_same_file_finds_it_prepared(
    model: Path, prepares: None
) -> None:
    prepare(model, default_store())
    one, other = loaded(model), loaded(model, volume=0.5)
    assert isinstance(one._session, PreparedVoice)
    assert isinstance(other._session, PreparedVoice)
    assert one._session._graph is other._session._graph
    assert np.allclose(said(one) * 0.5, said(other), atol=1e-6)
    one.unload()
    assert len(said(other))
    other.unload()


@pytest.mark.parametrize("says", ["option", "environment"])
def test_a_voice_that_is_not_to_be_prepared_uses_its_file(
    model: Path, prepares: None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(model, default_store())
    if says == "environment":
        monkeypatch.setenv("GREENROOM_PREPARE", "off")
    adapter = loaded(model, **({"prepare": 0} if says == "option" else {}))
    assert isinstance(adapter._session, CpuSession)
    adapter.unload()


def remove_blob(cache: Path) -> None:
    next(cache.rglob("text.onnx")).unlink()


def alter_blob(cache: Path) -> None:
    blob = next(cache.rglob("decoder.onnx"))
    blob.write_bytes(blob.read_bytes()[::-1])


def alter_weights(cache: Path) -> None:
    weights = next(cache.rglob("*.weights"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 0xFF
    weights.write_bytes(content)


def truncate_weights(cache: Path) -> None:
    weights = next(cache.rglob("*.weights"))
    weights.write_bytes(weights.read_bytes()[:-4])


def alter_index(
    change: Callable[[dict[str, Any]], None], *, sealed: bool
) -> Callable[[Path], None]:
    """Return what changes an index, and, if `sealed`, seals it anew: as if it was made that way."""

    def spoil(cache: Path) -> None:
        (path,) = cache.glob("voices/*.json")
        content = json.loads(path.read_bytes())
        change(content)
        path.write_text(json.dumps(content))
        if sealed:
            index = _INDEX.validate_json(path.read_bytes())
            write_index(path, index)

    return spoil


def another_shape(content: dict[str, Any]) -> None:
    tensor = next(each for each in content["tensors"] if len(set(each["shape"])) > 1)
    tensor["shape"] = tensor["shape"][::-1]


def another_offset(content: dict[str, Any]) -> None:
    content["tensors"][1]["offset"] = 0


def beyond_the_end(content: dict[str, Any]) -> None:
    content["tensors"][-1]["offset"] += 2**30


def one_less(content: dict[str, Any]) -> None:
    del content["tensors"][-1]


def another_name(content: dict[str, Any]) -> None:
    content["tensors"][0]["name"] += "x"


def names_exchanged(content: dict[str, Any]) -> None:
    first, second = content["tensors"][:2]
    first["name"], second["name"] = second["name"], first["name"]


def names_of_one_shape_exchanged(content: dict[str, Any]) -> None:
    """What the graph cannot tell, and only the seal shows."""
    for first, second in itertools.combinations(content["tensors"], 2):
        if first["shape"] == second["shape"]:
            first["name"], second["name"] = second["name"], first["name"]
            return
    raise AssertionError("no two weights have one shape")


ALTERED = [another_shape, another_offset, beyond_the_end, one_less, another_name, names_exchanged]


@pytest.mark.parametrize(
    "spoil",
    [
        remove_blob,
        alter_blob,
        alter_weights,
        truncate_weights,
        alter_index(names_of_one_shape_exchanged, sealed=False),
        *(alter_index(change, sealed=False) for change in ALTERED),
        *(alter_index(change, sealed=True) for change in ALTERED),
    ],
)
def test_a_broken_prepared_form_is_one_line_in_the_log_and_the_file_serves(
    model: Path, prepares: None, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own = loaded(model)
    prepare(model, default_store())
    spoil(default_store()._layout.root)
    with caplog.at_level(logging.WARNING):
        adapter = loaded(model)
    (record,) = caplog.records
    assert model.name in record.getMessage()
    assert isinstance(adapter._session, CpuSession)
    assert np.array_equal(said(adapter), said(own))
    adapter.unload()
    own.unload()
    prepare(model, default_store())
    again = loaded(model)
    assert isinstance(again._session, PreparedVoice)
    again.unload()


def test_a_prepared_form_that_the_engine_refuses_is_one_line_and_the_file_serves(
    model: Path,
    prepares: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(model, default_store())

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("not a graph of mine")

    monkeypatch.setattr(session, "PreparedVoice", refuse)
    with caplog.at_level(logging.WARNING):
        adapter = loaded(model)
    assert [record.getMessage() for record in caplog.records] == [
        f"{model.name}: its prepared form cannot be used: not a graph of mine"
    ]
    assert len(said(adapter))
    adapter.unload()


def test_a_prepared_form_that_cannot_say_the_first_words_is_left_for_the_file(
    model: Path,
    prepares: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = warmed(model)
    prepare(model, default_store())

    def fail(*_: Any) -> None:
        raise RuntimeError("got invalid dimensions")

    monkeypatch.setattr(PreparedVoice, "speak", fail)
    with caplog.at_level(logging.WARNING):
        adapter = warmed(model)
    assert [record.getMessage() for record in caplog.records] == [
        "voice: its prepared form cannot speak: got invalid dimensions"
    ]
    assert adapter.form == "own file"
    assert np.array_equal(said(adapter), said(own))
    adapter.unload()
    own.unload()


def test_a_voice_moves_over_to_its_prepared_form_and_sounds_as_before(
    model: Path, prepares: None
) -> None:
    adapter = warmed(model)
    before, stated = said(adapter), adapter.footprint_bytes()
    assert not adapter.upgrade()
    prepare(model, default_store())
    assert adapter.upgrade()
    assert adapter.form == "prepared"
    assert np.abs(said(adapter) - before).max() < 1e-4
    assert adapter.footprint_bytes() != stated
    assert not adapter.upgrade()
    adapter.unload()
    assert not adapter.upgrade()


def test_a_speech_that_has_begun_ends_on_the_engine_it_began_with_which_closes_after_it(
    model: Path, prepares: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = warmed(model)
    text = f"{TEXT} " * 12
    expected = said(adapter, text)
    prepare(model, default_store())
    old = adapter._session
    assert isinstance(old, CpuSession)
    speech = adapter.synthesize(text, {**adapter.spec.options, **STILL})
    begun = next(speech)
    assert adapter.upgrade()
    assert old._session is not None
    assert len(said(adapter))
    heard = [begun.samples, *(chunk.samples for chunk in speech)]
    assert np.array_equal(np.concatenate(heard), expected)
    assert old._session is None
    adapter.unload()


def test_an_upgrade_that_comes_after_the_unload_leaves_nothing_open(
    model: Path, prepares: None
) -> None:
    adapter = warmed(model)
    prepare(model, default_store())
    swappable = adapter._swappable
    assert swappable is not None
    adapter.unload()
    late = session.open_prepared(model, "cpu", {}, 22_050)
    assert late is not None
    swappable.replace(late)  # GRAPHS is empty at the end


def test_the_cache_deleted_under_a_voice_that_speaks_harms_it_not(
    model: Path, prepares: None
) -> None:
    import shutil

    prepare(model, default_store())
    adapter = loaded(model)
    expected = said(adapter)
    shutil.rmtree(default_store()._layout.root)
    assert np.array_equal(said(adapter), expected)
    fresh = loaded(model)
    assert isinstance(fresh._session, CpuSession)
    adapter.unload()
    fresh.unload()


def test_a_new_version_of_the_file_is_not_spoken_with_the_old_ones_weights(
    model: Path, prepares: None
) -> None:
    prepare(model, default_store())
    old = loaded(model)
    before = said(old)
    synthetic_voice.write_voice(model.parent, seed=9)
    new = loaded(model)
    assert isinstance(new._session, CpuSession)
    assert np.array_equal(said(old), before)
    assert not np.array_equal(said(new)[:500], before[:500])
    prepare(model, default_store())
    prepared = loaded(model)
    assert np.abs(said(prepared) - said(new)).max() < 1e-4
    for adapter in (old, new, prepared):
        adapter.unload()


@pytest.mark.parametrize("prepared", [False, True])
def test_warmup_gives_a_voice_one_gain_for_every_later_sentence(
    model: Path, prepares: None, prepared: bool
) -> None:
    if prepared:
        prepare(model, default_store())
    plain = loaded(model, gain=1.0)
    adapter = warmed(model)
    expected = gain_of(said(plain))
    assert expected != pytest.approx(1.0, abs=0.01)
    for text in (TEXT, "a", "hush, hush"):
        assert np.allclose(said(adapter, text), said(plain, text) * expected, atol=1e-6)
    plain.unload()
    adapter.unload()


def test_a_gain_that_is_given_is_the_one_that_is_used(model: Path) -> None:
    adapter = warmed(model, gain=0.25)
    assert np.abs(said(adapter)).max() == pytest.approx(0.25 * np.abs(said(adapter, gain=1)).max())
    adapter.unload()


def test_volume_changes_what_is_heard_however_the_voice_was_warmed(model: Path) -> None:
    loud, soft = warmed(model), warmed(model, volume=0.5)
    assert np.allclose(said(soft), said(loud) * 0.5, atol=1e-6)
    silent = warmed(model, volume=0.0)
    assert not said(silent).any()
    assert np.allclose(said(silent, volume=1.0), said(loud), atol=1e-6)
    for adapter in (loud, soft, silent):
        adapter.unload()


def test_a_voice_that_is_loaded_again_has_the_same_gain(model: Path) -> None:
    adapter = warmed(model)
    before = said(adapter)
    adapter.unload()
    adapter.load()
    assert list(adapter.warm_up(TEXT))
    assert np.array_equal(said(adapter), before)
    adapter.unload()


def test_gain_brings_speech_to_one_loudness_and_leaves_silence_alone() -> None:
    hum = np.sin(np.arange(20_000) / 5).astype(np.float32)
    for loudness in (0.03, 0.1, 0.5):
        samples = hum * np.float32(loudness)
        assert np.sqrt(np.mean((samples * gain_of(samples)) ** 2)) == pytest.approx(TARGET, 0.01)
        pauses = np.concatenate([samples, np.zeros(40_000, np.float32)])
        assert gain_of(pauses) == pytest.approx(gain_of(samples), 0.02)
    assert gain_of(np.zeros(5_000, np.float32)) == 1.0
    assert gain_of(np.zeros(0, np.float32)) == 1.0
    assert gain_of(hum * np.float32(1e-4)) == 8.0


def test_gain_leaves_room_above_the_loudest_sample() -> None:
    clicks = np.sin(np.arange(20_000) / 5).astype(np.float32) * np.float32(0.01)
    clicks[::5_000] = 0.5
    assert np.abs(clicks * gain_of(clicks)).max() <= 0.7 + 1e-6
