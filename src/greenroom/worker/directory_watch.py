"""Notice changes in directories of voices; those that are not there yet, or vanish, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from watchfiles import Change, watch

from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import printable

logger = safe_logger(__name__)

_LOOK_S = 0.5
"""How often it is seen which directories are there."""

_BLIND_S = 60.0
"""A change may come without news, as on file systems of other machines: look this often anyway."""

_POLL_S = 2.0
"""How often to look where the system gives no news at all."""

_GATHER_MS, _QUIET_MS = 800, 100
"""News are gathered for so long at most, and until none came for so long."""


class DirectoryWatch:
    """Watches directories for one caller, whose thread it blocks."""

    def __init__(self, directories: Sequence[Path], stop: threading.Event) -> None:
        """`stop` ends a wait at once."""
        self._directories = list(directories)
        self._stop = stop
        self._there: tuple[object, ...] | None = None
        self._news: Iterator[object] | None = None
        self._looked_at = time.monotonic()
        self._warned = False

    def changed(self) -> bool:
        """Wait for half a second or so; return whether something may have changed, at first always.

        News of hidden files are none: those are what is not whole yet.
        """
        if self._has_changed():
            self._looked_at = time.monotonic()
            return True
        if time.monotonic() - self._looked_at < _BLIND_S:
            return False
        self._looked_at = time.monotonic()
        return True

    def _has_changed(self) -> bool:
        there = tuple(map(_identity, self._directories))
        if there != self._there:
            # The system watches folders, not names: one that was made anew has to be watched anew.
            self._there, self._news = there, self._watch(there)
            self._next_news()  # from here on none is lost: what came before is looked for now
            return True
        if self._news is None:
            self._stop.wait(_LOOK_S)
            return False
        return self._next_news()

    def _next_news(self) -> bool:
        try:
            return self._news is not None and bool(next(self._news, ()))
        except (OSError, RuntimeError) as error:
            if not self._warned:
                logger.warning(
                    "the directories of voices cannot be watched (%s); they are looked at every "
                    "%.0f s",
                    printable(error),
                    _POLL_S,
                )
            self._warned, self._there = True, None
            self._stop.wait(_POLL_S)
            return True

    def _watch(self, there: tuple[object, ...]) -> Iterator[object] | None:
        """Return news of the directories that are there: sets of changes, or empty ones."""
        places = [d for d, seen in zip(self._directories, there, strict=True) if seen is not None]
        if not places:
            return None
        return watch(
            *places,
            watch_filter=_counts,
            debounce=_GATHER_MS,
            step=_QUIET_MS,
            rust_timeout=int(_LOOK_S * 1000),
            yield_on_timeout=True,
            stop_event=self._stop,
            ignore_permission_denied=True,
        )


def _identity(directory: Path) -> tuple[int, int] | None:
    """Return what tells a directory from another in its place; `None` where there is none."""
    try:
        seen = directory.stat()
    except OSError:
        return None
    return (seen.st_dev, seen.st_ino) if directory.is_dir() else None


def _counts(change: Change, path: str) -> bool:
    return not path.rpartition("/")[2].startswith(".")
