"""LiteLLM: its SDK, and its proxy between the openai SDK and a worker; in its own environment."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from conformance.recipes import recipe
from conformance.started import HERE, TEXT, Started
from conformance.table import NOT_HAD
from tests.audio_files import heard

pytestmark = [pytest.mark.client("litellm"), pytest.mark.timeout(300)]

BIN = HERE.parent / ".venv-conformance-litellm" / "bin"
START_S = 240.0
CALLS_S = 240.0
MASTER_KEY = "sk-of-the-proxy"
OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_MASTER_KEY": MASTER_KEY,
    "NO_PROXY": "127.0.0.1",
}


@pytest.fixture(scope="module", autouse=True)
def _there() -> None:
    if not (BIN / "litellm").exists():
        pytest.skip(f"{NOT_HAD}: LiteLLM is not installed")


@pytest.fixture(scope="module")
def called(worker: Started, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder with what the SDK's calls wrote, and what they found."""
    folder = tmp_path_factory.mktemp("litellm")
    done = subprocess.run(
        [
            *(BIN / "python", HERE / "litellm_calls.py", worker.http, TEXT),
            recipe("LiteLLM", "python", worker.http),
        ],
        cwd=folder,
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        timeout=CALLS_S,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def proxy(worker: Started, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """The openai SDK, calling a proxy that has the configuration of the recipe."""
    configuration = recipe("LiteLLM proxy", "yaml", worker.http)
    with running_proxy(configuration, tmp_path_factory.mktemp("proxy")) as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key=MASTER_KEY, max_retries=0)


@contextlib.contextmanager
def running_proxy(configuration: str, folder: Path) -> Iterator[str]:
    """Run a proxy with a configuration, and yield its address."""
    file = folder / "litellm.yaml"
    file.write_text(configuration)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "proxy.log").open("w") as log:
        process = subprocess.Popen(
            [BIN / "litellm", "--config", file, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env={**os.environ, **OFFLINE},
            stdout=log,
            stderr=log,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            until_alive(process, address, folder / "proxy.log")
            yield address
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until_alive(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/health/liveliness", timeout=5).close()
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-3_000:])


def test_the_SDK_hears_every_format(called: tuple[Path, Any]) -> None:
    folder, _ = called
    for name in ("mp3", "opus", "aac", "flac", "wav", "pcm"):
        assert 1 < heard((folder / f"speech.{name}").read_bytes(), name).seconds < 4


def test_the_SDK_awaits_speech(called: tuple[Path, Any]) -> None:
    folder, _ = called
    assert 1.5 < heard((folder / "awaited.mp3").read_bytes(), "mp3").seconds < 4


def test_a_refusal_by_the_SDK_says_what_was_wrong(called: tuple[Path, Any]) -> None:
    _, found = called
    assert found["refusal"]["status"] == 400
    assert "did you mean tone-220" in found["refusal"]["message"]


def test_the_recipe_for_the_SDK_speaks(called: tuple[Path, Any]) -> None:
    folder, _ = called
    assert heard((folder / "hello.mp3").read_bytes(), "mp3").seconds > 0.4


def test_speech_comes_through_the_proxy(proxy: openai.OpenAI) -> None:
    answer = proxy.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
    assert 1.5 < heard(answer.content, "mp3").seconds < 4


def test_a_refusal_comes_through_the_proxy(proxy: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="did you mean tone-220"):
        proxy.audio.speech.create(model="tts-1", voice="tone-22", input=TEXT)
