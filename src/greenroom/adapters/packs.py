"""Finding voices on disk: packs, and loose files in an engine's own naming."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from greenroom.speech import ModelSpec

logger = logging.getLogger(__name__)

_DEPTH = 6
"""How deep below a voice directory files are looked for (Piper's repository has four levels)."""

_METADATA = {"languages", "tags", "footprint_mb", "options", "ttl_ms", "aliases"}


def find_voices(directories: Sequence[Path], *, family: str, adapter: str) -> list[ModelSpec]:
    """Return a model for each `.onnx` of the family, in a stable order.

    In a pack `<family>/<name>/` the id is `<family>-<name>`. Elsewhere a file counts if its
    `.onnx.json` is beside it, and `en_US-joe-medium.onnx` becomes `<family>-en-us-joe-medium`.
    The file's own name is an alias in both cases.
    """
    found: dict[str, ModelSpec] = {}
    for directory in directories:
        for model in _files(directory):
            pack = model.parent if model.parent.parent.name == family else None
            if pack is None and not model.with_name(model.name + ".json").is_file():
                continue
            spec = _spec(model, pack, family=family, adapter=adapter)
            if spec is not None:
                found.setdefault(spec.model_id, spec)
    return list(found.values())


def _files(directory: Path) -> Iterator[Path]:
    root = len(directory.parts)
    for place, folders, files in os.walk(directory):
        folders.sort()
        if len(Path(place).parts) - root >= _DEPTH:
            folders.clear()
        yield from (Path(place) / name for name in sorted(files) if name.endswith(".onnx"))


def _spec(model: Path, pack: Path | None, *, family: str, adapter: str) -> ModelSpec | None:
    name = model.stem if pack is None else pack.name
    model_id = f"{family}-{name.lower().replace('_', '-')}"
    try:
        metadata = _metadata(pack)
        aliases = (model.stem, *metadata.pop("aliases", ()))
        language = model.stem.split("-")[0].replace("_", "-")
        metadata.setdefault("languages", (language,))
        for key in ("languages", "tags"):
            metadata[key] = tuple(metadata.get(key, ()))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        logger.warning("voice pack %s is left out: %s", pack, error)
        return None
    return ModelSpec(model_id, adapter, model, aliases=aliases, **metadata)


def _metadata(pack: Path | None) -> dict[str, Any]:
    path = pack / "metadata.yaml" if pack is not None else None
    if path is None or not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(content, dict) or not set(content) <= _METADATA:
        known = ", ".join(sorted(_METADATA))
        raise ValueError(f"metadata.yaml must be a mapping with keys out of: {known}")
    return content
