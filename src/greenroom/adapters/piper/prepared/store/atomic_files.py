"""Add and remove files of the store so that a reader never sees half of one.

Every name in the store is made, replaced and removed by the holder of the store's lock. Only the
bytes of a weights file, which take long, are written without it, by the holder of a lock on that
very file. So a temporary file that is not locked belongs to a dead writer, as the system drops a
dead process's locks; its process id proves nothing, by now or in another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

_KEPT = re.compile(r"[0-9a-f]{64}(\.json|\.weights)?")
_TEMPORARY = re.compile(r"\d+-[0-9a-f]{16}\.tmp")


@contextlib.contextmanager
def locked(root: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the store at `root`, which is made if need be, against all processes.

    Raises `BlockingIOError` if it is held elsewhere and `wait` is false, or another `OSError`.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            yield
        finally:
            # Closing is not enough if a process was forked meanwhile: it shares the lock.
            fcntl.flock(file, fcntl.LOCK_UN)


def temporary_name() -> str:
    """Return a new name for a file that is being written."""
    return f"{os.getpid()}-{secrets.token_hex(8)}.tmp"


def write_beside(path: Path, content: bytes) -> None:
    """Replace the small file `path` in one step."""
    beside = path.with_name(temporary_name())
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except BaseException:
        discard(beside)
        raise


def write_folder(folder: Path, blobs: Mapping[str, bytes]) -> None:
    """Make `folder` hold exactly these files; what had its name is removed."""
    beside = folder.with_name(temporary_name())
    try:
        beside.mkdir()
        for name, blob in blobs.items():
            (beside / name).write_bytes(blob)
        if folder.exists():
            remove(folder)
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def listed(folder: Path) -> list[Path]:
    """Return what the store keeps in one of its folders; foreign names are none of it."""
    with contextlib.suppress(FileNotFoundError):
        return [path for path in sorted(folder.iterdir()) if _KEPT.fullmatch(path.name)]
    return []


def sweep(folder: Path) -> int:
    """Remove what dead writers left in `folder`; return the bytes freed."""
    freed = 0
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            if _TEMPORARY.fullmatch(path.name) and not _is_being_written(path):
                freed += remove(path)
    return freed


def remove(path: Path) -> int:
    """Remove a file, or a folder of files, and return the bytes it had.

    Safe for a file that a process has mapped: on POSIX the mapping keeps its content, and the
    blocks are freed with the last mapping.
    """
    if path.is_dir() and not path.is_symlink():
        freed = sum(file.lstat().st_size for file in path.iterdir())
        shutil.rmtree(path)
    else:
        freed = path.lstat().st_size
        path.unlink()
    return freed


def discard(path: Path) -> None:
    """Remove our own temporary file if it is there and can be removed."""
    with contextlib.suppress(OSError):
        path.unlink()


def _is_being_written(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
