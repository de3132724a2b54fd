"""Vercel's AI SDK: `generateSpeech` with the provider for OpenAI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.node_clients import run, task
from conformance.recipes import recipe
from conformance.started import TEXT, Started
from tests.audio_files import heard

pytestmark = pytest.mark.client("npm:ai", "npm:@ai-sdk/openai")


def done(worker: Started, folder: Path, name: str) -> Any:
    return task("ai_sdk.mjs", folder, worker.http, name, TEXT)


def test_default_arguments_speak(worker: Started, tmp_path: Path) -> None:
    found = done(worker, tmp_path, "defaults")
    assert found == {"mediaType": "audio/mpeg", "format": "mp3", "warnings": []}
    assert 1.5 < heard((tmp_path / "speech.mp3").read_bytes(), "mp3").seconds < 4


def test_every_format_is_heard(worker: Started, tmp_path: Path) -> None:
    found = done(worker, tmp_path, "formats")
    assert not any(audio["warnings"] for audio in found.values())
    for name in found:
        assert 1.5 < heard((tmp_path / f"speech.{name}").read_bytes(), name).seconds < 4


def test_speed_changes_the_length(worker: Started, tmp_path: Path) -> None:
    done(worker, tmp_path, "speed")
    slow, fast = (
        heard((tmp_path / f"{name}.wav").read_bytes(), "wav").seconds for name in ("slow", "fast")
    )
    assert 2.5 < slow / fast < 6


def test_a_refusal_says_what_was_wrong_and_is_not_retried(worker: Started, tmp_path: Path) -> None:
    found = done(worker, tmp_path, "refusal")
    assert found["isCallError"]
    assert (found["statusCode"], found["isRetryable"]) == (400, False)
    assert "did you mean tone-220" in found["message"]


def test_the_recipe_speaks(worker: Started, tmp_path: Path) -> None:
    script = tmp_path / "recipe.mjs"
    script.write_text(recipe("Vercel AI SDK", "js", worker.http))
    run(script, tmp_path)
    assert heard((tmp_path / "hello.mp3").read_bytes(), "mp3").seconds > 0.4
