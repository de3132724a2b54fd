"""The README's worker: started with the shipped configuration, spoken to as the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ANYWHERE = ("--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
GREENROOM = str(Path(sys.executable).parent / "greenroom")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cache = {"GREENROOM_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    with subprocess.Popen(
        [GREENROOM, "serve", "--config", "configs/worker.yaml", *ANYWHERE],
        cwd=ROOT,
        env={**os.environ, **cache},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        assert "piper-en-us-joe-medium" in process.stdout.readline()
        yield found[0]
        process.terminate()
        process.stdout.read()
        assert process.wait(20) == 0


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=50, check=False
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
