"""Starts engines' processes: asks the fork server for them, and starts that when it is needed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from greenroom.hosts import confinement, engine_main, fork_server
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import printable

logger = safe_logger(__name__)

START_LIMIT_S = 60.0
"""Of the fork server: it imports the engines, perhaps from a slow disk."""

_FORK_LIMIT_S = 10.0


class LaunchError(Exception):
    """No process could be started."""


def is_supported() -> bool:
    """Return whether this system can run engines in processes of their own."""
    return sys.platform.startswith("linux") and hasattr(os, "pidfd_open") and bool(sys.executable)


@dataclass(frozen=True, slots=True)
class Given:
    """The ends of sockets and pipes that a new process is given; see `engine_main.serve`."""

    lifeline: int
    control: int
    cores: int
    errors: int
    status: int
    """The fork server's own: where it tells how the process ended."""

    def descriptors(self) -> list[int]:
        """Return them in the order of the request."""
        return [self.lifeline, self.control, self.cores, self.errors, self.status]


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that runs."""

    pid: int
    ended: int
    """A descriptor that becomes readable when it has ended."""


class Launcher:
    """One fork server. All methods block, and may be called from any thread."""

    def __init__(self, modules: Sequence[str]) -> None:
        """`modules` are imported once, before any process is forked."""
        self._modules = [engine_main.__name__, *modules]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process id of the fork server, while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the fork server unless it runs; raises `LaunchError`."""
        with self._lock:
            self._start()

    def launch(self, given: Given, **request: object) -> Launched:
        """Start a process; raises `LaunchError`. Closes none of what is `given`."""
        with self._lock:
            self._start()
            try:
                return self._ask(given, request)
            except OSError as error:  # it has ended since it was last asked, whatever ended it
                logger.warning("the fork server is started anew: it broke off (%s)", error)
                self._end()
            self._start()
            try:
                return self._ask(given, request)
            except OSError as error:
                self._end()
                raise LaunchError(f"the fork server fails ({error})") from None

    def close(self) -> None:
        """End the fork server, and with it all processes that run still."""
        with self._lock:
            self._closed = True
            self._end()

    def _start(self) -> None:
        if self._closed:
            raise LaunchError("the manager is closed")
        if self._requests is not None:
            return
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with its:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(its.fileno())),
                        *self._modules,
                    ],
                    pass_fds=[its.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=confinement.environment(os.environ),
                    process_group=0,
                )
            ours.settimeout(START_LIMIT_S)
            if not ours.recv(fork_server.MOST_REQUEST):
                raise OSError("it ended while it started")
        except (OSError, ValueError) as error:
            ours.close()
            self._end()
            raise LaunchError(f"the fork server cannot be started ({error})") from None
        self._requests = ours

    def _ask(self, given: Given, request: dict[str, object]) -> Launched:
        requests = self._requests
        assert requests is not None
        requests.settimeout(_FORK_LIMIT_S)
        socket.send_fds(requests, [json.dumps(request).encode()], given.descriptors())
        message, descriptors, _, _ = socket.recv_fds(requests, fork_server.MOST_REQUEST, 1)
        if not message:
            raise OSError("it has ended")
        answer = json.loads(message)
        if not descriptors:
            raise LaunchError(f"the system refuses ({printable(answer.get('problem'))})")
        return Launched(int(answer["pid"]), descriptors[0])

    def _end(self) -> None:
        """Let the fork server end, or kill it."""
        requests, self._requests = self._requests, None
        process, self._process = self._process, None
        if requests is not None:
            requests.close()
        if process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
            return
        process.kill()
        process.wait()


_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from greenroom.hosts.fork_server import main
main(int(sys.argv[2]), sys.argv[3:])
"""
"""Not `-m`: what the manager's program has added to its path is to be found here, too."""
