"""Replace the session that a voice speaks with, while it speaks."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from greenroom.adapters.piper.session import Session
from greenroom.memory import heap


class SwappableSession:
    """Holds the present session of a voice.

    Speech that has begun keeps the session it began with; later speech gets the new one. A session
    that was replaced is closed when the last speech with it has ended.
    """

    def __init__(self, session: Session) -> None:
        self._lock = threading.Lock()
        self._users: Counter[Session] = Counter()
        self._closed = False
        self.session = session

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Session]:
        """Yield the present session, which stays open inside the block."""
        with self._lock:
            session = self.session
            self._users[session] += 1
        try:
            yield session
        finally:
            with self._lock:
                self._users[session] -= 1
                last = not self._users[session] and session is not self.session
            if last:
                _close(session)

    def replace(self, session: Session) -> None:
        """Put another session in the place of the present one; closes it if that is too late."""
        with self._lock:
            # After `close` the new session is the one to drop: the voice is unloaded.
            old = session if self._closed else self.session
            self.session = self.session if self._closed else session
            unused = not self._users[old]
        if unused:
            _close(old)

    def close(self) -> None:
        """Close the present session. No thread may be inside `in_use`."""
        with self._lock:
            self._closed = True
        self.session.close()


def _close(session: Session) -> None:
    session.close()
    heap.trim()
