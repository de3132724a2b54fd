"""The README's worker: started with the shipped configuration, spoken to as the README says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.audio_files import heard
from tests.piper.real_voice import PATIENT, cache_beside

pytestmark = PATIENT

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ANYWHERE = ("--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
GREENROOM = str(Path(sys.executable).parent / "greenroom")


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, prepared_cache: Path
) -> Iterator[tuple[str, str]]:
    """A worker whose voice is prepared already, and where it serves gRPC and HTTP."""
    cache = cache_beside(prepared_cache, tmp_path_factory.mktemp("cache"))
    with subprocess.Popen(
        [GREENROOM, "serve", "--config", "configs/worker.yaml", *ANYWHERE],
        cwd=ROOT,
        env={**os.environ, **cache},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        grpc, http = re.findall(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert "piper-en-us-joe-medium" in process.stdout.readline()
        yield grpc, http
        process.terminate()
        process.stdout.read()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def address(places: tuple[str, str]) -> str:
    """Where the worker serves gRPC."""
    return places[0]


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_grpc_example_hears_speech(address: str, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(import grpc.*?)```", README, re.DOTALL)
    told = run(sys.executable, "-c", code.replace("127.0.0.1:50051", address), folder=tmp_path)
    found = re.fullmatch(r"(\d\.\d) s of speech\n", told)
    assert found is not None
    assert 0.4 <= float(found[1]) <= 2.0


def test_the_two_shell_commands_speak_and_show(address: str, tmp_path: Path) -> None:
    (shell,) = re.findall(r"```sh\n(\.venv/bin/greenroom say.*?)```", README, re.DOTALL)
    say, ps = shell.strip().splitlines()
    text = re.search(r'"(.*?)"', say)
    assert text is not None
    run(GREENROOM, "say", "--server", address, text[1], "-o", "hello.wav", folder=tmp_path)
    with wave.open(str(tmp_path / "hello.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (48_000, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
    assert 1.0 < len(samples) / 48_000 < 4.0
    assert 2_000 < np.abs(samples).max() < 32_767
    assert np.sqrt((samples**2).mean()) > 300
    assert ps == ".venv/bin/greenroom ps"
    assert "piper-en-us-joe-medium" in run(GREENROOM, "ps", "--server", address, folder=tmp_path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_curl_example_hears_speech(places: tuple[str, str], tmp_path: Path) -> None:
    (line,) = re.findall(r"`(curl http.*?)`", README)
    command = shlex.split(line.replace("127.0.0.1:8880", places[1]))
    run(*command, "--silent", "--noproxy", "*", folder=tmp_path)
    sound = heard((tmp_path / "hello.mp3").read_bytes(), "mp3")
    assert 0.3 < sound.seconds < 3.0
    assert sound.loudness > 0.01
