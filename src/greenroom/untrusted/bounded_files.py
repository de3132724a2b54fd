"""Read small files that others put there: bounded in size, and never waiting for a writer."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_bounded(path: Path, limit: int, *, any_kind: bool = False) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises `OSError`, also for a pipe, a device or a folder, which are not opened: that may wait
    for ever, or do something. With `any_kind` a pipe is read, for who named it himself.
    """
    if not any_kind:
        _check_regular(os.stat(path), path)
    waiting = 0 if any_kind else os.O_NONBLOCK
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | waiting)
    with open(opened, "rb") as file:
        if not any_kind:
            _check_regular(os.fstat(opened), path)  # it may be another one by now
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"is larger than {_size(limit)}", str(path))
    return content


def read_failure(error: OSError | ValueError) -> str:
    """Return why a file cannot be read, to stand behind its name."""
    said = error.strerror if isinstance(error, OSError) else str(error)
    plain = isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.EINVAL)
    return str(said) if plain else f"cannot be read: {said or type(error).__name__}"


def _check_regular(seen: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(seen.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(seen.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))


def _size(limit: int) -> str:
    return f"{limit // 1024**2} MiB" if limit >= 1024**2 else f"{limit // 1024} KiB"
