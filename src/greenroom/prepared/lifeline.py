"""A preparing process ends with the process that started it, even if that was killed."""

from __future__ import annotations

import os
import signal
import stat
import threading

_CLEAN_UP_S = 1.0
"""How long it may take to clean up; temporary files that stay are swept by the next one."""

_STANDARD_INPUT = 0


def end_with_parent() -> None:
    """From now on end when standard input is closed, if it is a pipe: nobody writes to it."""
    try:
        piped = stat.S_ISFIFO(os.fstat(_STANDARD_INPUT).st_mode)
    except OSError:
        return
    if piped:
        threading.Thread(target=_watch, name="greenroom-lifeline", daemon=True).start()


def _watch() -> None:
    while os.read(_STANDARD_INPUT, 4_096):
        pass
    threading.Timer(_CLEAN_UP_S, os._exit, (1,)).start()
    os.kill(os.getpid(), signal.SIGTERM)
