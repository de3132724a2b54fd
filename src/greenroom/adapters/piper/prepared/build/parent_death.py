"""End a preparing process when its parent dies, even if that was killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import sys
import threading

_CLEAN_UP_S = 0.5
"""How long it may take to clean up; temporary files that stay are swept by the next process."""

_STANDARD_INPUT = 0
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def end_with_parent() -> None:
    """End when standard input is closed, if it is a pipe, whose other end the parent holds."""
    try:
        piped = stat.S_ISFIFO(os.fstat(_STANDARD_INPUT).st_mode)
    except OSError:
        return
    if piped:
        _die_with_parent()
        threading.Thread(target=_watch, name="greenroom-lifeline", daemon=True).start()


def _die_with_parent() -> None:
    """Have Linux kill this process at once when the thread that started it is gone.

    The pipe alone may take seconds: a thread of ours that waits for it gets no turn while the
    engine works on a large graph.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, int(signal.SIGKILL))


def _watch() -> None:
    while os.read(_STANDARD_INPUT, 4_096):
        pass
    threading.Timer(_CLEAN_UP_S, os._exit, (1,)).start()
    os.kill(os.getpid(), signal.SIGTERM)
