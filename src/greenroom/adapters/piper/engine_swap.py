"""The engine that a voice speaks with, which may be replaced while it speaks."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from greenroom.adapters.piper.session import Engine
from greenroom.memory import heap


class Seat:
    """Holds one engine. Whoever speaks keeps the one it began with; all later ones get the new.

    An engine that was replaced is closed when nobody speaks with it any more.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._speakers: Counter[Engine] = Counter()
        self._closed = False
        self.engine = engine

    @contextlib.contextmanager
    def speaking(self) -> Iterator[Engine]:
        """Speak with the present engine inside the block."""
        with self._lock:
            engine = self.engine
            self._speakers[engine] += 1
        try:
            yield engine
        finally:
            with self._lock:
                self._speakers[engine] -= 1
                last = not self._speakers[engine] and engine is not self.engine
            if last:
                _close(engine)

    def replace(self, engine: Engine) -> None:
        """Put another engine in the place of the present one; too late, it is closed."""
        with self._lock:
            old = engine if self._closed else self.engine
            self.engine = self.engine if self._closed else engine
            unused = not self._speakers[old]
        if unused:
            _close(old)

    def close(self) -> None:
        """Close the present engine. Nobody may be speaking."""
        with self._lock:
            self._closed = True
        self.engine.close()


def _close(engine: Engine) -> None:
    engine.close()
    heap.trim()
