"""What is freed goes back to the system, whichever thread's heap it was in."""

from __future__ import annotations

import subprocess
import sys

import pytest

FREE_IN_A_THREAD = """
import ctypes, threading
from greenroom import memory

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def fill(count, size):
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    return blocks

def work():
    for block in fill(1, 24 * memory.MIB) + fill(400, 64 * 1024):
        libc.free(block)
    freed.set()
    rest.wait()

if {early}:
    memory.keep_little()
freed, rest = threading.Event(), threading.Event()
before = memory.resident_bytes()
thread = threading.Thread(target=work)
thread.start()
freed.wait()
memory.trim()
print(memory.resident_bytes() - before)
rest.set()
"""


def kept(*, early: bool) -> int:
    """Return the bytes that stay with a process whose thread allocated and freed 25 MB."""
    script = FREE_IN_A_THREAD.replace("{early}", str(early))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_no_thread_keeps_the_memory_it_freed() -> None:
    assert kept(early=True) < 5 * 1024 * 1024 < kept(early=False)
