"""Which memory limits bind a process, in made-up trees of control groups and in a real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from greenroom.memory import cgroups
from greenroom.memory.usage import limit_bytes
from tests.control_groups import Machine, put, real_group

MB = 1024 * 1024

GROUP_LIMITS = {
    1: {"memory.limit_in_bytes": str(123 * MB)},
    2: {"memory.max": str(123 * MB)},
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def limits(machine: Machine) -> list[int]:
    return sorted(cgroups.memory_limits(machine.proc))


@pytest.mark.parametrize("depth", range(4))
def test_the_limit_of_the_group_and_of_every_parent_is_seen(machine: Machine, depth: int) -> None:
    point = machine.mount("cgroup2")
    machine.group("0::/system.slice/greenroom.service/worker\n")
    place = point.joinpath(*("system.slice", "greenroom.service", "worker")[:depth])
    put(place, "memory.max", 700 * MB)
    assert limits(machine) == [700 * MB]


def test_all_limits_on_the_way_up_are_told_so_that_the_smallest_can_win(machine: Machine) -> None:
    point = machine.mount("cgroup2")
    machine.group("0::/a/b\n")
    for place, size in ((point, "max"), (point / "a", 500), (point / "a" / "b", 900)):
        put(place, "memory.max", size)
    put(point / "a" / "other", "memory.max", 1)
    assert limits(machine) == [500, 900]


def test_the_size_above_which_a_group_is_slowed_down_is_a_limit(machine: Machine) -> None:
    point = machine.mount("cgroup2")
    machine.group("0::/a\n")
    put(point / "a", "memory.max", 900)
    put(point / "a", "memory.high", 600)
    assert limits(machine) == [600, 900]


def test_limits_of_version_1_are_seen_beside_a_version_2_without_memory(machine: Machine) -> None:
    point = machine.mount("cgroup", options="rw,memory", at="memory")
    machine.mount("cgroup", options="rw,cpu,cpuacct", at="cpu")
    machine.mount("cgroup2", at="unified")
    machine.group("4:memory:/pod/x\n2:cpu,cpuacct:/elsewhere\n1:name=systemd:/\n0::/\n")
    put(point / "pod", "memory.limit_in_bytes", 300)
    put(point / "pod" / "x", "memory.limit_in_bytes", 9223372036854771712)
    assert limits(machine) == [300, 9223372036854771712]


def test_a_parent_of_version_1_that_is_not_mounted_counts_too(machine: Machine) -> None:
    point = machine.mount("cgroup", root="/docker/x", options="rw,memory")
    machine.group("4:memory:/docker/x\n")
    put(point, "memory.limit_in_bytes", 900)
    put(point, "memory.stat", "cache 17\nhierarchical_memory_limit 400\nodd line of words")
    assert limits(machine) == [400, 900]


def test_a_container_that_sees_only_its_own_group_is_limited_by_it(machine: Machine) -> None:
    point = machine.mount("cgroup2", root="/docker/x")
    machine.group("0::/docker/x/worker\n")
    put(point, "memory.max", 800)
    put(point / "worker", "memory.max", 700)
    assert limits(machine) == [700, 800]


def test_names_with_spaces_are_understood(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    machine = Machine(tmp_path / "a b")
    put(machine.mount("cgroup2") / "my group", "memory.max", 5)
    machine.group("0::/my group\n")
    assert limits(machine) == [5]


@pytest.mark.parametrize(
    "text", ["max", "", "-1", "0", "many", "1.5", "९९", "9" * 5000, "10\n20", "\x00"]
)
def test_what_is_no_limit_says_nothing(machine: Machine, text: str) -> None:
    put(machine.mount("cgroup2"), "memory.max", text)
    machine.group("0::/\n")
    assert limits(machine) == []


def test_without_groups_there_is_no_limit(machine: Machine) -> None:
    assert limits(machine) == []
    machine.group("0::/\n")
    assert limits(machine) == []


def test_a_file_that_is_a_folder_is_ignored(machine: Machine) -> None:
    (machine.mount("cgroup2") / "memory.max").mkdir()
    (machine.proc / "cgroup").mkdir()
    assert limits(machine) == []


def test_the_smallest_limit_wins_over_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    total = psutil.virtual_memory().total
    for limits, least in (([5, 7], 5), ([], total), ([total + 1], total)):
        monkeypatch.setattr(cgroups, "memory_limits", lambda found=tuple(limits): list(found))
        assert limit_bytes() == least


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about control groups")
def test_a_process_in_a_nested_group_sees_that_groups_limit() -> None:
    script = (
        "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "from greenroom.memory.usage import limit_bytes; print(limit_bytes())"
    )
    with real_group("memory", GROUP_LIMITS) as place:
        done = subprocess.run(
            [sys.executable, "-c", script, str(place)], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == str(123 * MB)
