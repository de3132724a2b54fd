"""Which memory limits bind a process, in made-up trees of control groups and in a real one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from greenroom.memory import cgroups
from greenroom.memory.cgroups import Mount, group_folders, groups_in, mounts_in
from greenroom.memory.usage import limit_bytes

MB = 1024 * 1024


class Machine:
    """A made-up `/proc/self` and a place for what it says is mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir()
        self._mounts: list[str] = []

    def group(self, text: str) -> None:
        (self.proc / "cgroup").write_text(text)

    def mount(self, kind: str, *, root: str = "/", options: str = "rw", at: str = "fs") -> Path:
        point = self.root / at
        point.mkdir(exist_ok=True)
        shown = str(point).replace(" ", r"\040")
        self._mounts.append(f"30 23 0:26 {root} {shown} rw,nosuid shared:4 - {kind} none {options}")
        (self.proc / "mountinfo").write_text("\n".join(self._mounts) + "\n")
        return point

    def limits(self) -> list[int]:
        return sorted(cgroups.memory_limits(self.proc))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def put(place: Path, name: str, text: str | int) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(f"{text}\n")


@pytest.mark.parametrize("depth", range(4))
def test_the_limit_of_the_group_and_of_every_parent_is_seen(machine: Machine, depth: int) -> None:
    point = machine.mount("cgroup2")
    machine.group("0::/system.slice/greenroom.service/worker\n")
    place = point.joinpath(*("system.slice", "greenroom.service", "worker")[:depth])
    put(place, "memory.max", 700 * MB)
    assert machine.limits() == [700 * MB]


def test_all_limits_on_the_way_up_are_told_so_that_the_smallest_can_win(machine: Machine) -> None:
    point = machine.mount("cgroup2")
    machine.group("0::/a/b\n")
    for place, size in ((point, "max"), (point / "a", 500), (point / "a" / "b", 900)):
        put(place, "memory.max", size)
    put(point / "a" / "other", "memory.max", 1)
    assert machine.limits() == [500, 900]


def test_the_size_above_which_a_group_is_slowed_down_is_a_limit(machine: Machine) -> None:
    point = machine.mount("cgroup2")
    machine.group("0::/a\n")
    put(point / "a", "memory.max", 900)
    put(point / "a", "memory.high", 600)
    assert machine.limits() == [600, 900]


def test_limits_of_version_1_are_seen_beside_a_version_2_without_memory(machine: Machine) -> None:
    point = machine.mount("cgroup", options="rw,memory", at="memory")
    machine.mount("cgroup", options="rw,cpu,cpuacct", at="cpu")
    machine.mount("cgroup2", at="unified")
    machine.group("4:memory:/pod/x\n2:cpu,cpuacct:/elsewhere\n1:name=systemd:/\n0::/\n")
    put(point / "pod", "memory.limit_in_bytes", 300)
    put(point / "pod" / "x", "memory.limit_in_bytes", 9223372036854771712)
    assert machine.limits() == [300, 9223372036854771712]


def test_a_parent_of_version_1_that_is_not_mounted_counts_too(machine: Machine) -> None:
    point = machine.mount("cgroup", root="/docker/x", options="rw,memory")
    machine.group("4:memory:/docker/x\n")
    put(point, "memory.limit_in_bytes", 900)
    put(point, "memory.stat", "cache 17\nhierarchical_memory_limit 400\nodd line of words")
    assert machine.limits() == [400, 900]


def test_a_container_that_sees_only_its_own_group_is_limited_by_it(machine: Machine) -> None:
    point = machine.mount("cgroup2", root="/docker/x")
    machine.group("0::/docker/x/worker\n")
    put(point, "memory.max", 800)
    put(point / "worker", "memory.max", 700)
    assert machine.limits() == [700, 800]


def test_names_with_spaces_are_understood(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    machine = Machine(tmp_path / "a b")
    put(machine.mount("cgroup2") / "my group", "memory.max", 5)
    machine.group("0::/my group\n")
    assert machine.limits() == [5]


POINT = Path("/fs")


@pytest.mark.parametrize(
    ("root", "group", "found"),
    [
        ("/", "/", ["/fs"]),
        ("/", "/a/b", ["/fs/a/b", "/fs/a", "/fs"]),
        ("/a", "/a/b", ["/fs/b", "/fs"]),
        ("/a", "/a", ["/fs"]),
        ("/..", "/..", ["/fs"]),
        ("/..", "/../x", ["/fs/x", "/fs"]),
        ("/..", "/", ["/fs"]),
        ("/../..", "/../x", ["/fs"]),
        ("/", "/../x", []),
        ("/../x", "/", []),
        ("/ab", "/a", ["/fs"]),
        ("/docker/x", "/", ["/fs"]),
        ("/", "//a/../b/", ["/fs/b", "/fs"]),
    ],
)
def test_a_group_is_found_by_how_it_lies_to_what_is_mounted(
    root: str, group: str, found: list[str]
) -> None:
    assert list(group_folders(Mount(2, root, POINT), group)) == list(map(Path, found))


@pytest.mark.parametrize(
    "text", ["max", "", "-1", "0", "many", "1.5", "९९", "9" * 5000, "10\n20", "\x00"]
)
def test_what_is_no_limit_says_nothing(machine: Machine, text: str) -> None:
    put(machine.mount("cgroup2"), "memory.max", text)
    machine.group("0::/\n")
    assert machine.limits() == []


def test_without_groups_there_is_no_limit(machine: Machine) -> None:
    assert machine.limits() == []
    machine.group("0::/\n")
    assert machine.limits() == []


@pytest.mark.parametrize("text", ["", "\n\n", ":", "0", "0::", "x:memory", "4:memory", "\0:\0:\0"])
def test_groups_that_cannot_be_read_are_ignored(text: str) -> None:
    assert set(groups_in(text).values()) <= {""}


@pytest.mark.parametrize("text", ["", "\n", " - ", "1 2 3 - cgroup2", "1 2 3 / /fs - ", "- - - -"])
def test_mounts_that_cannot_be_read_are_ignored(text: str) -> None:
    assert mounts_in(text) == []


def test_a_file_that_is_a_folder_is_ignored(machine: Machine) -> None:
    (machine.mount("cgroup2") / "memory.max").mkdir()
    (machine.proc / "cgroup").mkdir()
    assert machine.limits() == []


def test_the_smallest_limit_wins_over_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    total = psutil.virtual_memory().total
    for limits, least in (([5, 7], 5), ([], total), ([total + 1], total)):
        monkeypatch.setattr(cgroups, "memory_limits", lambda found=tuple(limits): list(found))
        assert limit_bytes() == least


@contextlib.contextmanager
def real_group() -> Iterator[Path]:
    """Make a group of version 1 or 2 below this process's own, and remove it in the end."""
    text = Path("/proc/self/mountinfo").read_text()
    groups = groups_in(Path("/proc/self/cgroup").read_text())
    for mount in mounts_in(text):
        own = next(group_folders(mount, groups.get(mount.version, "/..")), None)
        name = "memory.max" if mount.version == 2 else "memory.limit_in_bytes"
        made = None if own is None else own / f"greenroom-test-{os.getpid()}"
        try:
            if made is not None:
                made.mkdir()
                (made / name).write_text(str(123 * MB))
                yield made
                return
        except OSError:
            continue
        finally:
            if made is not None and made.is_dir():
                made.rmdir()
    pytest.skip("no control group can be made here")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about control groups")
def test_a_process_in_a_nested_group_sees_that_groups_limit() -> None:
    script = (
        "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "from greenroom.memory.usage import limit_bytes; print(limit_bytes())"
    )
    with real_group() as place:
        done = subprocess.run(
            [sys.executable, "-c", script, str(place)], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == str(123 * MB)
