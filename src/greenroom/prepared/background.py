"""Voices are prepared beside the work, one at a time, in a process of the lowest priority."""

from __future__ import annotations

import atexit
import contextlib
import logging
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

logger = logging.getLogger(__name__)

LIMIT_S = 300.0
"""Preparing takes two to ten seconds of an idle core; whatever takes this long is stuck."""

_MOST = 1_000
"""Voices that may wait; more are prepared when they are next loaded."""


class Preparer:
    """A queue of voices, and the process that prepares the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Path] = deque()
        self._failed: set[Path] = set()
        self._running: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self.idle = threading.Event()
        """Set while nothing is being prepared."""
        self.idle.set()

    def prepare(self, source: Path) -> None:
        """Have the voice prepared soon, unless it is in the queue or failed before."""
        with self._lock:
            known = source in self._failed or source in self._waiting
            if known or self._closed or len(self._waiting) >= _MOST:
                return
            self._waiting.append(source)
            self.idle.clear()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="greenroom-prepare", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """End what runs; nothing half-written is left behind."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            if self._running is not None:
                self._running.terminate()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._closed:
                    self._thread = None
                    self.idle.set()
                    return
                source = self._waiting[0]
                try:
                    self._running = _start(source)
                except OSError as error:
                    logger.warning("%s cannot be prepared: %s", source.name, error)
                    self._failed.add(self._waiting.popleft())
                    continue
            problem = _end(self._running)
            with self._lock:
                self._running = None
                if self._closed:
                    continue
                self._waiting.popleft()
                if problem:
                    self._failed.add(source)
            if problem:
                logger.warning("%s is not prepared, its own file serves: %s", source.name, problem)
            else:
                logger.info("%s is prepared: its next load is fast", source.name)


def command(source: Path) -> list[str]:
    """Return the command line that prepares a voice."""
    return [sys.executable, "-m", "greenroom.prepared.preparing", str(source)]


def _start(source: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["nice", "-n", "19", *command(source)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(running: subprocess.Popen[str]) -> str:
    """Wait for the end; return what went wrong, or nothing."""
    with contextlib.closing(running.stderr) if running.stderr else contextlib.nullcontext():
        try:
            _, said = running.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
            return f"it took longer than {LIMIT_S:g} s"
    if running.returncode == 0:
        return ""
    lines = said.strip().splitlines()
    return lines[-1] if lines else f"it ended with {running.returncode}"


PREPARER = Preparer()
"""That of this process."""

prepare = PREPARER.prepare
atexit.register(PREPARER.close)
