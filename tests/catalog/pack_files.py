"""Voice packs and loose voices on disk, good and odd, and what a catalog makes of them."""

from __future__ import annotations

import os
from pathlib import Path

from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.catalog.catalog import Catalog


def put_pack(root: Path, name: str | bytes, metadata: str | bytes | None = None) -> Path:
    pack = Path(os.fsdecode(os.path.join(os.fsencode(root / "piper"), os.fsencode(name))))
    pack.mkdir(parents=True)
    (pack / "model.onnx").write_bytes(b"")
    (pack / "model.onnx.json").write_text("{}")
    if metadata is not None:
        content = metadata if isinstance(metadata, bytes) else metadata.encode()
        (pack / "metadata.yaml").write_bytes(content)
    return pack


def put_loose(root: Path, name: str) -> Path:
    (root / f"{name}.onnx").write_bytes(b"")
    (root / f"{name}.onnx.json").write_text("{}")
    return root / f"{name}.onnx"


def found(root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return the ids that are served and what is left out."""
    catalog = Catalog.discover(root, adapters=[PiperTTSAdapter])
    return [spec.model_id for spec in catalog], catalog.problems


def only_problem(root: Path) -> str:
    put_pack(root, "good")
    ids, problems = found(root)
    assert ids == ["piper-good"]
    (problem,) = problems
    assert problem.isprintable()
    assert len(problem) < 1_000
    return problem


BOMB = "a: &a [x]\n" + "".join(
    f"b{n}: &b{n} [{', '.join([f'*b{n - 1}' if n else '*a'] * 9)}]\n" for n in range(12)
)
