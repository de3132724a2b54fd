"""Hadolint and the compose specification's schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def told(*command: object) -> str:
    """Return what a linter prints; fails with it where it finds something."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    assert told(BIN / "hadolint", DEPLOY / "Dockerfile") == ""


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM python\nRUN cd /tmp && sudo pip install x\n")
    with pytest.raises(AssertionError, match="DL3006"):
        told(BIN / "hadolint", file)


def test_compose_files_keep_to_their_specification() -> None:
    files = sorted((DEPLOY / "compose").glob("*.yaml"))
    assert len(files) == 4
    told(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)
