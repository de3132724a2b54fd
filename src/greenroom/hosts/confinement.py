"""What an engine's process has less than the manager's: no keys, no descriptors, no connections.

Linux only, like all of `hosts`. Nothing here needs a privilege; what the system refuses is left
out.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_NAMES = {
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV"),
    *("ESPEAK_DATA_PATH", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"),
}
_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "ORT_", "OPENVINO_"),
    *("CUDA_", "CUDNN_", "NVIDIA_", "HIP_", "ROCR_", "HF_HOME", "HF_HUB_", "TORCH_", "PIPER_"),
    "GREENROOM_CACHE",
)
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH")

_OOM_SCORE, _MOST_OOM_SCORE = 250, 1_000
"""Added to what the process that started it has of a chance to be ended by the system when memory
runs out (proc(5)), so that engines end before the fork server, and that before the manager."""

# From fcntl.h, prctl.h, seccomp.h and audit.h: Python does not name them.
_F_SETSIG = 10
_PR_SET_NAME, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 15, 22, 38
_PR_SET_CHILD_SUBREAPER = 36
_SECCOMP_MODE_FILTER = 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13  # EACCES
_AF_UNIX, _AF_NETLINK = 1, 16
_IO_URING_SETUP = 425
_X32 = 0x40000000
"""From here on, numbers are of calls with other arguments, which could ask for the same."""
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""Of a machine: its number in audit.h, and that of its system call `socket`."""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an engine may need, and none whose name speaks of a secret."""
    kept = {
        name: value
        for name, value in given.items()
        if (name in _NAMES or name.startswith(_PREFIXES))
        and not any(word in name.upper() for word in _SECRETS)
    }
    # Threads of OpenBLAS would be there before a fork, and are of no use to speech.
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


def die_with(lifeline: int, group: int) -> None:
    """Have the system kill a group of processes at once when the other end of the pipe is closed.

    Whatever they do: an engine that holds the interpreter's lock, or that was stopped, could notice
    nothing by itself. What it has started is killed with it. (fcntl(2), `F_SETSIG`.)
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -group)
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def outlive(lifeline: int) -> None:
    """Take back `die_with`: have the system only wake the process, if it was stopped."""
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGCONT)


def leave_signals_to_the_manager() -> None:
    """Go on through Ctrl-C and through a service manager's SIGTERM for all processes of a service.

    The manager gets them too, and ends this process when it has finished what it is at. Handlers
    that do nothing, and not `SIG_IGN`, which programs that an engine starts would inherit.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _do_nothing)


def _do_nothing(number: int, frame: object) -> None:
    pass


def adopt_orphans() -> None:
    """Become the parent of what this process's children leave behind (prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Return the process ids of the children of this process's first thread."""
    pid = os.getpid()
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def thread_count() -> int:
    """Return how many threads this process has, those included that Python does not know."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 1


def fill_standard_descriptors() -> None:
    """Open what is closed of standard input, output and error, and send output where errors go.

    Else what is opened next would take their numbers, and output could be mistaken for what the
    manager's program writes there.
    """
    while True:
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing > 2:
            os.close(nothing)
            break
    os.dup2(2, 1)
    # Python has none where the descriptor was closed at its start, and engines print.
    sys.stdout = sys.stdout or os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", buffering=1, closefd=False)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor of the process except `kept` and the standard ones."""
    spared = {0, 1, 2, *kept}
    try:
        there = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # where /proc is not mounted
        there = list(range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    for descriptor in there:
        if descriptor not in spared:
            with contextlib.suppress(OSError):  # the one that the list was read from
                os.close(descriptor)


def take_second_place() -> None:
    """Be the one that the system ends when memory runs out, and leave no core file behind."""
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        score.write_text(str(min(_MOST_OOM_SCORE, int(score.read_text()) + _OOM_SCORE)))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def set_name(name: str) -> None:
    """Show this name in lists of processes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15] + b"\0", 0, 0, 0)


def refuse_network() -> bool:
    """Refuse new sockets to other machines from now on; return whether the system does.

    A filter of system calls (seccomp(2)): `socket` fails with `EACCES` but for the families of this
    machine itself, and so do the other ways to ask for one, io_uring(7) and the calls of another
    architecture.
    """
    known = _MACHINES.get(platform.machine())
    if known is None:
        return False
    program = _filter(*known)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, padding, their address.
    described = struct.pack("@HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    try:
        libc = ctypes.CDLL(None)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            return False
        return not libc.prctl(
            _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(described), 0, 0
        )
    except (OSError, AttributeError):
        return False


def _filter(machine: int, socket_call: int) -> bytes:
    """Return the filter as instructions of the kernel's packet filter (seccomp(2), bpf(4))."""
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    number, architecture, first_argument = 0, 4, 16  # offsets in struct seccomp_data

    def instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("<HBBI", code, then, otherwise, value)

    return b"".join(
        [
            instruction(load, architecture),
            instruction(equal, machine, 0, 8),
            instruction(load, number),
            instruction(at_least, _X32, 6, 0),
            instruction(equal, _IO_URING_SETUP, 5, 0),
            instruction(equal, socket_call, 0, 3),
            instruction(load, first_argument),
            instruction(equal, _AF_UNIX, 1, 0),
            instruction(equal, _AF_NETLINK, 0, 1),
            instruction(end, _ALLOW),
            instruction(end, _REFUSE),
        ]
    )
