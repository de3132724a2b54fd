"""Signals that end a worker: the first drains it, the second hurries it, the third is the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Also that of a terminal which closes."""


@contextlib.contextmanager
def ended_by_signals(stop: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first signal and `hurry` at the second; then they do what they did before.

    Where that was an exception, as Python has it for Ctrl-C, the third one ends the process like
    the others do, without clean-up. A SIGHUP that is ignored stays so: that is `nohup`.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _ENDING}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]

    def arrived() -> None:
        if not stop.is_set():
            stop.set()
            return
        hurry.set()
        for number in before:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in before:
        loop.add_signal_handler(number, arrived)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
