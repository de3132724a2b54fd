"""Engines that do in their process what no engine should."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import os
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.audio.frames import AudioChunk
from greenroom.concurrency.cores import CORES
from greenroom.hosts import wire
from greenroom.speech.pace import mark_helpable, mark_last

RATE = 16_000
_CHUNK = 1_600


def segmentation_fault() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def hold_the_lock() -> None:
    """Sleep with the interpreter's lock, so that no other thread of the process runs."""
    ctypes.PyDLL(None).sleep(60)


_AF_SMC = 43


def connect() -> None:
    """Ask for a socket to other machines."""
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def connect_somehow() -> None:
    """Ask for one in each way; raises `ValueError` unless each is refused."""
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_PACKET, socket.AF_VSOCK, _AF_SMC)
    for family in families:
        with contextlib.suppress(PermissionError):
            socket.socket(family, socket.SOCK_STREAM).close()
            raise ValueError(f"family {family} is allowed")
    libc = ctypes.CDLL(None, use_errno=True)
    for number in (425, 0x40000000 + 41):  # io_uring_setup, and x32's `socket`
        if libc.syscall(number, socket.AF_INET, socket.SOCK_STREAM, 0) != -1:
            raise ValueError(f"system call {number} is allowed")
        if ctypes.get_errno() != errno.EACCES:
            raise ValueError(f"system call {number} is not refused but fails")
    for end in socket.socketpair():
        end.close()
    socket.socket(socket.AF_UNIX).close()


def flood() -> None:
    """Print a megabyte."""
    for _ in range(1_000):
        sys.stderr.write("x" * 1_000 + "\n")
    sys.stderr.flush()


def fork_and_stay() -> None:
    """Start a process that outlives its parent and holds all of its descriptors."""
    if not os.fork():
        time.sleep(60)
        os._exit(0)


def use_threads_and_handlers() -> None:
    """Do what belongs to a program and not to an engine."""
    os.chdir("/")
    atexit.register(time.sleep, 60)
    atexit.register(os._exit, 5)
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("said on standard output")


def fork_and_hide() -> None:
    """Start a process in a session of its own, which no signal to the group reaches."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            time.sleep(60)
        os._exit(0)


def _sockets() -> list[int]:
    found = []
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                found.append(descriptor)
    return found


def send_signals() -> None:
    """Send what a terminal and a service manager send to every process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.killpg(0, number)


def scribble() -> None:
    """Write what is no reply on every connection."""
    for descriptor in _sockets():
        with contextlib.suppress(OSError):
            os.write(descriptor, b"\0" * 64 + b"\xff" * 64)


def answer_wrongly() -> None:
    """Reply with fields of wrong types, as if that were a chunk."""
    written = b'{"given_back": 0, "processor_s": NaN, "asked": 1, "last": []}'
    for descriptor in _sockets():
        with contextlib.suppress(OSError):
            os.write(descriptor, struct.pack("<II", len(written), 0) + written)


def half_a_reply() -> None:
    """Announce 200 MB, send none, and say nothing more."""
    for descriptor in _sockets():
        with contextlib.suppress(OSError):
            os.write(descriptor, struct.pack("<II", 2, 200_000_000))
    time.sleep(60)


def borrow_all_cores() -> None:
    """Borrow every core that is idle, and give none back."""
    while CORES.borrow():
        pass


def be_helped(number: int) -> None:
    """Use one more core for a moment, for the first three chunks, and say so before they come."""
    if number < 3 and CORES.borrow():
        CORES.give_back()
    mark_helpable(number < 2)


class NotPicklableError(Exception):
    """An error with a lock in it."""

    def __init__(self) -> None:
        super().__init__("cannot be pickled")
        self.lock = threading.Lock()


def raise_not_picklable() -> None:
    """Raise it."""
    raise NotPicklableError


class LongError(Exception):
    """An error with a great deal to say, each character of which is long when escaped."""

    problem = "\U0001f600" * 2_500

    def __str__(self) -> str:
        return self.problem


def raise_long_error() -> None:
    """Raise it."""
    raise LongError


def break_the_encoder() -> None:
    """Have this process be unable to write any reply, as by a module that replaces others'."""
    wire.json.dumps = None  # type: ignore[attr-defined]


def mark_as_numpy_does() -> None:
    """Say what follows, as a comparison of numpy's numbers says it."""
    no, yes = np.arange(2) > 0
    mark_last(no)
    mark_helpable(yes)


KEPT: list[Any] = []


def leak() -> None:
    """Keep 200 MB."""
    KEPT.append(np.ones(25_000_000))


DEEDS: dict[str, Callable[[], object]] = {
    "segmentation fault": segmentation_fault,
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "leave": lambda: sys.exit(4),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hold the lock": hold_the_lock,
    "pause": lambda: time.sleep(1.0),
    "hang": lambda: time.sleep(60),
    "close descriptors": lambda: os.closerange(3, 256),
    "connect": connect,
    "connect somehow": connect_somehow,
    "flood": flood,
    "fork": fork_and_stay,
    "fork and go on": os.fork,
    "fork and hide": fork_and_hide,
    "scribble": scribble,
    "answer wrongly": answer_wrongly,
    "half a reply": half_a_reply,
    "borrow": borrow_all_cores,
    "send signals": send_signals,
    "program": use_threads_and_handlers,
    "leak": leak,
    "leak a little": lambda: KEPT.append(np.ones(2_500_000)),
    "not picklable": raise_not_picklable,
    "long error": raise_long_error,
    "break the encoder": break_the_encoder,
    "mark as numpy does": mark_as_numpy_does,
}


_ONCE = threading.Lock()


class HostileAdapter(TTSAdapter):
    """Speaks ten chunks of a tone for each sentence, and does a deed where it is told.

    Options: `at` (`load`, `warm_up`, `speak` or `unload`) and `deed`; `deed` of a sentence is done
    before its second chunk. With `once`, a path, a deed is done only when that file is there, which
    is removed then.
    """

    concurrency: ClassVar[int | None] = None
    offline: ClassVar[bool] = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.sample_rate = RATE
        self.speaks_last = True

    @property
    def looks_ahead(self) -> bool:
        """Whether there is to be another sentence."""
        return not self.speaks_last

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Take them all."""

    def _do(self, place: str) -> None:
        if self.spec.options.get("at") != place:
            return
        if "once" not in self.spec.options:
            DEEDS[self.spec.options["deed"]]()
            return
        # Who comes meanwhile waits for the end of the process, and has said nothing until then.
        with _ONCE, contextlib.suppress(FileNotFoundError):
            os.unlink(self.spec.options["once"])
            DEEDS[self.spec.options["deed"]]()

    def load(self) -> None:
        self._do("load")
        self.weights = np.ones(int(self.spec.options.get("megabytes", 0)) * 131_072)

    def shared_memory(self) -> tuple[str, int] | None:
        return self.spec.options.get("shared")

    def warm_up(self, text: str) -> Iterator[AudioChunk]:
        self._do("warm_up")
        yield _tone()

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        for number in range(10):
            if number == 1 and text in DEEDS:
                DEEDS[text]()
            if text.startswith("helped"):
                self.speaks_last = text == "helped"
                be_helped(number)
            if text == "another rate":
                self.sample_rate = 2 * RATE
                yield AudioChunk(np.zeros(_CHUNK, np.float32), self.sample_rate)
            elif text == "integers":
                yield AudioChunk(np.zeros(_CHUNK, np.int16), RATE)
            elif text == "100 MB":
                yield AudioChunk(np.full(25_000_000, 0.1, np.float32), RATE)
            elif text.startswith("first"):  # before anything was heard
                self._do("speak")
                yield _tone()
            else:
                yield _tone()

    def unload(self) -> None:
        self._do("unload")


def _tone() -> AudioChunk:
    return AudioChunk(np.sin(np.arange(_CHUNK, dtype=np.float32) / 5) * np.float32(0.5), RATE)
