"""Voices that are put into a store, read back, altered and aged; also by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from greenroom.adapters.piper.prepared.store.paths import PreparedFiles
from greenroom.adapters.piper.prepared.store.store import Store

GRAPH = {"text.ort": b"text" * 100, "flow.ort": b"flow" * 100, "recipe.json": b"{}"}

WRITER = """
import itertools, sys
from pathlib import Path
import numpy as np
from greenroom.adapters.piper.prepared.store.store import Store

store, source = Store(Path(sys.argv[1]), "runtime"), Path(sys.argv[2])
graph = {"text.ort": b"text" * 100, "flow.ort": b"flow" * 100, "recipe.json": b"{}"}

def weights():
    for number in range(8):
        yield f"w{number}", np.full((1000, number + 1), number, np.float32)
        if number == 4:
            print("writing", flush=True)
            sys.stdin.readline()
"""
PUT = "print(store.put(source, store.snapshot(source), graph, weights(), {'gain': 1.5}).weights)"


def arrays(seed: int = 0, rows: int = 50) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    shapes: list[tuple[int, ...]] = [(rows, 3), (7,), (), (2, 3, 5), (1,)]
    return {f"w{n}": random.random(shape, np.float32) for n, shape in enumerate(shapes)}


def read(files: PreparedFiles) -> dict[str, npt.NDArray[np.float32]]:
    mapped = np.memmap(files.weights, np.uint8, "r")
    return {
        tensor.name: np.frombuffer(
            mapped, np.float32, int(np.prod(tensor.shape)), tensor.offset
        ).reshape(tensor.shape)
        for tensor in files.tensors
    }


def put(store: Store, source: Path, seed: int = 0, **facts: Any) -> PreparedFiles:
    return store.put(source, store.snapshot(source), GRAPH, arrays(seed).items(), facts)


def files_in(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    )


def alter(path: Path, at: int = 0) -> None:
    """Change one byte in place, and make sure that the clock's tick does not hide it."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    touch(path)


def touch(path: Path) -> None:
    later = path.stat().st_mtime_ns + 5_000_000_000
    os.utime(path, ns=(later, later))


def age(root: Path, files: PreparedFiles, hours: float) -> None:
    """Make a voice look as if it was last used that long ago."""
    for path in (root / "voices").iterdir():
        if json.loads(path.read_text())["weights"] == files.weights.stem:
            then = time.time() - hours * 3600
            os.utime(path, (then, then))


def index_in(root: Path) -> Path:
    (path,) = (root / "voices").glob("*.json")
    return path


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def writer(root: Path, source: Path, then: str = PUT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER + then, str(root), str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
