"""Signals that end a command: quietly, whatever it is doing, with the code that shells expect.

Until something must be cleaned up they do what they do to any program: end it. While a command
works they are all Ctrl-C to it, so that no half-written file and no hidden cursor is left behind.
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
    """How the signals of this process are taken; made by the main thread of a command's process."""

    def __init__(self) -> None:
        self._numbers = [n for n in _ENDING if signal.getsignal(n) is not signal.SIG_IGN]
        self._received = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """That of a command which was interrupted."""
        return 128 + self._received

    def end_at_once(self) -> None:
        """Have them end the process, without a word."""
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Have them raise `KeyboardInterrupt` inside the block, or what asyncio makes of it."""
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
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
    """Have what would be an exception end the process inside the block, without a word."""
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
