"""Processes without a model that wait for the next one, each for a while, and who ends them."""

from __future__ import annotations

import threading
import time

from greenroom.hosts.engine_process import EngineProcess


class IdleProcesses:
    """Ends each process that waited in vain, in one thread, which runs while any waits.

    All methods may be called from any thread. Only `end_all` and `close` block.
    """

    def __init__(self, seconds: float) -> None:
        """Let each linger for so long; 0 lets none."""
        self._seconds = seconds
        self._changed = threading.Condition()
        self._until: dict[EngineProcess, float] = {}
        """Until when each waits, in the order in which they began, and so in which they end."""
        self._thread: threading.Thread | None = None

    @property
    def all(self) -> tuple[EngineProcess, ...]:
        """Those that wait."""
        return tuple(self._until)  # in one step: it is asked on the event loop

    def begin(self, process: EngineProcess) -> bool:
        """Let a process wait; false where none may, or where no thread is to be had to end it."""
        with self._changed:
            if self._seconds <= 0 or not self._has_thread():
                return False
            self._until[process] = time.monotonic() + self._seconds
            self._changed.notify()
            return True

    def _has_thread(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="greenroom-linger", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def take(self, process: EngineProcess) -> bool:
        """Have it wait no longer; whether it did: else it never has, or is being ended."""
        with self._changed:
            did = self._until.pop(process, None) is not None
            self._changed.notify()
            return did

    def hurry(self) -> None:
        """Have the thread end all that wait, at once; does not wait for that."""
        with self._changed:
            self._until = dict.fromkeys(self._until, 0.0)
            self._changed.notify()

    def end_all(self) -> None:
        """End all that wait; they have ended when this returns."""
        with self._changed:
            left = tuple(self._until)
            self._until.clear()
            self._changed.notify()
        for process in left:
            process.end()

    def close(self) -> None:
        """End all that wait, and let none wait any more."""
        self._seconds = 0.0
        self.end_all()

    def _run(self) -> None:
        while (process := self._next()) is not None:
            process.end()

    def _next(self) -> EngineProcess | None:
        """Wait for the next that has waited in vain; `None` once none waits."""
        with self._changed:
            while self._until:
                process, until = next(iter(self._until.items()))
                left = until - time.monotonic()
                if left <= 0:
                    del self._until[process]
                    return process
                self._changed.wait(left)
            self._thread = None
            return None
