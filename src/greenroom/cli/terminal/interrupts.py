"""SIGINT, SIGTERM and SIGHUP end a command: without a traceback, with the code that shells expect.

Until there is something to clean up they end the process, as they do to any program. While a
command works each of them raises `KeyboardInterrupt`, so that no half-written file and no hidden
cursor is left behind.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130
"""The exit code of a command after Ctrl-C."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The signal handlers of a command's process; to be made by its main thread."""

    def __init__(self) -> None:
        # A signal that is ignored stays so: `nohup` ignores SIGHUP for the whole process.
        self._numbers = [n for n in _ENDING if signal.getsignal(n) is not signal.SIG_IGN]
        self._received = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """The exit code of a command that was interrupted by the signal that came."""
        return 128 + self._received

    def end_at_once(self) -> None:
        """Have the signals end the process at once, without a traceback."""
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Have the signals raise `KeyboardInterrupt` in the block, or what asyncio makes of it."""
        for number in self._numbers:
            signal.signal(
                number,
                signal.default_int_handler if number == signal.SIGINT else self._interrupt,
            )
        try:
            yield
        finally:
            self.end_at_once()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)
        # asyncio replaces the handler of SIGINT while it runs; the others do what that does.
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
    """Have signals that would raise an exception end the process inside the block instead."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    raising = {number: handler for number, handler in before.items() if callable(handler)}
    for number in raising:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
