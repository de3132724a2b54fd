"""Find voices on disk: packs, and loose files in an engine's own naming.

Folders are listed, and `metadata.yaml` is read; nothing else is opened, and no file is looked at
unless its folder does not tell what it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from greenroom.adapter import LeftOut, ModelSpec
from greenroom.config.schema import ModelTraits, problems_of
from greenroom.config.sources import read_mapping
from greenroom.errors import ConfigError
from greenroom.untrusted.bounded_files import read_failure
from greenroom.untrusted.bounded_yaml import Limits
from greenroom.untrusted.printable import printable

METADATA = "metadata.yaml"

_DEPTH = 6
"""How deep below a voice directory files are looked for (Piper's repository has four levels)."""

_LOOSE_DEPTH = 1
"""How deep below a voice directory any graph is taken for a voice; deeper are packs of all kinds of
engines, and whole repositories."""

_LIMITS = Limits(size=64 * 1024, values=5_000)
"""What the `metadata.yaml` of one pack may have."""

_NAMING = re.compile("(?P<language>[a-zA-Z]{2,3})[_-](?P<region>[a-zA-Z]{2})-")


def find_voices(
    directories: Sequence[Path], *, family: str, adapter: str
) -> list[ModelSpec | LeftOut]:
    """Return a model for each `.onnx` of the family, in a stable order, and what is left out.

    In a pack `<family>/<name>/` the id is `<family>-<name>`. Elsewhere a file counts if its
    `.onnx.json` is beside it, and `en_US-joe-medium.onnx` becomes `<family>-en-us-joe-medium`; one
    that is a voice by its name or its place, without that, is left out.
    The file's own name is an alias too, in a pack only if it is in Piper's naming.
    """
    found: dict[str, ModelSpec] = {}
    left_out: list[LeftOut] = []
    for directory in directories:
        for folder in _folders(directory, left_out):
            for spec in _voices(folder, family, adapter):
                if isinstance(spec, LeftOut):
                    left_out.append(spec)
                else:
                    found.setdefault(spec.model_id, spec)
    return [*found.values(), *left_out]


@dataclass
class _Folder:
    """One folder as it was listed."""

    path: Path
    depth: int
    """Below the voice directory."""
    entries: Mapping[str, os.DirEntry[str]]

    def models(self) -> Iterator[str]:
        """Yield the names of the graphs, in order."""
        return (name for name in sorted(self.entries) if name.endswith(".onnx"))

    def problem_with(self, name: str) -> str | None:
        """Return why a file that is there cannot be read, as far as the folder tells."""
        try:
            return None if self.entries[name].is_file() else "is no regular file; remove it"
        except OSError as error:  # a loop of links
            return read_failure(error)

    @cached_property
    def traits(self) -> ModelTraits | LeftOut:
        """What the pack says of itself, read once for all its graphs."""
        return _traits(self.path / METADATA) if METADATA in self.entries else ModelTraits()


def _folders(directory: Path, left_out: list[LeftOut]) -> Iterator[_Folder]:
    """Yield the folders below `directory`, each before those in it; links are not followed."""
    waiting = [(directory, 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            with os.scandir(path) as listing:
                entries = {entry.name: entry for entry in listing}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            left_out.append(LeftOut(printable(path), read_failure(error)))
            continue
        yield _Folder(path, depth, entries)
        if depth < _DEPTH:
            below = [name for name, each in entries.items() if _is_folder(each)]
            waiting.extend((path / name, depth + 1) for name in sorted(below, reverse=True))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _voices(folder: _Folder, family: str, adapter: str) -> Iterator[ModelSpec | LeftOut]:
    is_pack = folder.path.parent.name == family
    for name in folder.models():
        beside = f"{name}.json"
        if _is_folder(folder.entries[name]):
            continue
        if not is_pack and beside not in folder.entries:
            if folder.depth <= _LOOSE_DEPTH or _NAMING.match(name):
                alone = f"it has no {printable(beside)} beside it; copy it there"
                yield LeftOut(printable(folder.path / name), alone)
            continue
        for each in (name, beside):
            if each in folder.entries and (problem := folder.problem_with(each)):
                yield LeftOut(printable(folder.path / each), problem)
                break
        else:
            traits = folder.traits if is_pack else ModelTraits()
            if isinstance(traits, LeftOut):
                yield traits
                return
            yield _spec(folder.path, name, traits, family, adapter, is_pack=is_pack)


def _spec(
    place: Path, file: str, traits: ModelTraits, family: str, adapter: str, *, is_pack: bool
) -> ModelSpec:
    stem = file.removesuffix(".onnx")
    name = place.name if is_pack else stem
    own_name = (stem,) if not is_pack or _NAMING.match(stem) else ()
    return ModelSpec(
        f"{family}-{name.lower().replace('_', '-')}",
        adapter,
        place / file,
        options=traits.options,
        languages=traits.languages or _languages(stem, name),
        tags=traits.tags,
        footprint_mb=traits.footprint_mb,
        ttl_ms=traits.ttl_ms,
        isolation=traits.isolation,
        aliases=(*own_name, *traits.aliases),
    )


def _traits(path: Path) -> ModelTraits | LeftOut:
    try:
        document = read_mapping(path, _LIMITS)
    except ConfigError as error:
        name = printable(path)
        return LeftOut(name, str(error).removeprefix(f"{name}: ").removesuffix("."))
    try:
        return ModelTraits.model_validate(document.content)
    except ValidationError as error:
        place, problem = problems_of(error)[0]
        line = document.line_of(place)
        where = "" if line is None else f"line {line}: "
        return LeftOut(printable(path), where + problem.removesuffix("."))


def _languages(*names: str) -> tuple[str, ...]:
    """Return the language that a name begins with: `en-US` for `en_US-joe` and `en-us-joe`."""
    for name in names:
        if found := _NAMING.match(name):
            return (f"{found['language'].lower()}-{found['region'].upper()}",)
    return ()
