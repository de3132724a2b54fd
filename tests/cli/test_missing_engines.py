"""Where an engine's package is not installed, `ls` and `config check` say so, with the fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed_adapter import install_adapter

WITHOUT_PIPER = """
import sys
for name in ("piper", "onnx", "onnxruntime"):
    sys.modules[name] = None  # as if it were not installed
from greenroom.cli import main
sys.exit(main())
"""
FIX = "the piper engine is not installed; run `pip install 'greenroom[piper]'`."


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with a model of an adapter that others wrote, beside the real voice."""
    code = """
from greenroom import TTSAdapter
class Far(TTSAdapter):
    libraries = ("sys", "far.engine")
    sample_rate = 16000
    def load(self): pass
    def synthesize(self, text, options): return iter(())
    def unload(self): pass
"""
    install_adapter(tmp_path, "far-away", "Far", code)
    file = tmp_path / "worker.yaml"
    file.write_text(
        "models:\n- {model_id: far, adapter: far-away}\n- {model_id: beep, adapter: tone}\n"
    )
    return file


def run(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GREENROOM_")}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PIPER, *words],
        env={**kept, "PYTHONPATH": str(file.parent)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_config_check_names_the_extra_that_is_missing(file: Path) -> None:
    done = run(file, "config", "check", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"error: {file}: model piper-en-us-joe-medium: {FIX}",
        f"error: {file}: model far: its engine is not installed: there is no module far.engine; "
        "install it.",
    ]


def test_the_list_is_there_with_what_is_missing_below_it(file: Path) -> None:
    done = run(file, "ls", "--config", str(file))
    assert done.returncode == 0
    assert "piper-en-us-joe-medium" in done.stdout
    assert done.stderr.splitlines()[0] == f"model piper-en-us-joe-medium: {FIX}"
    models = json.loads(run(file, "ls", "--json", "--config", str(file)).stdout)
    problems = {model["model_id"]: model["problem"] for model in models}
    assert problems["piper-en-us-joe-medium"] == FIX
    assert problems["beep"] is None
