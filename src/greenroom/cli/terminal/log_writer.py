"""A log that never blocks its callers: lines wait in a queue, and a thread writes them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from greenroom.untrusted.printable import escaped

MAX_LINES = 4_096
"""How many lines may wait; beyond that the oldest are dropped, and counted."""

MAX_LINE_CHARS = 8_192
"""Characters of one line; a longer one is cut."""

_RETRY_S = 0.25
"""How soon a line is tried again after an error, such as a full disk."""

_SLOW = "they came faster than they could be written"


class LineWriter:
    """Writes lines in order. `put` never raises, never blocks and may be called from anywhere."""

    def __init__(
        self, write: Callable[[str], object], *, most: int = MAX_LINES, retry_s: float = _RETRY_S
    ) -> None:
        """`write` may block, and is called again with a line for which it raised."""
        self._write = write
        self._most = most
        self._retry_s = retry_s
        # Reentrant, as the garbage collector or a signal may come in between and log as well, and
        # never held while anything is written.
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[str | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lost = 0
        self._reason = _SLOW

    def put(self, line: str) -> None:
        """Queue one line, without its end of line."""
        line = _cut(line)
        with self._lock:
            if self._queue.qsize() >= self._most:
                self._drop_oldest()
            self._queue.put(line)
            self._start()

    def flush(self, limit: float) -> bool:
        """Wait for the queued lines, at most `limit` seconds; return whether they are written."""
        if self._queue.empty() and self._thread is None:
            return True
        written = threading.Event()
        self._queue.put(written)
        return written.wait(limit)

    def close(self, limit: float) -> None:
        """Wait for the queued lines, at most `limit` seconds, and let the thread end."""
        self.flush(limit)
        self._queue.put(None)

    def _drop_oldest(self) -> None:
        try:
            oldest = self._queue.get_nowait()
        except queue.Empty:  # the thread was faster
            return
        if isinstance(oldest, str):
            self._lost += 1
        elif oldest is not None:
            self._queue.put(oldest)

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = threading.Thread(target=self._run, name="greenroom-log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had; the lines wait for the next one's try
            return
        self._thread = thread

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._deliver(item)

    def _deliver(self, line: str) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost:
            line = f"{lost} lines of the log are lost: {self._reason}\n{line}"
        self._reason = _SLOW
        while True:
            try:
                self._write(line)
                return
            except Exception as error:  # noqa: BLE001 - there is no log to write it to
                self._reason = getattr(error, "strerror", None) or type(error).__name__
            time.sleep(self._retry_s)


class LogHandler(logging.Handler):
    """Passes log records to a `LineWriter`; of one that cannot be formatted it says so."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line, with control characters escaped: names in it come from outside."""
        try:
            line = self.format(record)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what is logged is anybody's object
            where = f"{record.name}, line {record.lineno}"
            line = f"{record.levelname} a line of {where} cannot be told: {type(error).__name__}"
        self._writer.put(escaped(_cut(line)))


def _cut(line: str) -> str:
    more = len(line) - MAX_LINE_CHARS
    return line if more <= 0 else f"{line[:MAX_LINE_CHARS]}... ({more} characters more)"
