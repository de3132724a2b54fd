"""What is freed goes back to the system, whichever thread's heap it was in, in few trims."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from greenroom.memory import heap
from greenroom.memory.heap import CoalescedTrims

FREE_IN_A_THREAD = """
import ctypes, threading
from greenroom.memory import heap, usage

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def fill(count, size):
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    return blocks

def work():
    for block in fill(1, 24 * usage.MIB) + fill(400, 64 * 1024):
        libc.free(block)
    freed.set()
    rest.wait()

if {early}:
    heap.set_trim_threshold()
freed, rest = threading.Event(), threading.Event()
before = usage.resident_bytes()
thread = threading.Thread(target=work)
thread.start()
freed.wait()
heap.malloc_trim()
print(usage.resident_bytes() - before)
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


class Trims:
    """Stands for `malloc_trim`: each waits until it is let on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.began, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        monkeypatch.setattr(heap, "malloc_trim", self)

    def __call__(self) -> None:
        self.begun += 1
        self.began.release()
        assert self.go_on.acquire(timeout=30)


def test_all_that_ask_during_a_trim_share_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    trims, trimming = Trims(monkeypatch), CoalescedTrims()
    asked = [threading.Thread(target=trimming.trim) for _ in range(20)]
    asked[0].start()
    assert trims.began.acquire(timeout=30)
    for thread in asked[1:]:
        thread.start()
    while trimming._asked < 20:
        asked[1].join(0.001)
    assert all(thread.is_alive() for thread in asked), "nobody is served by a trim begun earlier"
    trims.go_on.release()
    asked[0].join(30)
    assert trims.began.acquire(timeout=30)
    trims.go_on.release()
    for thread in asked:
        thread.join(30)
    assert trims.begun == 2


def test_one_after_another_each_has_its_own_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    trims, trimming = Trims(monkeypatch), CoalescedTrims()
    for _ in range(3):
        trims.go_on.release()
        trimming.trim()
    assert trims.begun == 3
