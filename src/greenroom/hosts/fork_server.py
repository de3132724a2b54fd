"""The process that engines' processes are forked from: engines are imported in it once.

It is started by `launcher` as a program of its own, so it has none of the manager's threads, and
it starts none: forking it is safe. It ends, and all that it forked, when the manager is gone.

While it imports, it says what, so that a module which ends it there, or starts threads, is known;
then that it is ready. A request is JSON with descriptors: what the new process is called and what
it is given. The answer has the process id, and a descriptor that becomes readable when the process
ends (pidfd_open(2)). How it ended is written to the last of the given descriptors, as `waitpid`
tells it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Sequence

from greenroom.hosts import confinement, engine_main

MOST_REQUEST = 64 * 1024
GIVEN = 5
"""Descriptors that come with a request: the four of `engine_main.serve`, and one for the end."""

STATUS = struct.Struct("<i")

_END_LIMIT_S = 0.5
"""How long it waits, at its own end, for what it has killed; the kernel ends that in 10 ms."""


class ForkServer:
    """Forks processes on request, and tells how they end."""

    def __init__(self, requests: socket.socket, lifeline: int) -> None:
        self._requests = requests
        self._ends: dict[int, int] = {}
        """By process id: where its end is told."""
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector = selectors.DefaultSelector()
        for watched in (requests, lifeline, self._woken):
            self._selector.register(watched, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answer requests until the manager is gone; then end every process."""
        try:
            while self._step({key.fd for key, _ in self._selector.select()}):
                pass
        finally:
            self._end_all()

    def _step(self, ready: set[int]) -> bool:
        """Do what there is to do; return whether the manager is there still."""
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4_096)
            self._reap()
        if ready <= {self._woken}:
            return True
        return self._requests.fileno() in ready and self._answer()

    def _answer(self) -> bool:
        """Fork what is asked for; return whether the manager is there still."""
        try:
            message, given, _, _ = socket.recv_fds(self._requests, MOST_REQUEST, GIVEN)
            if not message:
                return False
            try:
                pid, watched = self._launch(json.loads(message), given)
            except OSError as error:
                self._requests.sendall(json.dumps({"problem": error.strerror}).encode())
                return True
            finally:
                for descriptor in given:
                    os.close(descriptor)
            try:
                socket.send_fds(self._requests, [json.dumps({"pid": pid}).encode()], [watched])
            finally:
                os.close(watched)
        except OSError:
            return False
        return True

    def _launch(self, request: dict[str, object], given: Sequence[int]) -> tuple[int, int]:
        """Return the id of a new process, and a descriptor for its end."""
        if len(given) != GIVEN:
            raise OSError(0, "too many open files in the fork server")
        told = os.dup(given[-1])
        pid = 0
        try:
            pid = self._fork(request, given[:-1])
            watched = os.pidfd_open(pid)
        except OSError:
            os.close(told)
            if pid:
                os.kill(pid, signal.SIGKILL)
            raise
        self._ends[pid] = told
        return pid, watched

    def _fork(self, request: dict[str, object], given: Sequence[int]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            confinement.close_all_but(given)
            engine_main.serve(*given, **request)  # type: ignore[arg-type]
        finally:
            # Without what Python does at its end: handlers of an engine's may hang or crash.
            os._exit(1)

    def _reap(self) -> None:
        """Tell of every process that has ended, and end what it has left behind."""
        while (pid := _ended()) is not None:
            told = self._ends.pop(pid, None)
            if told is not None:
                _kill_group(pid)  # before it is reaped: its number is nobody else's until then
            _, status = os.waitpid(pid, 0)
            if told is not None:
                with contextlib.suppress(OSError):
                    os.write(told, STATUS.pack(status))
                os.close(told)
        # What engines have started in sessions of their own cannot be told apart while others run.
        if not self._ends:
            _kill_children()

    def _end_all(self) -> None:
        for pid in self._ends:
            _kill_group(pid)
        until = time.monotonic() + _END_LIMIT_S
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < until:
                # Again and again: what the killed have started is left to this process.
                _kill_children()
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    time.sleep(0.005)


def _ended() -> int | None:
    """Return the id of a child that has ended and was not reaped."""
    with contextlib.suppress(ChildProcessError):
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if found is None else found.si_pid
    return None


def _kill_group(pid: int) -> None:
    """Kill a process and what it has started."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _kill_children() -> None:
    for pid in confinement.children():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def main(descriptor: int, lifeline: int, modules: Sequence[str]) -> None:
    """Import what all processes share, and serve; does not return."""
    confinement.fill_standard_descriptors()
    confinement.leave_signals_to_the_manager()
    confinement.take_second_place()
    confinement.set_name("greenroom-fork")
    for each in (descriptor, lifeline):
        os.set_inheritable(each, False)
    requests = socket.socket(fileno=descriptor)
    try:
        for module in modules:
            _import(module, requests)
        # Modules may have changed them.
        confinement.leave_signals_to_the_manager()
        confinement.adopt_orphans()
        gc.collect()
        gc.freeze()  # so that collections in the processes do not copy what they share
        server = ForkServer(requests, lifeline)
        confinement.outlive(lifeline)
        requests.sendall(json.dumps({"ready": True}).encode())
        server.serve()
    finally:
        # Without what modules have registered for Python's end, which may hang.
        os._exit(0)


def _import(module: str, requests: socket.socket) -> None:
    requests.sendall(json.dumps({"importing": module}).encode())
    own = os.getpid()
    # One that cannot be imported fails the load that needs it, in the process forked for it.
    with contextlib.suppress(Exception):
        importlib.import_module(module)
    if os.getpid() != own:  # a copy that the module has forked: there is one fork server
        os._exit(0)
    if confinement.thread_count() > 1:
        # A fork has only the thread that forks: locks that others held are never let go in it.
        requests.sendall(json.dumps({"threads": module}).encode())
        os._exit(1)
