"""Signals that end a worker: the first drains it, the second hurries it, the third is the end.

SIGHUP means two things: that its terminal closes, and for a service that its configuration changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator

_TERMINAL = "/dev/tty"

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Also that of a terminal which closes."""


@contextlib.contextmanager
def ended_by_signals(
    stop: asyncio.Event, hurry: asyncio.Event, read_again: Callable[[], None] | None = None
) -> Iterator[None]:
    """Set `stop` at the first signal and `hurry` at the second; then they do what they did before.

    Where that was an exception, as Python has it for Ctrl-C, the third one ends the process like
    the others do, without clean-up. A SIGHUP that is ignored stays so: that is `nohup`. Else it
    calls `read_again`, if that is given, unless the process had a terminal that is gone.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _ENDING}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    had_terminal = _has_terminal()

    def hung_up() -> None:
        if read_again is None or stop.is_set() or (had_terminal and not _has_terminal()):
            arrived()
        else:
            read_again()

    def arrived() -> None:
        if not stop.is_set():
            stop.set()
            return
        hurry.set()
        for number in before:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in before:
        loop.add_signal_handler(number, hung_up if number == signal.SIGHUP else arrived)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _has_terminal() -> bool:
    """Return whether the process has a controlling terminal that is still there."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True
