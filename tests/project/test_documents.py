"""What the documents show, run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks(document: str) -> list[str]:
    """Return the Python examples of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_library_example_speaks(tmp_path: Path) -> None:
    told = run(blocks("README.md")[0], tmp_path)
    assert told.startswith("piper-en-us-joe-medium: ready and pinned")
    assert "ready: loaded in" in told


def test_the_adapter_tutorial_builds_a_voice_that_speaks(tmp_path: Path) -> None:
    adapter, use, _ = blocks("docs/adapters.md")
    (tmp_path / "buzz.py").write_text(adapter)
    assert run(use, tmp_path) == "0.76 s\n"


def test_the_adapter_tutorial_says_how_models_are_prepared(tmp_path: Path) -> None:
    adapter, _, preparation = blocks("docs/adapters.md")
    asks = (
        "BuzzTTSAdapter.preparation = preparation = BuzzPreparation()\n"
        "spec = ModelSpec('buzz', BuzzTTSAdapter, 'buzz.bin')\n"
        "print(preparation.is_prepared(ModelSpec('buzz', BuzzTTSAdapter)))\n"
        "print(preparation.is_prepared(spec), list(preparation.command(spec))[1:])\n"
    )
    told = run(f"{adapter}\n{preparation}\n{asks}", tmp_path)
    assert told == "None\nFalse ['-m', 'buzz.prepare', 'buzz.bin']\n"


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/tour.md",
        "docs/conformance.md",
        "docs/adapters.md",
        "docs/prepared.md",
        "docs/http.md",
        "docs/text.md",
        "docs/riva.md",
        "docs/simulation.md",
        "docs/scale.md",
        "docs/wyoming.md",
        "docs/cluster.md",
        "docs/recipes.md",
        "docs/deployment.md",
    ],
)
def test_every_link_of_a_document_leads_to_a_file(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
        assert ((ROOT / document).parent / target).exists(), target


def test_the_readme_is_within_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def pins(file: str) -> dict[str, str]:
    """Return the versions in a file of constraints."""
    text = (ROOT / "conformance" / file).read_text()
    return {name.lower().replace("_", "-"): v for name, v in re.findall("(.+)==(.+)", text)}


CLIENTS = {
    *("openai", "openai for Node", "ai for Node", "@ai-sdk/openai for Node", "litellm"),
    *("livekit-plugins-openai", "livekit-plugins-nvidia", "pipecat-ai", "nvidia-riva-client"),
    *("wyoming", "homeassistant", "sfortis/openai_tts", "imageio-ffmpeg"),
    *("ollama", "tritonclient", "grpcio-health-checking", "prometheus-client", "schemathesis"),
}
"""Whom a worker is run against, whatever else."""


def test_the_conformance_table_has_the_versions_that_make_conformance_installs() -> None:
    page = (ROOT / "docs/conformance.md").read_text()
    package = json.loads((ROOT / "conformance/node/package.json").read_text())
    installed = {**pins("litellm-constraints.txt"), **pins("constraints.txt")}
    told = re.findall(r"(requests of )?`([^`]+)` (\d[\w.]*)( for Node)?", page)
    assert {f"{name}{node}" for _, name, _, node in told} >= CLIENTS
    for requests, name, version, node in told:
        if not requests:
            assert (package["dependencies"] if node else installed)[name] == version, name
