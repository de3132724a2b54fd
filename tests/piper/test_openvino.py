"""OpenVINO makes the waveform where a model's options ask for it and the processor can."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from greenroom import ConfigError, InvalidInputError, ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter, piper_adapter
from greenroom.adapters.piper.prepared.build.pipeline import prepare
from greenroom.adapters.piper.prepared.run import openvino_stage
from greenroom.adapters.piper.prepared.run.openvino_stage import FOOTPRINT_BYTES, OpenvinoStage
from greenroom.adapters.piper.prepared.run.prepared_voice import PreparedVoice, sentence
from greenroom.adapters.piper.prepared.run.shared_graphs import GRAPHS
from greenroom.adapters.piper.prepared.run.stage import BoundStage
from greenroom.adapters.piper.prepared.store.paths import PreparedFiles
from greenroom.adapters.piper.prepared.store.store import Store, default_store
from tests.piper import synthetic_voice

IDS = 120
"""Of a sentence that is long enough for tiles of both lengths."""


def _can() -> bool:
    if importlib.util.find_spec("openvino") is None:
        return False
    core = openvino_stage._openvino().Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


needs_it = pytest.mark.skipif(not _can(), reason="needs OpenVINO and a processor with bfloat16")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedFiles]:
    """Two voices of one graph."""
    folder = tmp_path_factory.mktemp("voices")
    store = Store(folder / "cache", "runtime")
    voices = [synthetic_voice.write_voice(folder, f"v{seed}", seed=seed) for seed in (1, 2)]
    return [prepare(voice, store) for voice in voices]


@pytest.fixture(autouse=True)
def leaves_no_graph() -> Iterator[None]:
    yield
    assert len(GRAPHS) == 0


def spoken(voice: PreparedVoice, length: int = IDS) -> npt.NDArray[np.float32]:
    return np.concatenate(list(voice.speak(sentence(length))))


def in_onnxruntime(files: PreparedFiles) -> npt.NDArray[np.float32]:
    voice = PreparedVoice(files, threads=1)
    try:
        return spoken(voice)
    finally:
        voice.close()


def waveform(voice: PreparedVoice) -> OpenvinoStage:
    stage = voice._stages["waveform"]
    assert isinstance(stage, OpenvinoStage)
    return stage


@needs_it
def test_the_waveform_is_onnxruntimes_but_for_the_noise_of_its_rounding(
    stored: list[PreparedFiles],
) -> None:
    exact = in_onnxruntime(stored[0])
    voice = PreparedVoice(stored[0], threads=1, runtime="openvino")
    try:
        samples = spoken(voice)
    finally:
        voice.close()
    assert samples.shape == exact.shape
    noise = np.square(samples - exact).mean() / np.square(exact).mean()
    assert 0 < noise < 1e-3


@needs_it
def test_in_float32_its_tiles_are_what_onnxruntime_makes_of_the_whole(
    stored: list[PreparedFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = openvino_stage._settings
    exactly = {"INFERENCE_PRECISION_HINT": "f32"}
    monkeypatch.setattr(openvino_stage, "_settings", lambda n: {**settings(n), **exactly})
    voice = PreparedVoice(stored[0], threads=1, runtime="openvino")
    try:
        stage = waveform(voice)
        for frames in (1, 15, 16, 17, 32, 33, 60, 200):
            columns = np.random.default_rng(frames).normal(size=(1, 8, frames * 4))
            feeds = {stage.manifest.timed[0]: columns.astype(np.float32)}
            (made,), (expected,) = stage.run(feeds).values(), stage._short.run(feeds).values()
            assert made.shape == expected.shape
            np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5)
    finally:
        voice.close()


@needs_it
def test_voices_of_one_graph_share_what_is_compiled_and_each_has_its_own_sound(
    stored: list[PreparedFiles],
) -> None:
    voices = [PreparedVoice(files, threads=1, runtime="openvino") for files in stored]
    try:
        assert waveform(voices[0])._graph is waveform(voices[1])._graph
        for voice, files in zip(voices, stored, strict=True):
            assert np.abs(spoken(voice) - in_onnxruntime(files)).max() < 0.05
        assert np.abs(spoken(voices[0])[:2000] - spoken(voices[1])[:2000]).max() > 0.1
    finally:
        for voice in voices:
            voice.close()


@needs_it
def test_what_is_compiled_is_part_of_what_its_voices_share(stored: list[PreparedFiles]) -> None:
    files = [
        PreparedFiles(
            f.graph_id, f.graph, f.weights, f.tensors, {"graph_bytes": 1000, "voice_bytes": 10}
        )
        for f in stored
    ]
    voices = [PreparedVoice(f, threads=1, runtime="openvino") for f in files]
    try:
        assert [v.footprint_bytes for v in voices] == [10, 10]
        (_, first), (_, second) = (v.shared_memory or ("", 0) for v in voices)
        assert first == second == 1000 + FOOTPRINT_BYTES
    finally:
        for voice in voices:
            voice.close()


@needs_it
def test_threads_that_speak_at_once_each_hear_what_they_would_alone(
    stored: list[PreparedFiles],
) -> None:
    voice = PreparedVoice(stored[0], threads=1, runtime="openvino")
    try:
        stage = waveform(voice)
        feeds = [
            {stage.manifest.timed[0]: np.random.default_rng(n).random((1, 8, 400), np.float32)}
            for n in range(12)
        ]
        alone = [stage.run(each)[stage.manifest.leave[0]] for each in feeds]
        with ThreadPoolExecutor(6) as threads:
            at_once = list(threads.map(stage.run, feeds))
        for made, expected in zip(at_once, alone, strict=True):
            np.testing.assert_array_equal(made[stage.manifest.leave[0]], expected)
    finally:
        voice.close()


@needs_it
def test_a_run_that_fails_harms_no_later_one(stored: list[PreparedFiles]) -> None:
    voice = PreparedVoice(stored[0], threads=1, runtime="openvino")
    try:
        stage = waveform(voice)
        expected = spoken(voice)
        with pytest.raises(RuntimeError):
            stage.run({stage.manifest.timed[0]: np.zeros((1, 5, 400), np.float32)})
        np.testing.assert_allclose(spoken(voice), expected, rtol=0, atol=0.05)
    finally:
        voice.close()


@needs_it
def test_weights_that_do_not_fit_are_one_line_in_the_log_and_onnxruntime_serves(
    stored: list[PreparedFiles], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exact = in_onnxruntime(stored[0])

    def refuse(*_: Any) -> Any:
        raise RuntimeError("Check 'shape' failed\nat line 7")

    monkeypatch.setattr(OpenvinoStage, "_request", refuse)
    said_of(stored[0], caplog, "Check 'shape' failed at line 7", exact)


def test_a_processor_or_graph_that_is_not_for_it_is_one_line_and_onnxruntime_serves(
    stored: list[PreparedFiles], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32"]

    class Openvino:
        pass

    Openvino.Core = Core  # type: ignore[attr-defined]
    monkeypatch.setattr(openvino_stage, "_openvino", lambda: Openvino)
    said_of(stored[0], caplog, "no instructions for bfloat16", in_onnxruntime(stored[0]))


def said_of(
    files: PreparedFiles,
    caplog: pytest.LogCaptureFixture,
    reason: str,
    expected: npt.NDArray[np.float32],
) -> None:
    """Check that a voice speaks as expected, and that one warning says why."""
    with caplog.at_level(logging.WARNING):
        voice = PreparedVoice(files, threads=1, runtime="openvino")
    try:
        np.testing.assert_allclose(spoken(voice), expected, rtol=0, atol=1e-5)
    finally:
        voice.close()
    (line,) = [record.getMessage() for record in caplog.records]
    assert reason in line


@needs_it
def test_a_model_has_it_where_its_options_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_PREPARE", "on")
    model = synthetic_voice.write_voice(tmp_path)
    prepare(model, default_store())
    for runtime, kind in (("openvino", OpenvinoStage), ("onnxruntime", BoundStage)):
        spec = ModelSpec("voice", PiperTTSAdapter, model, options={"runtime": runtime})
        adapter = PiperTTSAdapter(spec)
        adapter.load()
        voice = adapter._session
        assert isinstance(voice, PreparedVoice)
        assert type(voice._stages["waveform"]) is kind
        assert list(adapter.warm_up("the quick brown fox"))
        adapter.unload()


def test_a_model_that_asks_for_it_where_it_is_not_installed_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = synthetic_voice.write_voice(tmp_path)
    spec = ModelSpec("voice", PiperTTSAdapter, model, options={"runtime": "openvino"})
    monkeypatch.setattr(piper_adapter, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"greenroom\[openvino\]"):
        PiperTTSAdapter.check_spec(spec)


def test_another_runtime_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInputError, match="one of onnxruntime, openvino"):
        PiperTTSAdapter.check_options({"runtime": "tensorrt"})


FAKES = {
    "openvino_telemetry": "print('reports')",
    "openvino": """
try:
    import openvino_telemetry
except ImportError:
    print("is silent")
""",
}
ASK = """
from greenroom.adapters.piper.prepared.run.openvino_stage import _openvino
assert _openvino().__name__ == "openvino"
import openvino_telemetry
"""


def test_its_import_is_not_reported_to_its_vendor(tmp_path: Path) -> None:
    for name, content in FAKES.items():
        (tmp_path / f"{name}.py").write_text(content)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True)
    # Who else imports the reporting package, after that, finds it.
    assert done.stdout.decode().split("\n")[:2] == ["is silent", "reports"], done.stderr.decode()
