"""A thread that notices when the tried one stands still, interrupts it, and at last gives up.

A pause counts only when this process had the processor meanwhile, or this thread ran: on a busy
machine everything stands still now and then.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

NOTED_S = 1.0
"""The event loop may stand still for so long."""

_INTERRUPTED_S = 3.0
_ENDED_S = 60.0
_TICK_S = 0.05
_LATE_S = 0.5


class Frozen(BaseException):
    """The thread stood still for too long, and is interrupted."""


class Watchdog:
    """Watches the main thread, between `begin` and `end`, for pauses between two `beat`.

    It is interrupted by a signal, as that ends a call of the system as well as a loop.
    """

    def __init__(
        self, last_words: Callable[[str], None], *, interrupted_s: float = _INTERRUPTED_S
    ) -> None:
        """`last_words` is told where the thread is before the process is ended."""
        self._interrupted_s = interrupted_s
        self._last_words = last_words
        self._watched = threading.main_thread().ident or 0
        self._before: Any = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._beat: float | None = None
        self._place = ""
        self._interrupted = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGUSR1, _interrupt)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)

    def begin(self) -> None:
        """Watch from here on."""
        with self._lock:
            self._beat, self._place, self._interrupted = time.monotonic(), "", False

    def beat(self) -> None:
        """Say that the thread goes on."""
        with self._lock:
            if self._beat is not None:
                self._beat = time.monotonic()

    def end(self) -> list[str]:
        """Watch no longer; return a sentence if the thread stood still."""
        with self._lock:
            self._beat = None
            if not self._place:
                return []
            how = "froze" if self._interrupted else "stood still"
            return [f"it {how} in {self._place}"]

    async def follow(self) -> None:
        """Beat for as long as the event loop turns."""
        while True:
            self.beat()
            await asyncio.sleep(_TICK_S)

    def _watch(self) -> None:
        before, used = time.monotonic(), time.process_time()
        while not self._over.wait(_TICK_S):
            now, spent = time.monotonic(), time.process_time()
            late = now - before - _TICK_S
            with self._lock:
                if self._beat is not None:
                    if late > _LATE_S and spent - used < late / 2:
                        self._beat += late
                    self._judge(now - self._beat)
            before, used = now, spent

    def _judge(self, gap: float) -> None:
        if gap > min(NOTED_S, self._interrupted_s) and not self._place:
            self._place = self._where()
        if gap > self._interrupted_s and not self._interrupted:
            self._interrupted = True
            signal.pthread_kill(self._watched, signal.SIGUSR1)
        if gap > _ENDED_S:
            self._last_words(self._stack())
            os._exit(1)

    def _where(self) -> str:
        """Return the innermost function of Greenroom's, or the innermost of all."""
        frames = traceback.extract_stack(sys._current_frames()[self._watched])
        ours = [frame for frame in frames if "greenroom" in frame.filename] or frames
        return f"{os.path.basename(ours[-1].filename)}, {ours[-1].name}"

    def _stack(self) -> str:
        return "".join(traceback.format_stack(sys._current_frames()[self._watched]))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Frozen
