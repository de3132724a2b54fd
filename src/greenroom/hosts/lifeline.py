"""A pipe by which processes notice that the manager's is gone, whatever has become of it."""

from __future__ import annotations

import contextlib
import os

_kept: set[int] = set()
"""The ends that this process holds. A fork of it, as by `multiprocessing`, must not hold them too:
it may live on when this process is gone."""


class Lifeline:
    """A pipe that nobody writes to: who holds what is `given` reads its end with this process."""

    def __init__(self) -> None:
        """Raises `OSError` when no descriptor is left."""
        self.given, self._end = os.pipe()
        _kept.add(self._end)

    def close(self) -> None:
        """Let go this process's end; who holds the other takes that for the end of the process."""
        _kept.discard(self._end)
        os.close(self._end)


def _close_in_fork() -> None:
    for descriptor in tuple(_kept):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_fork)
