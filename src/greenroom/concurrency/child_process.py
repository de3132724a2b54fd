"""A command in a process of its own, which takes second place and ends with this process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

_READ_BYTES = 8_192
"""So much of what it said last is looked at for the reason of a failure."""


class Child:
    """A process of lowest priority. Its methods block, except `ask_to_end` and `kill`.

    The thread that starts it must wait for it: a child may ask the system to end it with that
    thread.

    Its standard input is a pipe that nothing comes from, and that is closed when this process is
    gone, however that came: a child that watches it ends, too. Ctrl-C does not reach it. Where
    memory runs out the system ends it rather than this process.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Start it; raises `OSError`, and `ValueError` for a command line that cannot be."""
        self._lock = threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of `wait`
        inside, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=inside,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                process_group=0,
            )
        except BaseException:
            self._let_go()
            raise
        finally:
            os.close(inside)
        self.pid = self._process.pid
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.pid, 19)
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.pid}/oom_score_adj").write_text("1000")

    def wait(self, limit: float, *, patience: float) -> str:
        """Wait for the end, at most `limit` seconds; return what went wrong, or nothing.

        One that takes longer is asked to end, and killed `patience` seconds later.
        """
        problem = ""
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired:
            problem = f"it took longer than {limit:g} s"
        finally:
            self._finish(patience)
            said = self._last_line()
            self._let_go()
        if problem or not self._process.returncode:
            return problem
        return said or f"it ended with {self._process.returncode}"

    def ask_to_end(self) -> None:
        """Have it clean up and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def _finish(self, patience: float) -> None:
        """Return when it has ended, with patience if it runs still."""
        if self._process.returncode is not None:
            return
        self.ask_to_end()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()
            self._process.wait()

    def _last_line(self) -> str:
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _READ_BYTES))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _let_go(self) -> None:
        self._said.close()
        with self._lock:
            lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
