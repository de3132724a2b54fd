"""`openai` for Node: all formats, streaming, events, models, errors."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from conformance.node_clients import run, task
from conformance.recipes import recipe
from conformance.started import PARAGRAPH, TEXT, Started
from tests.audio_files import heard

pytestmark = pytest.mark.client("npm:openai")


def done(worker: Started, folder: Path, name: str, text: str = TEXT) -> Any:
    return task("openai.mjs", folder, worker.http, name, text)


def test_every_format_is_heard(worker: Started, tmp_path: Path) -> None:
    done(worker, tmp_path, "formats")
    for name in ("mp3", "opus", "aac", "flac", "wav", "pcm"):
        sound = heard((tmp_path / f"speech.{name}").read_bytes(), name)
        assert (sound.rate, sound.channels) == (48_000 if name == "opus" else 24_000, 1)
        assert 1.5 < sound.seconds < 4
        assert sound.loudness > 0.02


def test_first_bytes_come_before_the_synthesis_ends(worker: Started, tmp_path: Path) -> None:
    found = done(worker, tmp_path, "streaming", PARAGRAPH)
    assert found["first"] > 0
    assert found["streams"] == 1
    worker.until_quiet()


def test_events_have_the_audio(worker: Started, tmp_path: Path) -> None:
    found = done(worker, tmp_path, "events")
    assert found["kind"].startswith("text/event-stream")
    *deltas, last = [json.loads(event) for event in found["events"]]
    file = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    assert 1.5 < heard(file, "mp3").seconds < 4
    assert last["type"] == "speech.audio.done"


def test_models_are_listed(worker: Started, tmp_path: Path) -> None:
    found = done(worker, tmp_path, "models")
    assert found["found"] == "tone-220"
    assert "tone-220" in found["listed"]


def test_errors_are_its_own_and_say_what_was_wrong(worker: Started, tmp_path: Path) -> None:
    found = done(worker, tmp_path, "refusals")
    voice, speed, model = found["voice"], found["speed"], found["model"]
    assert (voice["kind"], voice["status"]) == ("BadRequestError", 400)
    assert (voice["param"], voice["code"]) == ("voice", "voice_not_found")
    assert "did you mean tone-220" in voice["message"]
    assert voice["requestID"]
    assert (speed["kind"], speed["param"]) == ("BadRequestError", "speed")
    assert (model["kind"], model["status"]) == ("NotFoundError", 404)


def test_the_recipe_speaks(worker: Started, tmp_path: Path) -> None:
    script = tmp_path / "recipe.mjs"
    script.write_text(recipe("openai SDK for Node", "js", worker.http))
    run(script, tmp_path)
    assert heard((tmp_path / "hello.mp3").read_bytes(), "mp3").seconds > 0.4
