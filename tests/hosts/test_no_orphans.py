"""However a manager ends, no process of it outlives it, though each would go on for a minute."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid

import pytest

from tests.waiting import eventually

STATES = [
    "importing",
    "starting",
    "load: hang",
    "load: hold the lock",
    "load: fork",
    "speak: hang",
    "speak: hold the lock",
    "speak: stop",
    "speak: fork",
    "speak: fork and hide",
    "speak: flood",
    "speak: close descriptors",
    "unload: hang",
    "unload: stop",
    "lingering",
    "closing: stop",
    "recycling",
    "without a fork server: hold the lock",
    "without a fork server: fork",
]


@pytest.mark.parametrize("state", [*STATES, "forked by the program"])
def test_no_process_outlives_a_manager_that_is_killed(state: str) -> None:
    mark = uuid.uuid4().hex
    manager = subprocess.Popen(
        [sys.executable, "-m", "tests.hosts.holding", state],
        stdout=subprocess.PIPE,
        env={**os.environ, "LC_MARK": mark},
    )
    try:
        assert manager.stdout is not None
        assert manager.stdout.readline() == b"there\n"
        assert len(marked(mark)) > 1
        spared = set(forks_of(manager.pid)) if state.startswith("forked") else set()
        manager.kill()
        manager.wait()
        eventually(lambda: not marked(mark) - spared)
    finally:
        manager.kill()
        manager.wait()
        manager.stdout.close()  # type: ignore[union-attr]
        for pid in marked(mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> set[int]:
    """Return the processes that were started with this in their environment, and live."""
    found = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
            with open(f"/proc/{name}/stat") as stat:
                state = stat.read().rsplit(")", 1)[1].split()[0]
            if mark.encode() in environment and state not in "ZX":
                found.add(int(name))
    return found


def forks_of(pid: int) -> list[int]:
    """Return the children that run the same program as their parent."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(each) for each in file.read().split()]
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        program = file.read()
    found = []
    for child in children:
        with open(f"/proc/{child}/cmdline", "rb") as file:
            if file.read() == program:
                found.append(child)
    return found
