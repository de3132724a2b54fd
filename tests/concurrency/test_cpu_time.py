"""How long processes have computed, and how many cores that kept busy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from greenroom.concurrency.cpu_time import CpuTime, cpu_time

IDLER = "import sys; sum(range(10**6)); print(flush=True); sys.stdin.read()"


def test_this_process_and_others_are_told_apart() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", IDLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = cpu_time([child.pid])
        assert set(found.used) == {os.getpid(), child.pid}
        assert 0 < found.used[child.pid] < 60
        child.communicate()
    assert cpu_time([child.pid]).used[child.pid] == 0.0  # it has ended, which is no error


def test_computing_for_a_while_keeps_a_core_busy() -> None:
    before = cpu_time()
    sum(range(3_000_000))
    after = cpu_time()
    assert after.used[os.getpid()] > before.used[os.getpid()]
    assert after.cores_since(before) > 0


def test_cores_are_those_that_were_busy_since() -> None:
    before = CpuTime(100.0, {1: 10.0, 2: 5.0, 3: 7.0})
    after = CpuTime(102.0, {1: 12.0, 2: 5.5, 4: 1.0})  # 3 has gone, 4 has come
    assert after.cores_since(before) == pytest.approx((2.0 + 0.5 + 1.0) / 2.0)
    assert after.cores_since(after) == 0.0
    reused = CpuTime(101.0, {1: 0.5})  # the id is another's
    assert reused.cores_since(CpuTime(100.0, {1: 9.0})) == 0.0
