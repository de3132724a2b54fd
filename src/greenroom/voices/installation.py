"""Bring a whole voice into a directory of voices, and take one out of it.

A voice has a folder of its own, `<directory>/<key>/`. Its files get their names when all are there
and right, the model last: a catalog counts a voice only then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from greenroom.errors import PullError
from greenroom.untrusted.bounded_files import read_bounded
from greenroom.untrusted.printable import printable
from greenroom.voices.model_card import MAX_CARD_BYTES, ModelCard, parsed_card
from greenroom.voices.partial_file import SUFFIX, TAG_SUFFIX, PartialFile, Patience
from greenroom.voices.voice_index import IndexedFile, IndexedVoice
from greenroom.voices.voice_source import VoiceSource

SPARE_BYTES = 64 * 1024**2
"""What is left free of a disk."""

Progress = Callable[[int, int], None]
"""Is told how many bytes of how many have come."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A voice that is here."""

    key: str
    folder: Path
    size: int
    card: ModelCard
    outcome: Literal["pulled", "here already"]


def install(
    source: VoiceSource,
    voice: IndexedVoice,
    directory: Path,
    *,
    progress: Progress = lambda come, of: None,
    stop: threading.Event | None = None,
    patience: Patience | None = None,
) -> Installed:
    """Bring `voice` into `directory`, which is made if need be; what is right already is kept.

    Raises `PullError`, with the files of before as they were: `resumable` after a cut, when what
    came is kept for the next time; else nothing of it is left. Raises `PullStoppedError` soon after
    `stop` was set.
    """
    folder = directory / voice.key
    try:
        missing = {
            name: PartialFile(folder, name, file)
            for name, file in voice.files.items()
            if not _is_here(folder / name, file)
        }
        if missing:
            _check_space(voice, missing, directory)
            folder.mkdir(parents=True, exist_ok=True)
            _drop_stale(folder, missing)
            _fetch(source, voice, missing, progress, stop, patience)
            _give_names(folder, missing)
    except PullError as error:
        if not error.resumable:
            _discard(folder)
        raise PullError(voice.key, error.problem, resumable=error.resumable) from error
    except OSError as error:
        place = printable(error.filename or folder)
        said = error.strerror or str(error)
        raise PullError(voice.key, f"{place} cannot be written: {said}", resumable=True) from error
    return Installed(
        voice.key,
        folder,
        voice.size,
        card_in(folder),
        "pulled" if missing else "here already",
    )


def card_in(folder: Path) -> ModelCard:
    """Return what the MODEL_CARD of a voice's folder states; nothing where there is none."""
    with contextlib.suppress(OSError):
        return parsed_card(read_bounded(folder / "MODEL_CARD", MAX_CARD_BYTES))
    return ModelCard()


def remove(model: Path) -> int:
    """Remove a voice by the path of its model, and return the bytes that came free.

    The model goes first, so that no catalog counts half a voice. Its folder goes too if it has the
    voice's name and nothing of anybody else's in it. What is in memory is not disturbed. Raises
    `OSError`.
    """
    key = model.name.removesuffix(".onnx")
    own_folder = model.parent.name == key
    beside = [model.with_name(f"{model.name}.json")]
    if own_folder:
        beside.append(model.with_name("MODEL_CARD"))
    freed = model.lstat().st_size
    model.unlink()
    for path in beside:
        with contextlib.suppress(FileNotFoundError):
            freed += path.lstat().st_size
            path.unlink()
    if own_folder:
        _discard(model.parent)
    return freed


def _is_here(path: Path, file: IndexedFile) -> bool:
    """Return whether a file is there already, by size and, where it is known, by its sum."""
    try:
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        if file.md5 is None:
            return True
        with path.open("rb") as content:
            return hashlib.file_digest(content, _md5).hexdigest() == file.md5
    except OSError:
        return False


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def _check_space(voice: IndexedVoice, missing: dict[str, PartialFile], directory: Path) -> None:
    needed = sum(part.file.size - part.size for part in missing.values())
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed + SPARE_BYTES > free:
        raise PullError(
            voice.key,
            f"it needs {needed / 1024**2:,.0f} MB and {SPARE_BYTES // 1024**2} to spare, and "
            f"{free / 1024**2:,.0f} MB are free in {printable(place)}; make room, or choose "
            "another directory",
            resumable=True,
        )


def _fetch(
    source: VoiceSource,
    voice: IndexedVoice,
    missing: dict[str, PartialFile],
    progress: Progress,
    stop: threading.Event | None,
    patience: Patience | None,
) -> None:
    before = voice.size - sum(part.file.size for part in missing.values())
    for part in missing.values():

        def told(come: int, before: int = before) -> None:
            progress(before + come, voice.size)

        part.fetch(source, progress=told, stop=stop, patience=patience)
        before += part.file.size


def _give_names(folder: Path, whole: dict[str, PartialFile]) -> None:
    """Name the files, the model last, and have the disk remember it in that order."""
    for name, part in whole.items():
        if name.endswith(".onnx"):
            _sync(folder)
        part.move_to(folder / name)
    _sync(folder)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _drop_stale(folder: Path, missing: dict[str, PartialFile]) -> None:
    """Remove what came of other versions of the voice."""
    wanted = {part.path.name.removesuffix(SUFFIX) for part in missing.values()}
    for path in _parts(folder):
        if path.name.removesuffix(TAG_SUFFIX).removesuffix(SUFFIX) not in wanted:
            path.unlink(missing_ok=True)


def _discard(folder: Path) -> None:
    """Remove what came of a voice, and its folder if nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in _parts(folder):
            path.unlink(missing_ok=True)
        folder.rmdir()


def _parts(folder: Path) -> list[Path]:
    return [p for p in folder.glob(".*") if p.name.endswith((SUFFIX, TAG_SUFFIX))]
