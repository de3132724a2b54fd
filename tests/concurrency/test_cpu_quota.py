"""How many cores control groups let a process keep busy, in made-up trees and in a real one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.concurrency import cores
from greenroom.concurrency.cpu_quota import cpu_quota
from tests.control_groups import Machine, put, real_group


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_groups_there_is_no_quota(machine: Machine) -> None:
    assert cpu_quota(machine.proc) == math.inf


def test_the_smallest_quota_on_the_way_up_counts(machine: Machine) -> None:
    point = machine.mount("cgroup2")
    machine.group("0::/pod/worker\n")
    put(point / "pod" / "worker", "cpu.max", "max 100000")
    assert cpu_quota(machine.proc) == math.inf
    put(point / "pod", "cpu.max", "150000 100000")
    assert cpu_quota(machine.proc) == 1.5
    put(point, "cpu.max", "400000 50000")
    put(point / "pod" / "other", "cpu.max", "1000 100000")
    assert cpu_quota(machine.proc) == 1.5
    put(point / "pod" / "worker", "cpu.max", "20000 50000")
    assert cpu_quota(machine.proc) == 0.4


def test_a_quota_of_version_1_is_seen_beside_a_version_2_without_one(machine: Machine) -> None:
    point = machine.mount("cgroup", options="rw,cpu,cpuacct", at="cpu")
    machine.mount("cgroup2", at="unified")
    machine.group("4:memory:/elsewhere\n2:cpu,cpuacct:/pod/x\n0::/\n")
    put(point / "pod" / "x", "cpu.cfs_quota_us", -1)
    put(point / "pod" / "x", "cpu.cfs_period_us", 100_000)
    assert cpu_quota(machine.proc) == math.inf
    put(point / "pod", "cpu.cfs_quota_us", 250_000)
    put(point / "pod", "cpu.cfs_period_us", 100_000)
    assert cpu_quota(machine.proc) == 2.5


@pytest.mark.parametrize(
    "text", ["", "max", "100000", "1 2 3", "-1 100000", "0 100000", "150000 0", "1.5 1", "\0 \0"]
)
def test_what_is_no_quota_says_nothing(machine: Machine, text: str) -> None:
    put(machine.mount("cgroup2"), "cpu.max", text)
    machine.group("0::/\n")
    assert cpu_quota(machine.proc) == math.inf


@pytest.mark.parametrize(
    ("processors", "quota", "expected"),
    [(64, math.inf, 64), (64, 1.5, 2), (64, 1.49, 1), (64, 0.1, 1), (2, 64.0, 2), (8, 7.9, 8)],
)
def test_no_more_compute_than_the_quota_keeps_busy(
    monkeypatch: pytest.MonkeyPatch, processors: int, quota: float, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    monkeypatch.setattr(cores, "quota_of_process", lambda: quota)
    assert cores.cores() == expected


READ_WHERE = """
import asyncio, os, sys, threading
from pathlib import Path

open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
os.sched_getaffinity = lambda _: set(range(64))
read_text, threads = Path.read_text, set()

def noted(path, *given, **named):
    if path.name.startswith("cpu."):
        threads.add(threading.current_thread())
    return read_text(path, *given, **named)

Path.read_text = noted

import greenroom.adapters.piper
from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.concurrency.cores import CORES

async def main():
    catalog = Catalog([ModelSpec("tone", "tone")])
    async with ModelManager(catalog=catalog, default_model_id="tone"):
        print(CORES.count, len(threads), threading.main_thread() in threads)

asyncio.run(main())
"""
"""Prints the cores that a manager computes on, in how many threads that was read, and whether the
event loop's was one."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about control groups")
def test_a_process_in_a_group_with_a_quota_computes_on_no_more_and_reads_it_off_the_loop() -> None:
    limits = {
        1: {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "350000"},
        2: {"cpu.max": "350000 100000"},
    }
    with real_group("cpu", limits) as place:
        done = subprocess.run(
            [sys.executable, "-c", READ_WHERE, str(place)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.split() == ["4", "1", "False"]
