"""End a full-screen command on a signal, or with its terminal, though its event loop stands still.

What draws the screen writes to the terminal without a limit. When nobody reads there, the event
loop soon waits for such a write: it calls no handler of a signal, and does not see the terminal go.
A thread does both; the interpreter writes it the number of a signal, wherever its main thread is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any

_LOOK_S = 0.25
"""How often it is looked whether the terminal is there, which is not always told by a signal."""

_LEAVING_S = 1.0
"""How long the end in order may take; what has to be written there may wait for a reader."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_HUNG_UP = 128 + signal.SIGHUP

_AS_BEFORE = b"\x1b[?2026l\x1b[?2004l\x1b[?2048l\x1b[?1004l\x1b[?7h\x1b[<u\x1b[?1049l\x1b[?25h"
"""Ends what Textual's driver for Linux begins, in the codes of xterm and kitty: drawing at once,
bracketed paste, told sizes, told focus, cut lines, kitty's keys, the other screen, no cursor."""

_TRIES = 100
_PAUSE_S = 0.01


class Watchdog:
    """Ends the process in time while it is entered, by the main thread, in a running event loop.

    A signal has `leave` called in the loop with the exit code, to end in order. The process is
    ended when that takes too long, and as soon as its terminal has gone.
    """

    def __init__(self, leave: Callable[[int], object]) -> None:
        """Standard input and standard error are to be terminals."""
        streams: tuple[Any, Any] = (sys.__stdin__, sys.__stderr__)
        self._keys, self._screen = (stream.fileno() for stream in streams)
        self._attributes = termios.tcgetattr(self._keys)
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in _ENDING}
        self._before = {n: handler for n, handler in before.items() if handler != signal.SIG_IGN}
        self._signals, self._told = os.pipe()
        os.set_blocking(self._told, False)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> None:
        signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        for number in self._before:
            signal.signal(number, lambda number, frame: None)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._told)  # the end, to the thread
        self._thread.join()
        os.close(self._signals)

    def _watch(self) -> None:
        code, end = None, inf
        while True:
            if select.select([self._signals], [], [], _LOOK_S)[0]:
                numbers = os.read(self._signals, 64)
                if not numbers:
                    return
                for number in self._before.keys() & numbers:
                    code = 128 + number
                    end = min(end, time.monotonic() + _LEAVING_S)
                    self._loop.call_soon_threadsafe(self._leave, code)
            if not (os.isatty(self._keys) and os.isatty(self._screen)):
                # Nothing has to be restored, and what still waits to be written waits without end.
                os._exit(_HUNG_UP if code is None else code)
            if code is not None and time.monotonic() >= end:
                self._give_back()
                os._exit(code)

    def _give_back(self) -> None:
        """Leave the terminal as it was, as far as that waits for nobody who reads it."""
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._keys, termios.TCSANOW, self._attributes)
            name = os.ttyname(self._screen)
            # Opened again: others share what this process was given, and would not wait either.
            terminal = os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._screen)  # what else is drawn
            for _ in range(_TRIES):
                # A write that waits goes on when output does, not when there is room alone.
                termios.tcflow(terminal, termios.TCOOFF)
                termios.tcflush(terminal, termios.TCOFLUSH)
                termios.tcflow(terminal, termios.TCOON)
                with contextlib.suppress(BlockingIOError):
                    os.write(terminal, _AS_BEFORE)
                    return
                time.sleep(_PAUSE_S)
