"""The process that engines' processes are forked from: engines are imported in it once.

It is started by `launcher` as a program of its own, so it has none of the manager's threads, and
it starts none: forking it is safe. It ends, and all that it forked, when the manager is gone.

A request is JSON with descriptors: what the new process is called and what it is given. The answer
has the process id, and a descriptor that becomes readable when the process ends (pidfd_open(2)).
How it ended is written to the last of the given descriptors, as `waitpid` tells it.
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
from collections.abc import Sequence

from greenroom.hosts import confinement, engine_main

MOST_REQUEST = 64 * 1024
GIVEN = 5
"""Descriptors that come with a request: the four of `engine_main.serve`, and one for the end."""

STATUS = struct.Struct("<i")


class ForkServer:
    """Forks processes on request, and tells how they end."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)
        self._ends: dict[int, int] = {}
        """By process id: where its end is told."""

    def serve(self) -> None:
        """Answer requests until the manager is gone; then end every process."""
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.data is not None:
                        self._reap(key.fd, key.data)
                    elif not self._answer():
                        return
        finally:
            for pid in self._ends:
                _kill_group(pid)

    def _answer(self) -> bool:
        """Fork what is asked for; return whether the manager is there still."""
        try:
            message, given, _, _ = socket.recv_fds(self._requests, MOST_REQUEST, GIVEN)
            if not message:
                return False
            try:
                request = json.loads(message)
                pid = self._fork(request, given[:-1])
                watched = os.pidfd_open(pid)
            except OSError as error:
                self._requests.sendall(json.dumps({"problem": error.strerror}).encode())
                for descriptor in given:
                    os.close(descriptor)
                return True
            self._ends[pid] = given[-1]
            self._selector.register(watched, selectors.EVENT_READ, pid)
            for descriptor in given[:-1]:
                os.close(descriptor)
            socket.send_fds(self._requests, [json.dumps({"pid": pid}).encode()], [watched])
        except OSError:
            return False
        return True

    def _fork(self, request: dict[str, object], given: Sequence[int]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            confinement.close_all_but(given)
            engine_main.serve(*given, **request)  # type: ignore[arg-type]
        finally:
            # Without what Python does at its end: handlers of an engine's may hang or crash.
            os._exit(1)

    def _reap(self, watched: int, pid: int) -> None:
        self._selector.unregister(watched)
        os.close(watched)
        _, status = os.waitpid(pid, 0)
        _kill_group(pid)
        told = self._ends.pop(pid)
        with contextlib.suppress(OSError):
            os.write(told, STATUS.pack(status))
        os.close(told)


def _kill_group(pid: int) -> None:
    """Kill a process and what it has started."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Import what all processes share, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confinement.take_second_place()
    confinement.set_name("greenroom-fork")
    for module in modules:
        # One that cannot be imported fails the load that needs it, in the process forked for it.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that collections in the processes do not copy what they share
    with socket.socket(fileno=descriptor) as requests:
        requests.sendall(b"{}")
        ForkServer(requests).serve()
