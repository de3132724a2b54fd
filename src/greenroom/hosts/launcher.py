"""Starts engines' processes: asks the fork server for them, and starts that when it is needed."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from greenroom.hosts import confinement, engine_main, fork_server
from greenroom.hosts.lifeline import Lifeline
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import printable

logger = safe_logger(__name__)

START_LIMIT_S = 60.0
"""Of the fork server: it imports the engines, perhaps from a slow disk."""

_FORK_LIMIT_S = 10.0

_STEADY_S = 10.0
"""A fork server that has ended sooner than this would perhaps do so again: the next process that is
needed starts it anew, and not its end."""


class LaunchError(Exception):
    """No process could be started."""


class BrokenOffError(LaunchError):
    """The fork server has ended, or did not answer; another try starts it anew."""


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
        self._lifeline: Lifeline | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process id of the fork server, while it runs."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start the fork server unless it runs; raises `LaunchError`."""
        with self._lock:
            self._start()

    def launch(self, given: Given, **request: object) -> Launched:
        """Start a process; raises `LaunchError`. Closes none of what is `given`.

        After a `BrokenOffError` nothing of it may be given again: a process may hold it all.
        """
        with self._lock:
            self._start()
            try:
                return self._ask(given, request)
            except OSError as error:  # it has ended since it was last asked, whatever ended it
                logger.warning("the fork server is started anew: it broke off (%s)", error)
                self._kill()
                self._end()
                raise BrokenOffError(f"the fork server fails ({error})") from None

    def close(self) -> None:
        """End the fork server, and with it all processes that run still."""
        self._closed = True
        while not self._lock.acquire(timeout=0.5):
            # It is starting, or does not answer: the thread that waits for it gives up.
            process = self._process
            if process is not None:
                process.kill()
        try:
            self._end()
        finally:
            self._lock.release()

    def _start(self) -> None:
        while self._requests is None:
            if self._closed:
                raise LaunchError("the manager is closed")
            self._try_to_start()

    def _try_to_start(self) -> None:
        """Start it, or leave out the module at which it has ended; raises `LaunchError`."""
        importing = ""
        until = time.monotonic() + START_LIMIT_S
        try:
            ours = self._spawn()
        except (OSError, ValueError) as error:
            self._end()
            raise LaunchError(f"the fork server cannot be started ({error})") from None
        try:
            while True:
                ours.settimeout(max(0.001, until - time.monotonic()))
                told = json.loads(ours.recv(fork_server.MOST_REQUEST) or b"null")
                if told is None:
                    raise OSError(f"it ended while it imported {importing or 'itself'}")
                if "ready" in told:
                    break
                if "threads" in told:
                    raise OSError(f"{importing} starts threads, which no fork has")
                importing = told["importing"]
        except OSError as error:
            ours.close()
            self._end()
            if importing in self._modules[1:] and not self._closed:
                logger.warning("each process imports %s for itself: %s", importing, error)
                self._modules.remove(importing)
                return
            raise LaunchError(f"the fork server cannot be started ({error})") from None
        self._requests = ours
        self._begin_watch()

    def _begin_watch(self) -> None:
        assert self._process is not None
        watch = functools.partial(self._replace_at_its_end, self._process, time.monotonic())
        # Where no thread is to be had, the next process that is needed finds out.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=watch, name="greenroom-fork-watch", daemon=True).start()

    def _replace_at_its_end(self, process: subprocess.Popen[bytes], since: float) -> None:
        """Start the fork server anew as soon as it has ended, so that no load waits for it."""
        with contextlib.suppress(ChildProcessError):  # it has ended, and was waited for
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            if self._closed or self._process is not process:
                return
            self._end()
            if time.monotonic() - since < _STEADY_S:
                return
            logger.warning("the fork server is started anew: it has ended")
            with contextlib.suppress(LaunchError):  # the next process that is needed says it again
                self._start()

    def _spawn(self) -> socket.socket:
        """Run the program; return this end of its requests. Raises `OSError`."""
        with contextlib.ExitStack() as given:
            lifeline = self._lifeline = Lifeline()
            given.callback(os.close, lifeline.given)
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            given.enter_context(its)
            try:
                passed = [_high(its.fileno(), given), _high(lifeline.given, given)]
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-P", *_flags(), "-c", _PROGRAM),
                        *(json.dumps(sys.path), *map(str, passed), *self._modules),
                    ],
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    env=confinement.environment(os.environ),
                    process_group=0,
                )
                # From here, as Python takes its time to start, and an import may hang.
                confinement.die_with(lifeline.given, self._process.pid)
            except BaseException:
                ours.close()
                raise
        return ours

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
            problem = answer.get("problem", "no descriptor is left in this process")
            raise LaunchError(f"the system refuses ({printable(problem)})")
        return Launched(int(answer["pid"]), descriptors[0])

    def _kill(self) -> None:
        """Kill the fork server: let go, it would end all that it has forked, which speaks still."""
        assert self._process is not None
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        """Let the fork server end, or kill it."""
        requests, self._requests = self._requests, None
        process, self._process = self._process, None
        lifeline, self._lifeline = self._lifeline, None
        if requests is not None:
            requests.close()
        if lifeline is not None:
            lifeline.close()
        if process is None:
            return
        # Before it is reaped, as its number is nobody else's until then: where it was killed,
        # what modules have started at their import is there still.
        with contextlib.suppress(OSError):
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
            return
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _high(descriptor: int, given: contextlib.ExitStack) -> int:
    """Return a copy that no standard stream of a program takes the place of."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    given.callback(os.close, copy)
    return copy


def _flags() -> list[str]:
    """Return the options of this interpreter that say what is imported before any program."""
    flags = sys.flags
    given = {"-I": flags.isolated, "-E": flags.ignore_environment, "-s": flags.no_user_site}
    return [name for name, is_set in given.items() if is_set]


_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from greenroom.hosts.fork_server import main
main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
"""
"""Not `-m`: what the manager's program has added to its path is to be found here, too. `-P`: and
nothing that lies in the working directory by chance."""
