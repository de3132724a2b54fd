"""Finding voices on disk: packs, and loose files in an engine's own naming."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from greenroom.config import ModelTraits, first_problem
from greenroom.errors import ConfigError
from greenroom.overlay import read_yaml
from greenroom.speech import ModelSpec

logger = logging.getLogger(__name__)

_DEPTH = 6
"""How deep below a voice directory files are looked for (Piper's repository has four levels)."""

_NAMING = re.compile("(?P<language>[a-zA-Z]{2,3})[_-](?P<region>[a-zA-Z]{2})-")


def find_voices(directories: Sequence[Path], *, family: str, adapter: str) -> list[ModelSpec]:
    """Return a model for each `.onnx` of the family, in a stable order.

    In a pack `<family>/<name>/` the id is `<family>-<name>`. Elsewhere a file counts if its
    `.onnx.json` is beside it, and `en_US-joe-medium.onnx` becomes `<family>-en-us-joe-medium`.
    The file's own name is an alias too, in a pack only if it is in Piper's naming.
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
        traits = _traits(pack)
    except ConfigError as error:
        logger.warning("voice pack %s is left out: %s", pack, error)
        return None
    own_name = (model.stem,) if pack is None or _NAMING.match(model.stem) else ()
    return ModelSpec(
        model_id,
        adapter,
        model,
        options=traits.options,
        languages=traits.languages or _languages(model.stem, name),
        tags=traits.tags,
        footprint_mb=traits.footprint_mb,
        ttl_ms=traits.ttl_ms,
        aliases=(*own_name, *traits.aliases),
    )


def _traits(pack: Path | None) -> ModelTraits:
    path = None if pack is None else pack / "metadata.yaml"
    if path is None or not path.is_file():
        return ModelTraits()
    try:
        return ModelTraits.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from None


def _languages(*names: str) -> tuple[str, ...]:
    """Return the language that a name begins with: `en-US` for `en_US-joe` and `en-us-joe`."""
    for name in names:
        if found := _NAMING.match(name):
            return (f"{found['language'].lower()}-{found['region'].upper()}",)
    return ()
